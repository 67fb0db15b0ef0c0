"""Questions to a person, asked on a terminal alone."""

from __future__ import annotations

import contextlib
import os
import select
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
    with _signals_end_it() as signalled:
        while True:
            typer.echo("Do you trust this content? [y/N]: ", err=True, nl=False)
            answer = _line(signalled).strip().lower()
            if answer in (b"y", b"yes"):
                return True
            if answer in (b"n", b"no", b""):
                return False
            typer.echo("Error: invalid input", err=True)


def _line(signalled: int) -> bytes:
    """Return a line from stdin, which is a terminal; raise typer.Abort at its end.

    `input` can wait on after a signal that comes just before its call of read: `signalled`, which each signal makes
    readable, can't be missed.
    """
    stdin = sys.stdin.fileno()
    while stdin not in select.select([stdin, signalled], [], [])[0]:
        os.read(signalled, 512)  # a signal that ends nothing
    line = os.read(stdin, 4096)
    if not line:
        raise typer.Abort
    return line


@contextlib.contextmanager
def _signals_end_it() -> Iterator[int]:
    """Let a signal end a question at once: the event loop, which handles them, waits for the answer itself.

    The value is a descriptor that is readable once a signal has come.
    """
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    read, write = os.pipe()
    os.set_blocking(write, False)
    # This order, and its reverse: a handler of the event loop's hears of a signal by the loop's descriptor alone.
    previous = {number: signal.signal(number, _interrupt) for number in caught}
    wakeup = signal.set_wakeup_fd(write)
    try:
        yield read
    except Interrupted:
        typer.echo(err=True)
        raise
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _interrupt(number: int, _: object) -> NoReturn:
    raise Interrupted(number)
