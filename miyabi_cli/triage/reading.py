"""Reads a file of issues, one at a time: a JSON array or objects one after another (JSON Lines), or CSV."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.triage.issue import TriageIssue, Unreadable, issue_from
from miyabi_cli.triage.tables import entries_of_table

BLOCK = 1 << 16  # characters that are read at a time
LARGEST = 4 << 20  # characters of one issue
LARGEST_FILE = 2 << 30  # bytes
WESTERN = "windows-1252"
HINT = 'an issue is such as {"number": 1, "title": "It crashes", "body": "…", "labels": []}'


def _western(error: UnicodeError) -> tuple[str, int]:
    """Read bytes that are no text as Windows-1252, a handler of codecs."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(WESTERN, _western)


def copy_of(source: str, stdin: IO[bytes] | None = None) -> IO[bytes]:
    """Return a copy of a file, or of `stdin` for `-`, that can be read twice and that nobody changes; close it.

    It is on the disk once it is large. Raises MachineError, and UsageError for one that is too large.
    """
    copy = tempfile.SpooledTemporaryFile(1 << 20)  # noqa: SIM115 (closed by the caller)
    try:
        _fill(copy, source, stdin)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _fill(copy: IO[bytes], source: str, stdin: IO[bytes] | None) -> None:
    try:
        with contextlib.nullcontext(stdin) if source == "-" and stdin else Path(source).open("rb") as file:
            while block := file.read(BLOCK):
                copy.write(block)
                if copy.tell() > LARGEST_FILE:
                    raise UsageError(f"{source} is larger than {LARGEST_FILE:,} bytes", hint="give it in parts")
    except OSError as error:
        told = f"can't read {source}: {error.strerror}"
        raise MachineError(told, hint="issues as JSON, JSON Lines or CSV") from None


def read_issues(file: IO[bytes]) -> Iterator[TriageIssue | Unreadable]:
    """Yield the issues of a file from its beginning on, one in memory at a time.

    An entry that is no issue is yielded as that, and those behind it are read as far as they can be told apart. Bytes
    that are no UTF-8 are read as Windows-1252, which spreadsheets write. Raises UsageError for an empty file, and for
    CSV without a column `title`.
    """
    file.seek(0)
    is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as PowerShell writes
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-16" if is_wide else "utf-8-sig", errors=WESTERN, newline="")
    try:
        start = text.read(BLOCK)
        while start and not start.strip():
            start = text.read(BLOCK)
        if not start:
            raise UsageError("there is no issue in the file", hint=HINT)
        entries = _json_entries(start.lstrip(), text) if _is_json(start.lstrip()) else entries_of_table(start, text)
        for position, (place, entry) in enumerate(entries, 1):
            yield entry if isinstance(entry, Unreadable) else issue_from(entry, place, position)
    finally:
        with contextlib.suppress(ValueError):  # closed: whoever read was interrupted
            text.detach()


def _is_json(start: str) -> bool:
    """Say whether a file's beginning is JSON, the first line of which may be no issue; else it is a table."""
    first_line = start.partition("\n")[0].lower()
    return start[0] in "[{" or ("title" not in first_line and re.search(r"^[ \t]{0,20}\{", start, re.M) is not None)


def _json_entries(start: str, text: IO[str]) -> Iterator[tuple[str, Any]]:
    source = _Source(start, text)
    is_listed, is_array = start.startswith("["), False
    number = 0
    while source.ready("," if is_array else ""):
        if is_listed and source.skip("]" if is_array else "["):  # one array may follow another: `gh api --paginate`
            is_array = not is_array
            continue
        number += 1
        place = f"issue {number}"
        try:
            yield place, source.value()
        except ValueError as error:
            lost = ", and what follows it in the array is not read" if is_array else ""
            yield place, Unreadable(place, f"not JSON: {error!s:.80}{lost}")
            if is_array or not source.next_line():
                return
    if is_array:
        yield f"issue {number + 1}", Unreadable(f"issue {number + 1}", "the array does not end")


class _Source:
    """Text of which the beginning is in memory, and more is read as it is needed."""

    def __init__(self, start: str, rest: IO[str]) -> None:
        self._text, self._rest, self._at = start, rest, 0
        self._decoder = json.JSONDecoder()

    def ready(self, between: str) -> bool:
        """Skip white space, and one mark that may stand between two values; say whether there is anything left."""
        self._spaces()
        if between and self.skip(between):
            self._spaces()
        return self._at < len(self._text)

    def skip(self, mark: str) -> bool:
        """Go past a mark if it is next."""
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def value(self) -> Any:
        """Return the next JSON value. Raises ValueError where there is none, or it is too large."""
        while True:
            line_end = self._text.find("\n", self._at)
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                # What breaks far before the end of what is here does not become whole by more of it.
                is_torn = error.pos >= len(self._text) - 16 or error.msg.startswith("Unterminated")
                if not is_torn and line_end >= 0:
                    raise ValueError(error.msg) from None
                if len(self._text) - self._at > LARGEST:
                    raise ValueError("it is too large, or does not end") from None
                if not self._more(max(BLOCK, len(self._text) - self._at)):
                    raise ValueError(error.msg) from None
                continue
            self._at = end
            return value

    def next_line(self) -> bool:
        """Go on behind the end of the line; say whether there is one."""
        while (end := self._text.find("\n", self._at)) < 0:
            self._at = len(self._text)
            if not self._more(BLOCK):
                return False
        self._at = end + 1
        return True

    def _spaces(self) -> None:
        while True:
            left = len(self._text)
            while self._at < left and self._text[self._at].isspace():
                self._at += 1
            if self._at < left or not self._more(BLOCK):
                return

    def _more(self, size: int) -> bool:
        block = self._rest.read(size)
        if block:
            self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
