"""The command line: the commands put together, and the only place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from miyabi_cli import __version__
from miyabi_cli.commands.asynchronous import Interrupted
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.unforeseen import explain
from miyabi_cli.errors import MiyabiError
from miyabi_cli.events import timestamp
from miyabi_cli.exits import ExitCode, exit_code_of
from miyabi_cli.redaction import redactor_of, secrets_in_environment

# A command is the function of its name in the module of its name in `commands`, or that module's `app` with several.
COMMANDS = (
    "codegen",
    "bench",
    "doctor",
    "init",
    "review",
    "model",
    "runs",
    "worktrees",
    "triage",
    "trust",
    "usage",
)


def command_line(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command line: of one command where the arguments begin with its name, for the others cost time."""
    app = typer.Typer(
        name="miyabi",
        help=(
            "Run coding agents, built for gpt-oss models, against git repositories.\n\n"
            "A task becomes a patch that is made in an isolated worktree and verified by the repository's own checks."
        ),
        epilog="Exit codes: 0 verified, 1 not good enough, 2 usage, 3 provider, 4 repository or machine, 5 a limit.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in [arguments[0]] if arguments and arguments[0] in COMMANDS else COMMANDS:
        module = importlib.import_module(f"miyabi_cli.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=getattr(module, "EPILOG", None))(getattr(module, name))
    return app


def _options(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"miyabi {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code. Every error ends here, as one `error:` and one `hint:` line."""
    if not arguments:
        arguments = ["--help"]
    begun = Begun(_format(arguments), redactor=redactor_of(secrets_in_environment(os.environ)))
    try:
        app = command_line(arguments)
        code = app(list(arguments), standalone_mode=False, prog_name="miyabi", obj=begun)
        _flush()
        return int(code or 0)
    except MiyabiError as error:
        return _report(error.kind, error.message, error.hint, exit_code_of(error), begun)
    except typer.exceptions.TyperException as error:
        message = " ".join(error.format_message().replace("Value error, ", "").split())
        return _report("usage", message, _usage_hint(error), ExitCode.USAGE, begun)
    except Interrupted as error:
        return _report("interrupted", "interrupted", None, ExitCode(128 + error.number), begun)
    except (KeyboardInterrupt, typer.Abort):
        return _report("interrupted", "interrupted", None, ExitCode.INTERRUPTED, begun)
    except BrokenPipeError:
        _silence()
        return ExitCode.NOT_GOOD_ENOUGH
    except Exception as error:
        found = explain(error, begun)
        return _report(found.kind, found.message, found.hint, found.code, begun)


def _silence() -> None:
    """Let nothing more be written to streams that take nothing: Python would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _flush() -> None:
    """Write what is buffered now, while a broken pipe can still be told from success."""
    sys.stdout.flush()
    sys.stderr.flush()


def _report(kind: str, message: str, hint: str | None, code: ExitCode, begun: Begun) -> int:
    from miyabi_cli.report.display import plain_text

    redact, hint = begun.redactor.redact, begun.hint(hint)
    message, hint = plain_text(redact(message)), plain_text(redact(hint)) if hint else None
    told = f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    with contextlib.suppress(OSError):
        sys.stderr.write(told)
    if begun.format in ("json", "jsonl"):
        error = {"kind": kind, "message": message, "hint": hint, "exit_code": int(code)}
        line = {"type": "error", "time": timestamp(), "run_id": begun.run_id} if begun.format == "jsonl" else {}
        told = json.dumps({**line, "error": error}) + "\n"
        with contextlib.suppress(OSError):
            print(told, end="", flush=True)
    with contextlib.suppress(OSError):
        begun.write_error(told)
    _silence()
    return int(code)


def _format(arguments: Sequence[str]) -> str:
    """Return the output format that was asked for, also where the rest of the command line is wrong."""
    form = ""
    for position, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument in ("--format", "-f") and position + 1 < len(arguments):
            form = arguments[position + 1]
        elif argument.startswith("--format="):
            form = argument.removeprefix("--format=")
        elif argument.startswith("-f") and not argument.startswith("--"):
            form = argument.removeprefix("-f")
    return form


def _usage_hint(error: typer.exceptions.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'miyabi'} --help shows what there is"
