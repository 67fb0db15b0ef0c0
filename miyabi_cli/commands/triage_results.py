"""The file of `triage --output FILE.jsonl`: rows that are there are gone on with, and the next are appended."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TextIO

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.locks import try_lock

LONGEST_ROW = 1 << 20  # bytes


@dataclass(slots=True)
class Written:
    """The rows that an earlier process has written: how many of each number, and the labels of the last of each."""

    counts: Counter[int] = field(default_factory=Counter)
    labels: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def take(self, number: int) -> bool:
        """Say whether there is one more row of a number, which then is taken."""
        is_there = self.counts[number] > 0
        self.counts[number] -= is_there
        return is_there


def open_rows(path: Path) -> tuple[TextIO, Written]:
    """Return the file, to append to, and the rows that are in it.

    A torn last line, as a kill leaves it, is dropped. Raises UsageError for a file that holds something else, and
    MachineError for one that can't be written or that another process writes.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), "rb+", buffering=0)
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device may be read without end
            return path.open("a", encoding="utf-8"), Written()
        if not try_lock(file.fileno()):
            raise MachineError(f"another process writes {path}", hint="wait until it has ended")
        written = _read(path, file)
        held = os.dup(file.fileno())  # the lock goes with the last descriptor of it
    return os.fdopen(held, "a", encoding="utf-8"), written


def _read(path: Path, file: FileIO) -> Written:
    written = Written()
    whole = 0
    with path.open("rb") as lines:
        for place, line in enumerate(iter(lambda: lines.readline(LONGEST_ROW), b""), 1):
            row = _row(line)
            if row is None and line.startswith(b"{") and not line.endswith(b"\n"):
                file.truncate(whole)
                break
            if row is None:
                raise UsageError(f"{path} is no file of rows: line {place}", hint="--output names a new file")
            number, labels = row
            written.counts[number] += 1
            written.labels[number] = labels
            whole += len(line)
    return written


def _row(line: bytes) -> tuple[int, tuple[str, ...]] | None:
    """Return the number of the issue that a row is about, and its labels; None where it is no row."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or "type" not in data or not isinstance(data.get("number"), int):
        return None
    labels = data.get("labels")
    names = labels if isinstance(labels, list) else []
    return data["number"], tuple(sys.intern(name) for name in names if isinstance(name, str))
