"""`miyabi runs`: what past runs did."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from miyabi_cli.commands import flags

if TYPE_CHECKING:
    from miyabi_cli.runs import Run

app = typer.Typer(help="Past runs: each leaves its events, its patch and its result.")

RunName = Annotated[str, typer.Argument(help="A run's id, a part of it that only it has, or `last`.")]


@app.command("list")
def list_(
    format: flags.Format = "text",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
) -> None:
    """List past runs, the newest first."""
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.runs import list_runs

    runs = list_runs()[:limit]
    if format == "json":
        rows = [
            {"run_id": run.run_id, "status": run.status, "task": run.task, "repository": run.repository} for run in runs
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for run in runs:
        typer.echo(f"{run.run_id}  {run.status:<17}  {plain_text(run.task)[:80]}")
    if not runs:
        typer.echo("no runs yet", err=True)


@app.command()
def show(
    run: RunName = "last",
    format: flags.Format = "text",
    events: Annotated[
        bool, typer.Option("--events", help="Show the conversation too: replies, tools, checks.")
    ] = False,
    color: flags.Color = "auto",
) -> None:
    """Show a run: its result, its patch and, with --events, all that happened."""
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.report.text import write_result
    from miyabi_cli.report.transcript import write_transcript
    from miyabi_cli.runs import PATCH, find_run, read_log

    found = find_run(run)
    streams = open_streams(None, color=color, quiet=False, verbose=True)
    if format == "json":
        data = {"run_id": found.run_id, "status": found.status, "task": found.task, "directory": str(found.directory)}
        if events:
            data["events"] = list(read_log(found.directory))  # type: ignore[assignment]
        typer.echo(json.dumps({**data, "error": found.error, "result": found.result}, indent=2))
        return
    redactor = redactor_of(secrets_in_environment(os.environ))  # a log may be older than a secret, or than redaction
    if events or found.result is None:
        write_transcript(map(redactor.redact_data, read_log(found.directory)), streams)
    if found.result is not None:
        write_result(redactor.redact_data(found.result), streams, streams.output)
    else:
        ended = f"error: {plain_text(redactor.redact(found.error))}" if found.error else found.status
        typer.echo(f"{ended}: {found.directory}")
        if (patch := found.directory / PATCH).exists():
            typer.echo(f"the patch so far: {patch}")


@app.command()
def replay(run: RunName = "last", verbose: flags.Verbose = False, color: flags.Color = "auto") -> None:
    """Play a run again without a model: the recorded replies, with the tools and the checks run anew.

    Nothing is committed: the patch goes to stdout. The repository must still have the run's base commit.
    """
    from miyabi_cli.commands.codegen import play_again
    from miyabi_cli.runs import find_run

    play_again(find_run(run), verbose=verbose, color=color)


@app.command()
def clean(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest stay.")] = 20,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete old runs' directories."""
    from miyabi_cli.runs import list_runs, remove_run

    old: list[Run] = list_runs()[keep:]
    for run in old:
        if not dry_run:
            remove_run(run)
        typer.echo(run.run_id)
    typer.echo(f"{len(old)} runs {'would be deleted' if dry_run else 'deleted'}", err=True)
