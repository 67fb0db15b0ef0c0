"""Processes that outlive whoever started them: while they are watched for, the kernel gives them to this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10.0  # seconds that the kernel and a dying sandbox may take


@dataclass(frozen=True)
class Orphans:
    """`known`: this process's children from before."""

    known: frozenset[int]

    def left(self) -> list[str]:
        """Return the command lines of all that has come to this process and does not end by itself."""
        end = time.monotonic() + PATIENCE
        while (found := self._alive()) and time.monotonic() < end:
            time.sleep(0.02)
        return [_line(pid) for pid in sorted(found)]

    def now(self) -> list[str]:
        """Return the command lines of all that has come to this process and runs at this moment."""
        return [_line(pid) for pid in sorted(self._alive())]

    def end(self) -> None:
        """Kill what is left."""
        while found := self._alive():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.02)

    def _alive(self) -> set[int]:
        """Reap what has ended; return the rest of this process's family."""
        parents = dict(_parents())
        for pid, parent in parents.items():
            if parent == os.getpid() and pid not in self.known:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        parents = dict(_parents())
        family = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in family} - family - self.known:
            family |= more
        return family - {os.getpid()}


@contextlib.contextmanager
def watching_for_orphans() -> Iterator[Orphans]:
    """Take in the orphans of a block's commands. None of them may be waited for elsewhere when `left` is called."""
    children = frozenset(pid for pid, parent in _parents() if parent == os.getpid())
    orphans = Orphans(children)
    _adopt(True)
    try:
        yield orphans
    finally:
        orphans.end()
        _adopt(False)


def _adopt(adopts: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process can't take in orphans")


def _parents() -> Iterator[tuple[int, int]]:
    """Yield each process of this machine with its parent."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), int(path.read_text(errors="replace").rpartition(")")[2].split()[1])


def _line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""
