"""The journal of a benchmark: a row a line beside the report, so that a run which is killed goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.locks import try_lock
from miyabi_cli.messages import Usage

VERSION = 1
USAGE = {field.name for field in dataclasses.fields(Usage)}
BEGINNING = b'{"journal":'


class Journal:
    """Appends rows, each on the disk before `write` returns; until the block's end no other process may write them.

    The first line says by `settings`, a digest, what was asked for. A torn last line, as a kill leaves it, is dropped.
    Raises UsageError for a file that holds something else, or the rows of other settings; MachineError for one that
    can't be written or that another process writes.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise MachineError(f"can't write {path}: {error.strerror}") from None
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if not try_lock(descriptor):
                raise MachineError(f"another process writes {path}", hint="wait until it has ended")
            self._take_up(settings)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._append(row)

    def _take_up(self, settings: str) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            torn = lines.pop()
            if not lines and not BEGINNING.startswith(torn[: len(BEGINNING)]):
                raise self._not_journal()
            self._file.truncate(sum(map(len, lines)))
        if not lines:
            self._append({"journal": VERSION, "settings": settings})
            return
        head, *rows = [self._object(line) for line in lines]
        if head.get("journal") != VERSION or not all(_is_row(row) for row in rows):
            raise self._not_journal()
        if head.get("settings") != settings:
            message = f"{self.path} has the results of a benchmark that was asked otherwise"
            raise UsageError(message, hint="go on with the same flags, name another --output, or remove that file")
        self.rows = rows

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            raise self._not_journal() from None
        if not isinstance(data, dict):
            raise self._not_journal()
        return data

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise MachineError(f"can't write {self.path}: {error.strerror}") from None

    def _not_journal(self) -> UsageError:
        return UsageError(f"{self.path} is no journal of a benchmark", hint="--output names a new file")


def _is_row(row: Mapping[str, Any]) -> bool:
    kinds: Mapping[str, Any] = {"id": str, "digest": str, "trial": int, "status": str, "seconds": (int, float)}
    usage = row.get("usage")
    is_counted = isinstance(usage, dict) and usage.keys() == USAGE and all(map(_is_number, usage.values()))
    is_told = row.get("passed") in (True, False, None) and isinstance(row.get("failure", 0), str | None)
    figures = (row.get(name) for name in ("review_score", "tool_calls", "valid_tool_calls", "steps", "lint_clean"))
    is_whole = all(isinstance(row.get(name), kind) for name, kind in kinds.items())
    return is_counted and is_told and is_whole and all(map(_is_number, figures))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)
