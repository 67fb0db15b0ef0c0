"""A patch for the eye: its files and their lines, as many as a page can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from miyabi_cli.errors import UsageError
from miyabi_cli.report.html.excerpts import Excerpt, excerpt
from miyabi_cli.workspace.diffs import DiffLine, FileDiff, parse_diff

MOST_FILES = 500
MOST_LINES = 10_000  # of all files together
LONGEST_LINE = 2_000  # characters
OPEN_LINES = 400  # a file with more of them is folded
UNREAD = 200_000  # characters that are shown of a patch that can't be taken apart

RowKind = Literal["added", "removed", "same", "hunk"]
KINDS: Mapping[str, RowKind] = {"+": "added", "-": "removed", " ": "same"}
KINDS_OF_MODELS: Mapping[str, RowKind] = {"+": "added", "-": "removed", "@": "hunk", "*": "hunk"}


@dataclass(frozen=True, slots=True)
class Row:
    """`old` and `new` are the line's numbers in the file before and after; None where it is not there."""

    kind: RowKind
    text: str
    old: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """`omitted`: lines that are not shown."""

    path: str
    old_path: str
    status: str
    added: int
    removed: int
    rows: tuple[Row, ...]
    binary: bool = False
    omitted: int = 0

    @property
    def is_long(self) -> bool:
        return len(self.rows) > OPEN_LINES


@dataclass(frozen=True, slots=True)
class Changes:
    """The files of a patch, but for `omitted` of them; or all of it as text, where no file could be read from it."""

    files: tuple[ChangedFile, ...] = ()
    omitted: int = 0
    unread: Excerpt | None = None


def read_changes(patch: str) -> Changes:
    """Return what a patch changes. A patch in which a secret was replaced may be none any more: it is shown as text."""
    try:
        parsed = parse_diff(patch.encode("utf-8", "surrogatepass"))
    except UsageError:
        return Changes(unread=excerpt(patch, UNREAD))
    left = MOST_LINES
    files = []
    for file in parsed[:MOST_FILES]:
        files.append(_changed_file(file, left))
        left -= len(files[-1].rows)
    return Changes(tuple(files), max(0, len(parsed) - MOST_FILES))


def patch_rows(text: str) -> Iterator[Row]:
    """Yield the lines of a patch as a model writes it, which has no numbers."""
    for line in text.split("\n"):
        yield Row(KINDS_OF_MODELS.get(line[:1], "same"), line)


def _changed_file(file: FileDiff, most: int) -> ChangedFile:
    rows = list(_rows(file))
    return ChangedFile(
        path=file.path,
        old_path=file.old_path,
        status=file.status,
        added=sum(1 for _ in file.added),
        removed=sum(1 for _ in file.removed),
        rows=tuple(rows[:most]),
        binary=file.binary,
        omitted=max(0, len(rows) - most),
    )


def _rows(file: FileDiff) -> Iterator[Row]:
    for hunk in file.hunks:
        yield Row("hunk", f"from line {hunk.new_start or hunk.old_start}  {_cut(hunk.section)}".rstrip())
        yield from map(_row, hunk.lines)


def _row(line: DiffLine) -> Row:
    return Row(KINDS[line.kind], _cut(line.text), line.old, line.new)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} … {len(text) - LONGEST_LINE} characters more"
