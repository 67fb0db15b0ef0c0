"""`miyabi bench`: which provider, which effort, which agent, at what cost."""

from __future__ import annotations

import typer

from miyabi_cli.commands import bench_codegen, bench_compare, bench_review, bench_serve, bench_triage

app = typer.Typer(help="Measure a server under load, and agents on suites of tasks; compare two measurements.")
app.command("serve", epilog=bench_serve.EPILOG)(bench_serve.serve)
app.command("codegen", epilog=bench_codegen.EPILOG)(bench_codegen.codegen)
app.command("review", epilog=bench_review.EPILOG)(bench_review.review)
app.command("triage", epilog=bench_triage.EPILOG)(bench_triage.triage)
app.command("compare", epilog=bench_compare.EPILOG)(bench_compare.compare)
