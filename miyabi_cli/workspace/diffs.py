"""Reads unified diffs, git's and others': which lines of which files come and go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from miyabi_cli.errors import UsageError

DiffStatus = Literal["created", "modified", "deleted", "renamed"]
LineKind = Literal["+", "-", " "]

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_NOWHERE = "/dev/null"


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line without its end; `old` and `new` are its numbers, from 1, in the files in which it stands."""

    kind: LineKind
    text: str
    old: int | None
    new: int | None


@dataclass(frozen=True, slots=True)
class DiffHunk:
    """Lines that stand together; `section` is what git shows of the function around them."""

    old_start: int
    new_start: int
    section: str
    lines: tuple[DiffLine, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file. `path` is its name after the change, or before it where it is deleted; `binary`: it has no hunks.
    `mode` is git's after the change, or before it where the file is deleted; "" where the diff does not tell it.
    """

    path: str
    old_path: str
    status: DiffStatus
    hunks: tuple[DiffHunk, ...] = ()
    binary: bool = False
    mode: str = ""

    @property
    def added(self) -> Iterator[DiffLine]:
        """The lines that come."""
        return (line for hunk in self.hunks for line in hunk.lines if line.kind == "+")

    @property
    def removed(self) -> Iterator[DiffLine]:
        """The lines that go."""
        return (line for hunk in self.hunks for line in hunk.lines if line.kind == "-")


def parse_diff(data: bytes) -> tuple[FileDiff, ...]:
    """Read a diff as `git diff`, `git show`, `git format-patch` and `diff -u` write it (git-diff(1), "Generating patch
    text with -p"); what stands around the files is passed over.

    Bytes that are not UTF-8 become lone surrogates (PEP 383). Raises UsageError for a hunk that is cut or malformed.
    """
    return tuple(_Reader(data.decode("utf-8", "surrogateescape").split("\n")).files())


class _Reader:
    """Goes through the lines of a diff once."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._at = 0

    def files(self) -> Iterator[FileDiff]:
        while (line := self._peek()) is not None:
            if line.startswith("diff --git "):
                yield self._git_file()
            elif self._is_plain_header():
                yield self._plain_file()
            else:
                self._at += 1

    def _peek(self) -> str | None:
        return self._lines[self._at] if self._at < len(self._lines) else None

    def _is_plain_header(self) -> bool:
        following = self._lines[self._at : self._at + 3]
        return (
            len(following) == 3
            and following[0].startswith("--- ")
            and following[1].startswith("+++ ")
            and following[2].startswith("@@ ")
        )

    def _git_file(self) -> FileDiff:
        header = self._lines[self._at].removeprefix("diff --git ").removesuffix("\r")
        self._at += 1
        old, new = _names(header)
        status: DiffStatus = "modified"
        binary = False
        mode = ""
        while (line := self._peek()) is not None and not line.startswith(("diff --git ", "@@ ")):
            line = line.removesuffix("\r")
            if line.startswith("--- "):
                if not self._is_plain_header():
                    break
                old_name, new_name = self._plain_names()
                old, new = old_name or old, new_name or new
                continue
            match line.split(" ", 2):
                case ["new" | "deleted" as what, "file", told]:
                    status = "created" if what == "new" else "deleted"
                    mode = told.removeprefix("mode ")
                case ["new", "mode", mode] | ["index", _, mode]:
                    pass
                case ["rename" | "copy" as what, "from", name]:
                    old, status = _unquoted(name), "renamed" if what == "rename" else "created"
                case ["rename" | "copy", "to", name]:
                    new = _unquoted(name)
                case ["Binary", "files", *_] | ["GIT", "binary", *_]:
                    binary = True
            self._at += 1
        return FileDiff(old if status == "deleted" else new, old, status, tuple(self._hunks()), binary, mode)

    def _plain_file(self) -> FileDiff:
        old, new = self._plain_names()
        status: DiffStatus = "created" if not old else "deleted" if not new else "modified"
        return FileDiff(new or old, old or new, status, tuple(self._hunks()))

    def _plain_names(self) -> tuple[str, str]:
        """Return the names of the two header lines, "" for one that is not there, and go on behind them."""
        old, new = (_header_name(line[4:]) for line in self._lines[self._at : self._at + 2])
        self._at += 2
        return old, new

    def _hunks(self) -> Iterator[DiffHunk]:
        while (line := self._peek()) is not None and line.startswith("@@ "):
            match = _HUNK.fullmatch(line.removesuffix("\r"))
            if match is None:
                raise self._malformed("a hunk's header is not one")
            self._at += 1
            old, new = int(match[1]), int(match[3])
            counts = (int(match[2] or 1), int(match[4] or 1))
            yield DiffHunk(old, new, match[5], tuple(self._body(old, new, *counts)))

    def _body(self, old: int, new: int, old_left: int, new_left: int) -> Iterator[DiffLine]:
        while old_left or new_left:
            line = self._peek()
            if line is None or (line == "" and self._at == len(self._lines) - 1):
                raise self._malformed("a hunk is cut")
            self._at += 1
            kind, text = line[:1] or " ", line[1:]  # mail programs take the space of an empty line away
            if kind == "\\":
                continue
            if kind in " \r" and old_left and new_left:
                yield DiffLine(" ", text if kind == " " else line, old, new)
            elif kind == "-" and old_left:
                yield DiffLine("-", text, old, None)
            elif kind == "+" and new_left:
                yield DiffLine("+", text, None, new)
            else:
                raise self._malformed("a hunk holds another line than its header says")
            if kind != "+":
                old, old_left = old + 1, old_left - 1
            if kind != "-":
                new, new_left = new + 1, new_left - 1
        if (line := self._peek()) is not None and line.startswith("\\"):
            self._at += 1

    def _malformed(self, why: str) -> UsageError:
        return UsageError(f"not a unified diff: {why}, line {self._at + 1}", hint="git diff writes one")


def _names(header: str) -> tuple[str, str]:
    """Return the two names of `a/NAME b/NAME`. Without quotes they are the same, or lines below tell them."""
    if header.startswith('"'):
        end = next((match.end() for match in re.finditer(r'(?:[^"\\]|\\.)*"', header[1:])), len(header)) + 1
        return _stripped(_unquoted(header[:end])), _stripped(_unquoted(header[end:].strip()))
    if header.endswith('"'):
        old, _, new = header.partition(' "')
        return _stripped(old), _stripped(_unquoted(f'"{new}'))
    half = len(header) // 2
    return _stripped(header[:half]), _stripped(header[half + 1 :])


def _header_name(text: str) -> str:
    """Return the name of a `---` or `+++` line; `diff -u` has a tab and the time behind it."""
    text = text.removesuffix("\r")
    name = _unquoted(text.split("\t", 1)[0])  # git puts a tab behind a name with a space too
    return "" if name == _NOWHERE else _stripped(name)


def _stripped(name: str) -> str:
    return name[2:] if re.match(r"[abciow12]/", name) else name


def _unquoted(text: str) -> str:
    """Undo git's quoting of a path ("core.quotePath" in git-config(1))."""
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text
    raw = bytearray()
    at = 0
    for match in _ESCAPED.finditer(text, 1, len(text) - 1):
        raw += text[at or 1 : match.start()].encode("utf-8", "surrogateescape")
        escape = match[1]
        if escape.isdigit():
            raw.append(int(escape, 8) & 0xFF)
        else:
            raw += _LETTERS.get(escape, escape).encode("utf-8", "surrogateescape")
        at = match.end()
    raw += text[at or 1 : len(text) - 1].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")
