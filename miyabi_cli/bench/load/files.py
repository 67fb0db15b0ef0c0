"""Files that a user names for a load: read line by line, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from miyabi_cli.errors import MachineError, UsageError

MAX_FILE_BYTES = 1 << 30
MAX_LINE_BYTES = 16 << 20


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a file that hold something. Raises UsageError for one without end, MachineError."""
    size = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                size += len(line)
                if size > MAX_FILE_BYTES or len(line) == MAX_LINE_BYTES:
                    raise UsageError(f"{path} is too large, or has a line that is", hint="take a part of it")
                if text := line.decode("utf-8-sig" if size == len(line) else "utf-8", "replace").strip():
                    yield text
    except OSError as error:
        raise MachineError(f"can't read {path}: {error.strerror}") from None
