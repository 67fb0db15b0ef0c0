"""The progress and the results of many tasks, each line with the id of the task that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miyabi_cli.events import AttemptEnded, Event, ToolEnded, WarningRaised
from miyabi_cli.report.display import counted, plain_text
from miyabi_cli.report.streams import Streams
from miyabi_cli.report.text import STYLES

WARNINGS_REMEMBERED = 100
SHOWN = 200  # letters of a summary


class TaskProgress:
    """Says on stderr which tasks begin and end, and how many are left; a warning that many have is said once."""

    def __init__(self, streams: Streams, total: int) -> None:
        self._streams = streams
        self._console = streams.console(streams.talk) if not streams.quiet else None
        self._total = total
        self._ended = 0
        self._warned: set[str] = set()

    def skipped(self, count: int, short: int) -> None:
        """Say how many tasks have their results, and how many of those fell short."""
        self._ended += count
        how = f", {short} of which did not succeed" if short else ""
        self._line(f"{counted(count, 'task')} of {self._total} done before: skipped{how}", "dim")

    def started(self, name: str, run_id: str, *, goes_on: bool) -> None:
        """Say that a task begins."""
        self._line(f"task {name}: {'goes on with' if goes_on else 'starts'} run {run_id}", "bold")

    def show(self, event: Event, name: str = "") -> None:
        """Show what a person should know of an event, of one task or of none."""
        lead = f"task {name}: " if name else ""
        if isinstance(event, WarningRaised):
            text = f"warning: {event.path + ': ' if event.path else ''}{event.message}"
            if text not in self._warned and len(self._warned) < WARNINGS_REMEMBERED:
                self._warned.add(text)
                self._line(lead + text, "yellow")
        elif self._streams.verbose and isinstance(event, ToolEnded):
            failed = " failed" if event.failed else ""
            self._line(f"{lead}attempt {event.attempt}: {event.name} ({event.seconds:.1f} s){failed}", "dim")
        elif self._streams.verbose and isinstance(event, AttemptEnded):
            self._line(f"{lead}attempt {event.attempt}: {event.status} ({event.seconds:.1f} s)", "dim")

    def ended(self, line: Mapping[str, Any]) -> None:
        """Say what became of a task."""
        self._ended += 1
        told = line["error"]["message"] if line["error"] else line["summary"]
        count = f"({self._ended} of {self._total}, {line['seconds']:.1f} s)"
        self._line(f"task {line['id']}: {line['status']}: {_shortened(told)} {count}", STYLES.get(line["status"]))

    def _line(self, text: str, style: str | None = None) -> None:
        if self._console is not None:
            self._console.print(plain_text(text), style=style, soft_wrap=True)


def task_line(line: Mapping[str, Any]) -> str:
    """Return a task's result for a person, on one line."""
    told = line["error"]["message"] if line["error"] else line["summary"]
    parts = (line["id"], line["status"], line["branch"] or "", _shortened(told))
    return "  ".join(plain_text(part) for part in parts if part)


def _shortened(text: str) -> str:
    line = plain_text(text)
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
