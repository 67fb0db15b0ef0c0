"""The file of `triage --output FILE.jsonl`: rows that are there are gone on with, and the next are appended."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TextIO

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.locks import try_lock


def open_rows(path: Path) -> tuple[TextIO, Counter[int]]:
    """Return the file, to append to, and how many rows of each number are in it.

    A torn last line, as a kill leaves it, is dropped. Raises UsageError for a file that holds something else, and
    MachineError for one that can't be written or that another process writes.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), "rb+", buffering=0)
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None
    with file:
        if not file.seekable():
            return path.open("a", encoding="utf-8"), Counter()
        if not try_lock(file.fileno()):
            raise MachineError(f"another process writes {path}", hint="wait until it has ended")
        numbers: Counter[int] = Counter()
        whole = 0
        with path.open("rb") as lines:
            for place, line in enumerate(lines, 1):
                number = _number(line)
                if number is None and line.startswith(b"{") and not line.endswith(b"\n"):
                    file.truncate(whole)
                    break
                if number is None:
                    raise UsageError(f"{path} is no file of rows: line {place}", hint="--output names a new file")
                numbers[number] += 1
                whole += len(line)
        held = os.dup(file.fileno())  # the lock goes with the last descriptor of it
    return os.fdopen(held, "a", encoding="utf-8"), numbers


def _number(line: bytes) -> int | None:
    """Return the number of the issue that a row is about; None where it is no row."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    number = data.get("number") if isinstance(data, dict) and "type" in data else None
    return number if isinstance(number, int) else None
