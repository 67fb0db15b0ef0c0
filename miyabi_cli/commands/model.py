"""`miyabi model`: the models of the embedded engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from miyabi_cli.commands import flags

app = typer.Typer(help="Models for the embedded engine: fetch and list them, stop the engine.")

Show = Callable[[int, int, str], None]

PERCENT_STEP = 10


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A name from `miyabi model list`.")] = "qwen2.5-coder-1.5b",
    quiet: flags.Quiet = False,
) -> None:
    """Fetch a model, go on with a download that was interrupted, and verify its hash; print where it lies."""
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.llm.models import known_model

    typer.echo(run_async(_pull(known_model(name).name, quiet=quiet)))


@app.command("list")
def list_(
    format: flags.Format = "text",
) -> None:
    """List the models that miyabi knows: size, licence, and where those that were pulled lie."""
    from miyabi_cli.llm.models import KNOWN_MODELS, model_path

    paths = {model.name: model_path(model) for model in KNOWN_MODELS}
    if format == "json":
        rows = [
            {
                "name": model.name,
                "present": paths[model.name].is_file(),
                "path": str(paths[model.name]),
                "size_bytes": model.size,
                "memory_bytes": model.memory_bytes,
                "licence": model.licence,
                "sha256": model.sha256,
            }
            for model in KNOWN_MODELS
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for model in KNOWN_MODELS:
        path = paths[model.name]
        where = str(path) if path.is_file() else "not pulled"
        typer.echo(f"{model.name:<20}{model.size / 1e9:>6.1f} GB  {model.licence:<12}{where}")


@app.command()
def stop() -> None:
    """Stop the embedded engines that run, also those in use."""
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.llm.engines import stop_engines

    stopped = run_async(stop_engines())
    typer.echo(f"{stopped} {'engine' if stopped == 1 else 'engines'} stopped")


async def _pull(name: str, *, quiet: bool) -> Path:
    import os

    from miyabi_cli.llm.models import known_model
    from miyabi_cli.llm.pull import open_pull_client
    from miyabi_cli.llm.pull import pull as pull_model

    def warn(text: str) -> None:
        typer.echo(f"warning: {text}", err=True)

    with _progress(name, quiet=quiet) as show:
        async with open_pull_client(os.environ) as client:
            return await pull_model(known_model(name), client=client, progress=show, warn=warn)


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Show]:
    """Show a download on stderr: a bar on a terminal, else a line every ten percent."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar(name) as show:
            yield show
    else:
        yield progress_lines(name, lambda line: typer.echo(line, err=True))


@contextmanager
def _bar(name: str) -> Iterator[Show]:
    from rich import progress as columns
    from rich.console import Console

    bar = columns.Progress(
        columns.TextColumn("{task.description}"),
        columns.BarColumn(),
        columns.DownloadColumn(),
        columns.TransferSpeedColumn(),
        columns.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int, source: str) -> None:
            bar.update(task, description=f"{name} ({source})", completed=done, total=total)

        yield show


def progress_lines(name: str, write: Callable[[str], None]) -> Show:
    """Return a progress that writes a line whenever a further ten percent are there, or the source is another."""
    last: tuple[int, str] = (-1, "")

    def show(done: int, total: int, source: str) -> None:
        nonlocal last
        step = (done * 100 // total // PERCENT_STEP * PERCENT_STEP, source)
        if step[1] != last[1] or step[0] > last[0]:
            last = step
            write(f"{name}: {step[0]} % of {total / 1e6:.0f} MB ({source})")

    return show
