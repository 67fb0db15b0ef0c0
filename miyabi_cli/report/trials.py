"""The progress of `miyabi bench codegen` on stderr: a line for each trial that begins or ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miyabi_cli.codegen.attempts import KEPT
from miyabi_cli.events import AttemptEnded, Event, ProgressMade, ToolEnded, WarningRaised
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.streams import Streams

REMEMBERED = 100
SHOWN = 200  # letters of a message


class TrialProgress:
    """Says what is done, and how much is left; a warning that many runs have is said once."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._console = streams.console(streams.talk) if not streams.quiet else None
        self._warned: set[str] = set()
        self.total = 0

    def say(self, what: str) -> None:
        """Say something that is about no trial."""
        self._line(what, "dim")

    def started(self, task: str) -> None:
        """Say that a trial begins."""
        self._line(f"{task}: begins", "bold")

    def show(self, task: str, event: Event) -> None:
        """Show what a person should know of an event of a run, or of none ("")."""
        lead = f"{task}: " if task else ""
        if isinstance(event, WarningRaised) and event.kind != KEPT:
            text = f"warning: {event.path + ': ' if event.path else ''}{event.message}"
            if text not in self._warned and len(self._warned) < REMEMBERED:
                self._warned.add(text)
                self._line(lead + text, "yellow")
        elif isinstance(event, ProgressMade) and not task:
            self._line(event.what, "dim")
        elif self._streams.verbose and isinstance(event, ToolEnded):
            failed = " failed" if event.failed else ""
            self._line(f"{lead}attempt {event.attempt}: {event.name} ({event.seconds:.1f} s){failed}", "dim")
        elif self._streams.verbose and isinstance(event, AttemptEnded):
            self._line(f"{lead}attempt {event.attempt}: {event.status} ({event.seconds:.1f} s)", "dim")

    def ended(self, row: Mapping[str, Any], count: int) -> None:
        """Say what became of a trial; `count` have ended by now."""
        outcome = "passed" if row["passed"] else row.get("failure") or "not passed"
        told = f": {plain_text(row['message'])[:SHOWN]}" if row.get("message") else ""
        number = f" trial {row['trial']}" if row["trial"] > 1 else ""
        style = "green" if row["passed"] else "yellow" if row["passed"] is None else "red"
        self._line(f"{row['id']}{number}: {outcome}{told} ({count} of {self.total}, {row['seconds']:.1f} s)", style)

    def _line(self, text: str, style: str | None = None) -> None:
        if self._console is not None:
            self._console.print(plain_text(text), style=style, soft_wrap=True)
