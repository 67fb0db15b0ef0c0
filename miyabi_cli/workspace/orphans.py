"""Ends what a killed miyabi can leave of bubblewrap: its inner process, still waiting for a word of the outer one.

bwrap's --die-with-parent is set by the inner process itself, after it was told that its user namespace is ready. Killed
between the fork and that word, miyabi takes the outer process with it, and the inner one sleeps for ever: it holds the
pipe that it waits on open itself. No option of bwrap closes that gap, so a later run does.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from functools import lru_cache
from pathlib import Path

from miyabi_cli.workspace import layout
from miyabi_cli.workspace.watch import is_running, pids

_NAME = b"bwrap"
_OURS = os.fsencode(layout.HOME)
_PATIENCE = 20  # times 10 ms, until the killed have gone and their cgroup can be removed


@lru_cache(maxsize=1)
def end_orphans() -> tuple[int, ...]:
    """Kill them once a process, and return their pids. One whose outer process lives is never touched."""
    orphans = tuple(pid for pid in pids() if _is_orphan(Path(f"/proc/{pid}")))
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    for _ in range(_PATIENCE):
        if not any(map(is_running, orphans)):
            break
        time.sleep(0.01)
    return orphans


def _is_orphan(process: Path) -> bool:
    """Say whether a process is the first of a pid namespace, bwrap's, of a sandbox of ours, and no child of a bwrap."""
    try:
        if _name(process) != _NAME:
            return False
        status = (process / "status").read_bytes()
        parent = re.search(rb"^PPid:\t(\d+)$", status, re.MULTILINE)
        is_first = re.search(rb"^NSpid:\t\d+\t(?:\d+\t)*1$", status, re.MULTILINE)
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        if parent is None or is_first is None or _OURS not in arguments:
            return False
        return _name(Path("/proc", os.fsdecode(parent[1]))) != _NAME
    except OSError:
        return False


def _name(process: Path) -> bytes:
    return (process / "comm").read_bytes().strip()
