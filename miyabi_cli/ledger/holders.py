"""Who holds a reservation: a lock for each process, which the kernel lets go when it ends, however it ends.

A process's number says nothing: another one has it a while later, or has it now in another container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.locks import HeldLock, is_taken, take_lock


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that is there, by the name of its lock's file."""

    name: str
    path: Path
    lock: HeldLock

    def release(self) -> None:
        """End it. All that it has reserved is settled by then, or counts as lost."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.lock.release()


def hold(folder: Path) -> Holder:
    """Return a new holder. Raises OSError, MachineError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(folder)
    while True:
        name = secrets.token_hex(8)
        path = folder / name
        if lock := take_lock(path):  # None: another one's sweep was quicker than the lock
            return Holder(name, path, lock)


def is_held(folder: Path, name: str) -> bool:
    """Say whether a holder is there."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return is_taken(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove the files of those that are gone."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if lock := take_lock(path):
                path.unlink(missing_ok=True)
                lock.release()
