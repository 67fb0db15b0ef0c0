"""The bytes that all commands of one run may write to the disk together: one account, shared by its sandboxed commands.

It costs two reads of free space for each command. Only when that shrank by more than is allowed are the run's folders
walked, and the files counted that changed since a command first ran there: what was checked out before is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from miyabi_cli.workspace.watch import written_bytes

RUN_DISK_BYTES = 16 << 30
_GRACE = 1 << 30  # once it is exceeded, so that what is there can still be staged and judged


class DiskQuota:
    """Held for one run. Its methods may be called from several threads."""

    def __init__(self, limit_bytes: int = RUN_DISK_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._allowed = limit_bytes
        self._lock = threading.Lock()
        self._folders: dict[Path, float] = {}  # and when a command first ran there, in seconds since 1970
        self._taken = 0  # bytes that free space shrank by while commands ran, since the last count
        self._exceeded = False

    def reached(self) -> str | None:
        """Say which limit is reached, or None."""
        return f"the disk limit of {self.limit_bytes} bytes" if self._exceeded else None

    def enter(self, folders: Sequence[Path]) -> None:
        """Begin a command that can write these folders."""
        with self._lock:
            for folder in folders:
                self._folders.setdefault(folder, time.time())

    def suspects(self, taken: int) -> bool:
        """Say whether the run may have written too much, where a running command has taken so many bytes."""
        return self._taken + taken > self._allowed

    def leave(self, taken: int) -> None:
        """End a command while which free space shrank by so many bytes."""
        with self._lock:
            self._taken += max(0, taken)

    def verdict(self, taken: int, family: Sequence[int] = ()) -> str | None:
        """Count; return what was too much, or None. Slow.

        `taken`: as for `suspects`, of a command whose processes are the `family`. Where some of the run's files can't
        be counted it stands for them.
        """
        with self._lock:
            folders = {folder: since for folder, since in self._folders.items() if folder.exists()}
        counted = written_bytes(folders, family)
        with self._lock:
            if counted is not None:
                self._taken = counted
            written = self._taken + taken if counted is None else counted
            if written <= self._allowed:
                return None
            self._exceeded = True
            self._allowed = written + _GRACE
        return f"the run has written more than {self.limit_bytes} bytes to disk (limits.disk_bytes)"
