"""The guard's process: it waits for miyabi's end and, where miyabi was killed, ends what is left of bubblewrap.

bwrap's --die-with-parent leaves a gap of some milliseconds. Each of its two processes asks for its own death itself:
the outer one when it has made the inner one, the inner one when all is mounted. A parent that is killed before that is
not missed: the command runs on, or the inner process sleeps for ever. `guard` starts this one; it imports nothing of
ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

_LOOKS = 10  # the pauses between them double: one millisecond at first, a second in all


def end_orphans(mark: str) -> None:
    """Wait for the end of stdin, and kill all that has a mark among its arguments.

    It looks again and again: a child that miyabi has just forked has the mark only once it is a program.
    """
    os.read(0, 1)
    for look in range(_LOOKS):
        for pid in _marked(os.fsencode(mark)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001 * 2**look)


def _marked(mark: bytes) -> Iterator[int]:
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 (names alone)
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            if mark in file.read().split(b"\0") and int(name) != os.getpid():
                yield int(name)
