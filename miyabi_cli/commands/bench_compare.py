"""`miyabi bench compare`: what is better, what is worse, and what may be chance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from miyabi_cli.commands import bench_output, flags
from miyabi_cli.errors import UsageError
from miyabi_cli.exits import ExitCode

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi bench compare before.json after.json
  miyabi bench compare main.json branch.json --fail-on-regression 10 --format markdown
"""


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The document before.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The document after.")],
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            "--fail-on-regression",
            min=0.0,
            metavar="PCT",
            help="Percent that a figure may be worse by; default 5, and more only if that is not chance.",
        ),
    ] = None,
    format: Annotated[
        Literal["text", "json", "markdown"], typer.Option("--format", "-f", help="Of the output.")
    ] = "text",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write to a file: Markdown if that is the format, else JSON.", metavar="FILE"
        ),
    ] = None,
    html: bench_output.Html = None,
    color: flags.Color = "auto",
) -> int:
    """Compare two documents of `miyabi bench` of one kind: what is better, what is worse, and what may be chance.

    Levels of load are matched by their concurrency or rate, tasks by their ids. A regression is a figure that is worse
    by more than --fail-on-regression, and significantly so at 95 %; where a document holds too little to tell, the
    percentage alone decides, if it is given. Exit codes: 0 no regression, 1 a regression, 2 usage, 4 the machine.
    """
    from miyabi_cli.bench.comparing import compare as compare_documents
    from miyabi_cli.bench.document import read_document
    from miyabi_cli.report.comparing import comparison_data, comparison_markdown, regressed, write_comparison
    from miyabi_cli.report.streams import open_streams

    if fail_on_regression is not None and not math.isfinite(fail_on_regression):
        raise UsageError(f"--fail-on-regression is no percentage: {fail_on_regression}")
    outlets = bench_output.open_outlets(output, html, format, color, inputs=(first, second))
    documents = [(str(path), read_document(path)) for path in (first, second)]
    comparison = compare_documents(documents[0][1], documents[1][1])
    streams = open_streams(None, color=color, quiet=False, verbose=False)
    if format == "markdown":
        text = comparison_markdown(comparison, fail_on_regression)
        if output is None:
            streams.output.write(text)
        outlets.write_text(text)
    else:
        outlets.write_data(comparison_data(comparison, documents, fail_on_regression))
    outlets.write_page(documents, comparison, fail_on_regression)
    if format == "text":
        write_comparison(comparison, fail_on_regression, streams)
    return ExitCode.NOT_GOOD_ENOUGH if regressed(comparison, fail_on_regression) else ExitCode.OK
