"""Questions to a person, asked on a terminal alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer

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
    return typer.confirm("Do you trust this content?", default=False, err=True)
