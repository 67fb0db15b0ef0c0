"""Locks between processes: flock on a file, which the kernel lets go when its holder dies, however it dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import MachineError

POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock's file, which is made on demand for its owner alone. Raises MachineError."""
    try:
        return _open(path)
    except OSError as error:
        raise _not_opened(path, error) from None


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock if it is free, and say so. Raises MachineError where the file system has no locks.

    Two descriptors stand in each other's way also when both are of one process.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        hint = "let MIYABI_DATA_DIR, MIYABI_CACHE_DIR or worktree.path name a folder elsewhere"
        raise MachineError(f"this file system has no locks: {error.strerror}", hint=hint) from None
    return True


def is_taken(descriptor: int) -> bool:
    """Say whether another descriptor holds the lock for itself alone. Askers don't get in each other's way."""
    if try_lock(descriptor, shared=True):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    return True


async def lock(descriptor: int, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> None:
    """Wait for the lock; `waiting` is called once if it is not free at first."""
    told = waiting is None
    while not try_lock(descriptor, shared=shared):
        if not told and waiting is not None:
            waiting()
            told = True
        await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def locked(path: Path, *, waiting: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Hold the lock of a file for the time of a `with`."""
    descriptor = open_lock(path)
    try:
        await lock(descriptor, waiting=waiting)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that is held; `release` once, or leave it to the end of the process."""

    descriptor: int

    def release(self) -> None:
        """Give the lock up. The file stays: to remove it could pull it from under the next holder."""
        os.close(self.descriptor)


def take_lock(path: Path, *, shared: bool = False) -> HeldLock | None:
    """Return the lock on the file at `path`, made on demand, or None where another holder stands in the way.

    Raises FileNotFoundError when the file's folder is gone, MachineError for what else keeps it from being locked.
    """
    try:
        descriptor = _open(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, error.strerror, str(path)) from None
    except OSError as error:
        raise _not_opened(path, error) from None
    held = False
    try:
        held = try_lock(descriptor, shared=shared) and _is_file_at(descriptor, path)
    finally:
        if not held:
            os.close(descriptor)
    return HeldLock(descriptor) if held else None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _not_opened(path: Path, error: OSError) -> MachineError:
    return MachineError(f"can't open the lock {path}: {error.strerror}")


def _is_file_at(descriptor: int, path: Path) -> bool:
    """Say whether the locked file is still there: once a cleaner has removed it, its lock guards nothing."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
