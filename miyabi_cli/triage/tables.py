"""Reads issues from CSV, whatever stands between its cells; a broken row takes none of those behind it along."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, Any

from miyabi_cli.errors import UsageError
from miyabi_cli.triage.issue import Unreadable

COLUMNS = ("number", "title", "body", "labels")
DELIMITERS = ",;\t|"
LARGEST = 4 << 20  # characters of one line
LARGEST_CELL = 1 << 20
MOST_AGAIN = 8 * LARGEST  # characters that are read a second time, behind quotes that do not end


def entries_of_table(start: str, rest: IO[str]) -> Iterator[tuple[str, Mapping[str, Any] | Unreadable]]:
    """Yield the rows of a table by the names of its columns, each with its place; `start` has been read already.

    Raises UsageError where no column is named title.
    """
    csv.field_size_limit(LARGEST_CELL)
    lines = _Lines(start, rest)
    names, delimiter = _header(lines)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            cells = next(rows, None)
        except csv.Error as error:
            place = f"line {lines.first}"
            yield place, Unreadable(place, f"not CSV: {_told(error)}")
            if not lines.go_back():
                yield place, Unreadable(place, "what follows it is not read: too many rows are broken")
                return
            continue
        if cells is None:
            return
        if any(map(str.strip, cells)):  # a spreadsheet writes rows without anything in them
            place = f"line {lines.first}"
            is_shifted = any(cell.strip() for cell in cells[len(names) :])
            problem = Unreadable(place, f"it has more cells than the header, which has {len(names)}")
            yield place, problem if is_shifted else dict(zip(names, cells, strict=False))


def _header(lines: _Lines) -> tuple[list[str], str]:
    """Return the columns' names in small letters, and the delimiter with which one of them is title."""
    for delimiter in DELIMITERS:
        try:
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            cells = next((row for row in rows if row), [])
        except csv.Error:
            cells = []
        names = [cell.strip().lower() for cell in cells]
        if "title" in names:
            return names, delimiter
        lines.go_back(whole=True)
    hint = f"JSON, JSON Lines, or CSV with the columns {', '.join(COLUMNS)}"
    raise UsageError("the file is no list of issues: neither JSON, nor CSV with a column title", hint=hint)


def _told(error: csv.Error) -> str:
    return "a quotation mark is not closed" if "end of data" in str(error) else str(error)


class _Lines:
    """Lines with their ends, of which those of the row that is read can be had a second time."""

    def __init__(self, start: str, rest: IO[str]) -> None:
        # the first block may end in the middle of a line
        self._ahead = deque(io.StringIO(start + rest.readline(LARGEST), newline=""))
        self._rest = rest
        self._taken: list[str] = []
        self._again = 0
        self.first = 1  # number of the row's first line

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._rest.readline(LARGEST)
        if not line:
            raise StopIteration
        self._taken.append(line)
        return line

    def begin_row(self) -> None:
        """Note that the next line is a row's first."""
        self.first += len(self._taken)
        self._taken.clear()

    def go_back(self, *, whole: bool = False) -> bool:
        """Give back the lines of the row that is read, all but its first unless `whole`; say whether that was allowed.

        Not without end: each row of a file may open a quote that no other closes.
        """
        again = self._taken if whole else self._taken[1:]
        self._again += sum(map(len, again))
        if self._again > MOST_AGAIN:
            return False
        self._ahead.extendleft(reversed(again))
        del self._taken[len(self._taken) - len(again) :]
        return True
