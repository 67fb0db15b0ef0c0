"""Locks between processes by flock: a lock ends with its holder, however that dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import MachineError

LONGEST_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class FileLock:
    """A lock that is held; `release` once, or leave it to the end of the process."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Give the lock up. The file stays: to remove it could pull it from under the next holder."""
        os.close(self.descriptor)


def try_lock(path: Path, *, shared: bool = False) -> FileLock | None:
    """Return the lock on the file at `path`, made on demand, or None where another holder stands in the way.

    A holder in the same process counts too. Raises FileNotFoundError when the file's folder is gone.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if _is_file_at(descriptor, path):
            return FileLock(path, descriptor)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT):
            os.close(descriptor)
            raise MachineError(f"can't lock {path}: {error.strerror}") from None
    os.close(descriptor)
    return None


def wait_for_lock(path: Path, *, shared: bool = False, seconds: float = 10) -> FileLock:
    """Return the lock on the file at `path`, waiting up to `seconds`; raises MachineError when they have passed."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while (held := try_lock(path, shared=shared)) is None:
        if time.monotonic() >= deadline:
            raise MachineError(f"{path} is locked by another process", hint="wait for the other miyabi to end")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return held


@contextmanager
def locked(path: Path, *, shared: bool = False, seconds: float = 10) -> Iterator[None]:
    """Hold the lock on the file at `path` for a `with` block, waiting up to `seconds` for it."""
    held = wait_for_lock(path, shared=shared, seconds=seconds)
    try:
        yield
    finally:
        held.release()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, error.strerror, str(path)) from None
    except OSError as error:
        raise MachineError(f"can't open the lock {path}: {error.strerror}") from None


def _is_file_at(descriptor: int, path: Path) -> bool:
    # Whoever cleaned up may have removed the file between our opening and locking it: that lock guards nothing.
    held, there = os.fstat(descriptor), path.stat()
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
