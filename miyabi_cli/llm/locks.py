"""Locks between processes: flock on a file, which the kernel lets go when its holder dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from miyabi_cli.errors import MachineError

POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock's file, which is made on demand for its owner alone. Raises MachineError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MachineError(f"can't open {path}: {error.strerror}") from None


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock if it is free, and say so. Raises MachineError where the file system has no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        hint = "MIYABI_DATA_DIR names a folder elsewhere"
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
