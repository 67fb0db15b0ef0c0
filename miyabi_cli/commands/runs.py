"""`miyabi runs`: what past runs did."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miyabi_cli.commands import completion, flags
from miyabi_cli.errors import MachineError, UsageError

if TYPE_CHECKING:
    from miyabi_cli.report.streams import Streams
    from miyabi_cli.runs import Run

app = typer.Typer(help="Past runs of codegen: each leaves its events, its patch and its result.")

RunName = Annotated[
    str,
    typer.Argument(
        help="A run's id, a part of it that only it has, or `last`.", autocompletion=completion.complete_run
    ),
]


@app.command("list")
def list_(
    format: flags.Format = "text",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
) -> None:
    """List past runs of `miyabi codegen`, the newest first."""
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.runs import list_runs

    runs = list_runs(limit)
    if format == "json":
        rows = [
            {"run_id": run.run_id, "status": run.status, "task": run.task, "repository": run.repository} for run in runs
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for run in runs:
        typer.echo(f"{run.run_id}  {plain_text(run.status):<17}  {plain_text(run.task)[:80]}")
    if not runs:
        typer.echo("no runs yet", err=True)


@app.command()
def show(
    run: RunName = "last",
    format: flags.Format = "text",
    events: Annotated[
        bool, typer.Option("--events", help="Show the conversation too: replies, tools, checks.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Write all of it as one page for a browser and print its path; -: the page to stdout.",
            metavar="FILE|-",
        ),
    ] = None,
    color: flags.Color = "auto",
) -> None:
    """Show a run: its result, its patch and, with --events, all that happened."""
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.runs import find_run, read_log

    if str(html) == "-" and format == "json":
        raise UsageError("--html - and --format json both want stdout", hint="--html FILE writes the page to a file")
    found = find_run(run)
    streams = open_streams(None, color=color, quiet=False, verbose=True)
    if html is not None:
        _write_page(found, html, streams, as_json=format == "json")
        if format == "text":
            return
    if format == "json":
        data = {"run_id": found.run_id, "status": found.status, "task": found.task, "directory": str(found.directory)}
        if events:
            data["events"] = list(read_log(found.directory))  # type: ignore[assignment]
        ends = {"from": found.came_from, "error": found.error, "result": found.result}
        typer.echo(json.dumps(_without_secrets({**data, **ends}), indent=2))
        return
    _write_text(found, streams, events=events)


def _without_secrets(data: dict[str, Any]) -> dict[str, Any]:
    """Return a run as data without known secrets, but for the patch of its result, which has to fit."""
    from miyabi_cli.redaction import redactor_of, secrets_in_environment

    result = data["result"]
    patch = {"patch": result["patch"]} if result and "patch" in result else {}
    told = redactor_of(secrets_in_environment(os.environ)).redact_data(data)
    return {**told, "result": result and {**told["result"], **patch}}


def _write_text(found: Run, streams: Streams, *, events: bool) -> None:
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.report.text import write_result
    from miyabi_cli.report.transcript import write_transcript
    from miyabi_cli.runs import PATCH, read_log

    redactor = redactor_of(secrets_in_environment(os.environ))  # a log may be older than a secret, or than redaction
    if events or found.result is None:
        write_transcript(map(redactor.redact_data, read_log(found.directory)), streams)
    if found.result is not None:
        with _result_of(found):
            write_result(redactor.redact_data(found.result), streams, streams.output)
    else:
        ended = f"{found.status}: {plain_text(redactor.redact(found.error))}" if found.error else found.status
        typer.echo(f"{ended}: {found.directory}")
        if (patch := found.directory / PATCH).exists():
            typer.echo(f"the patch so far: {patch}")
    if found.unpublished or (found.can_go_on and found.result is None):  # a limit's result says it itself
        typer.echo(f"miyabi codegen --resume {found.run_id} goes on with it")
    if found.came_from:
        typer.echo(f"  it went on from run {plain_text(found.came_from)}")


@contextlib.contextmanager
def _result_of(run: Run) -> Iterator[None]:
    """Raise MachineError where the block finds that a run's result is none: damaged, or another program's."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if run.result is None:
            raise
        message = f"the result of run {run.run_id} is damaged: {type(error).__name__}: {error!s:.80}"
        raise MachineError(message, hint=f"it is in {run.directory}") from None


def _write_page(run: Run, path: Path, streams: Streams, *, as_json: bool) -> None:
    """Write a run's page to a file, and say its path; or the page itself, for `-`. Raises MachineError."""
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.report.html.page import RunPage, render
    from miyabi_cli.runs import read_log, read_patch

    redact = redactor_of(secrets_in_environment(os.environ)).redact_data
    with _result_of(run):
        patch = run.result["patch"] if run.result else read_patch(run.directory).decode("utf-8", "replace")
        page = RunPage(run.run_id, run.status, run.task, run.repository, run.error, run.result, patch)
        content = render(redact(page), map(redact, read_log(run.directory)))
    if str(path) == "-":
        streams.write_bytes(content)
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}", hint="--html names a file") from None
    typer.echo(path, file=streams.talk if as_json else streams.output)


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
    """Delete old runs' directories, but none of a run that is at work."""
    from miyabi_cli.report.display import counted
    from miyabi_cli.runs import list_runs, remove_run

    old: list[Run] = [run for run in list_runs()[keep:] if run.status != "running"]
    for run in old:
        if not dry_run:
            remove_run(run)
        typer.echo(run.run_id)
    typer.echo(f"{counted(len(old), 'run')} {'would be deleted' if dry_run else 'deleted'}", err=True)
