"""Questions to a person, asked on a terminal alone."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer

from miyabi_cli.commands.asynchronous import SIGNALS, Interrupted
from miyabi_cli.report.display import plain_text


def ask_for_trust() -> Callable[[Path, tuple[str, ...]], bool] | None:
    """Return the question whether a repository's settings are trusted; None where nobody is there to answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return _ask


def _ask(path: Path, harms: tuple[str, ...]) -> bool:
    typer.echo(f"{plain_text(str(path))} sets:", err=True)
    for harm in harms:
        typer.echo(f"  {plain_text(harm)}", err=True)
    with _signals_end_it():
        return typer.confirm("Do you trust this content?", default=False, err=True)


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """Let a signal end a question at once: the event loop, which handles them, waits for the answer itself."""
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, _interrupt) for number in caught}
    try:
        yield
    except Interrupted:
        typer.echo(err=True)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: object) -> NoReturn:
    raise Interrupted(number)
