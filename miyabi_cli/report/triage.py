"""The outputs of `triage` by name: each takes one row at a time, so that any number of them fits in memory."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from miyabi_cli.report.display import plain_text
from miyabi_cli.report.streams import Streams
from miyabi_cli.triage.row import Row

SHOWN = 120  # letters of a summary
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class RowOutput(Protocol):
    """`row` takes the object of one row; `close` ends the output."""

    def row(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class TextRows:
    """A line for people: number, type, severity, priority, how sure, labels and summary; and what is escalated."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._console = streams.console(streams.output)

    def row(self, row: Mapping[str, Any]) -> None:
        head = f"#{row['number']}  {row['type']}  {row['severity']}  {row['priority']}  {row['confidence']:.2f}"
        self._console.print(f"{head}  {plain_text(row['summary'])[:SHOWN]}", style="bold", soft_wrap=True)
        details = [f"labels: {', '.join(row['labels']) or 'none'}", f"owner: {row['owner']}"]
        details += [f"{row['estimate_minutes']} min", row["source"]]
        self._line("; ".join(details))
        if row["duplicates"]:
            self._line(
                "duplicate of: " + ", ".join(f"#{one['number']} ({one['score']:.2f})" for one in row["duplicates"])
            )
        if row["missing"]:
            self._line(f"missing: {', '.join(row['missing'])}")
        if escalation := escalation_of(row):
            self._line(escalation, "red")

    def close(self) -> None:
        self._streams.output.flush()

    def _line(self, text: str, style: str | None = None) -> None:
        self._console.print(f"  {plain_text(text)}", style=style, soft_wrap=True)


class JsonlRows:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def row(self, row: Mapping[str, Any]) -> None:
        print(json.dumps(row, separators=(",", ":")), file=self._streams.output, flush=True)

    def close(self) -> None:
        """End nothing: each line is whole."""


class JsonRows:
    """One JSON array."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._lead = "["

    def row(self, row: Mapping[str, Any]) -> None:
        print(f"{self._lead}\n{json.dumps(row, indent=2)}", end="", file=self._streams.output)
        self._lead = ","

    def close(self) -> None:
        print("[]" if self._lead == "[" else "\n]", file=self._streams.output, flush=True)


class CsvRows:
    """A header and a line a row: what is a list has its parts behind semicolons, what is more is JSON."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._writer = csv.writer(streams.output, lineterminator="\n")
        self._is_begun = False

    def row(self, row: Mapping[str, Any]) -> None:
        self._begin()
        self._writer.writerow(_cell(value) for value in row.values())
        self._streams.output.flush()

    def close(self) -> None:
        self._begin()
        self._streams.output.flush()

    def _begin(self) -> None:
        if not self._is_begun:
            self._writer.writerow(one.name for one in dataclasses.fields(Row))
            self._is_begun = True


def _cell(value: Any) -> Any:
    """Return what stands in a cell; a text that a spreadsheet would run as a formula has an apostrophe before it."""
    if isinstance(value, list | tuple) and not any(isinstance(one, dict) for one in value):
        value = "; ".join(map(str, value))
    elif isinstance(value, dict | list | tuple):
        value = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, str):
        text = plain_text(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return "" if value is None else value


OUTPUTS: dict[str, Callable[[Streams], RowOutput]] = {
    "text": TextRows,
    "json": JsonRows,
    "jsonl": JsonlRows,
    "csv": CsvRows,
}


def escalation_of(row: Mapping[str, Any]) -> str:
    """Return the line that says for whom an issue is at once, "" where it can wait."""
    if row["severity"] != "Sev.1" and row["owner"] != "CISO":
        return ""
    return f"escalated: #{row['number']} is for the {row['owner']} at once ({row['severity']}, {row['priority']})"
