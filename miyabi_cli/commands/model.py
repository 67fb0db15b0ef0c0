"""`miyabi model`: the models of the embedded engine, and of an Ollama server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from miyabi_cli.commands import completion, flags
from miyabi_cli.errors import UsageError

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Ollama

app = typer.Typer(help="Models for the embedded engine or an Ollama server: fetch and list them, stop the engine.")

Show = Callable[[int, int, str], None]
Holder = Annotated[
    Literal["embedded", "ollama"],
    typer.Option("--provider", "-p", help="Whose models: the embedded engine's, Ollama's."),
]
OllamaEndpoint = Annotated[
    str | None, typer.Option("--endpoint", help="The Ollama server's address; needs --provider ollama.")
]

PERCENT_STEP = 10
DEFAULT_MODEL = "qwen2.5-coder-1.5b"


@app.command()
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            help=f"A name from `miyabi model list` (default: {DEFAULT_MODEL}), or one that Ollama knows.",
            autocompletion=completion.complete_embedded_model,
        ),
    ] = None,
    provider: Holder = "embedded",
    endpoint: OllamaEndpoint = None,
    config: flags.Config = None,
    quiet: flags.Quiet = False,
) -> None:
    """Fetch a model, go on with a download that was interrupted, and verify its hash; print where it lies.

    An Ollama server fetches for itself; the model's name is printed.
    """
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.llm.local.models import known_model
    from miyabi_cli.report.display import plain_text

    if provider == "ollama":
        server = _ollama(endpoint, config)
        pulled = run_async(_pull_by_ollama(server, name or server.model, quiet=quiet))
        typer.echo(plain_text(pulled))  # a repository's settings may have named it
        return
    _refuse_endpoint(endpoint)
    typer.echo(run_async(_pull(known_model(name or DEFAULT_MODEL).name, quiet=quiet)))


@app.command("list")
def list_(
    provider: Holder = "embedded",
    endpoint: OllamaEndpoint = None,
    config: flags.Config = None,
    format: flags.Format = "text",
) -> None:
    """List the models that miyabi knows, with their licences and where they lie, or those on an Ollama server."""
    if provider == "ollama":
        _list_of_ollama(_ollama(endpoint, config), format)
        return
    _refuse_endpoint(endpoint)
    _list_embedded(format)


def _list_embedded(format: str) -> None:
    from miyabi_cli.llm.local.models import KNOWN_MODELS, model_path

    paths = {model.name: model_path(model) for model in KNOWN_MODELS}
    if format == "json":
        rows = [
            {
                "provider": "embedded",
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


def _list_of_ollama(server: Ollama, format: str) -> None:
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.llm.native.models import list_models
    from miyabi_cli.report.display import safe_text

    models = run_async(list_models(server.endpoint, key=_key(server)))
    if format == "json":
        rows = [
            {
                "provider": "ollama",
                "name": model.name,
                "present": not model.remote,
                "size_bytes": model.size,
                "parameters": model.parameters,
                "quantization": model.quantization,
                "context_length": model.context_length,
                "digest": model.digest,
            }
            for model in models
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for model in models:
        size = "elsewhere" if model.remote or model.size is None else f"{model.size / 1e9:.1f} GB"
        window = f"{model.context_length:,} tokens" if model.context_length else ""
        line = f"{model.name:<28}{size:>10}  {model.parameters:<8}{model.quantization:<10}{window}"
        typer.echo(safe_text(line).replace("\n", " ").rstrip())
    if not models:
        typer.echo("no models yet: miyabi model pull -p ollama", err=True)


def _ollama(endpoint: str | None, config: Path | None) -> Ollama:
    """Return the server that is asked: of the user's own settings and environment, for no repository matters here."""
    import os

    from miyabi_cli.settings.sources import load_settings

    chosen = flags.nested({"llm.ollama.endpoint": endpoint})
    return load_settings(flags=chosen, environ=os.environ, repository=None, config=config).llm.ollama


def _key(server: Ollama) -> str | None:
    return server.api_key.get_secret_value() if server.api_key else None


def _refuse_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        raise UsageError("--endpoint means nothing to the embedded engine", hint="say --provider ollama too")


@app.command()
def stop() -> None:
    """Stop the embedded engines that run, also those in use."""
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.llm.local.engines import stop_engines

    stopped = run_async(stop_engines())
    typer.echo(f"{stopped} {'engine' if stopped == 1 else 'engines'} stopped")


async def _pull(name: str, *, quiet: bool) -> Path:
    import os

    from miyabi_cli.llm.local.models import known_model
    from miyabi_cli.llm.local.pull import open_pull_client
    from miyabi_cli.llm.local.pull import pull as pull_model
    from miyabi_cli.report.display import plain_text

    def warn(text: str) -> None:
        typer.echo(plain_text(f"warning: {text}"), err=True)

    with _progress(name, quiet=quiet) as show:
        async with open_pull_client(os.environ) as client:
            return await pull_model(known_model(name), client=client, progress=show, warn=warn)


async def _pull_by_ollama(server: Ollama, name: str, *, quiet: bool) -> str:
    from miyabi_cli.llm.native.models import pull_model
    from miyabi_cli.report.display import plain_text

    with _progress(plain_text(name), quiet=quiet) as show:
        await pull_model(server.endpoint, name, lambda *at: show(at[0], at[1], plain_text(at[2])), key=_key(server))
    return name


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
        columns.TextColumn("{task.description}", markup=False),
        columns.BarColumn(),
        columns.DownloadColumn(),
        columns.TransferSpeedColumn(),
        columns.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int, source: str) -> None:
            bar.update(task, description=f"{name} ({source})", completed=done, total=total or None)

        yield show


def progress_lines(name: str, write: Callable[[str], None]) -> Show:
    """Return a progress that writes a line whenever a further ten percent are there, or the source is another.

    A total of 0 is not known yet.
    """
    last: tuple[int, str] = (-1, "")

    def show(done: int, total: int, source: str) -> None:
        nonlocal last
        step = (done * 100 // total // PERCENT_STEP * PERCENT_STEP if total else 0, source)
        if step[1] != last[1] or step[0] > last[0]:
            last = step
            write(f"{name}: {step[0]} % of {total / 1e6:.0f} MB ({source})" if total else f"{name}: {source}")

    return show
