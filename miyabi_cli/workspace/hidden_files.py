"""What a command has that a count of its files does not see: files without a name, and file systems in memory.

An open file that was deleted is found in /proc/PID/fd. But a process may close itself to its own user (prctl(2),
PR_SET_DUMPABLE), leave a descriptor in a socket's queue (unix(7), SCM_RIGHTS), or keep a file by a mapping alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

_MAPPED = re.compile(rb" \(deleted\)$", re.MULTILINE)
_IN_QUEUE = re.compile(rb"^scm_fds:\s*[1-9]", re.MULTILINE)
# proc_pid_mountinfo(5): device, root, mount point, options, then the type
_IN_MEMORY = re.compile(rb"^\d+ \d+ (\d+:\d+) / (\S+) rw\S* .*?- tmpfs ", re.MULTILINE)


def hides_files(family: Sequence[int]) -> bool:
    """Say whether one of some processes may hold files that no count finds. It takes milliseconds for each."""
    return any(map(_hides_files, family))


def _hides_files(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        if _MAPPED.search((process / "maps").read_bytes()):
            return True
        descriptors = os.listdir(process / "fd")  # noqa: PTH208 (names alone)
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False
    return any(_IN_QUEUE.search(_content(process / "fdinfo" / name)) for name in descriptors)


def bytes_in_memory(family: Sequence[int]) -> int:
    """Return what lies in file systems in memory that these processes have and this one has not."""
    ours = {device for device, _ in _IN_MEMORY.findall(_content(Path("/proc/self/mountinfo")))}
    mounts = {
        device: (pid, point)
        for pid in family[-1:]  # they share one mount namespace, but for those that begin it
        for device, point in _IN_MEMORY.findall(_content(Path(f"/proc/{pid}/mountinfo")))
        if device not in ours
    }
    return sum(_used_bytes(f"/proc/{pid}/root{_plain(point)}") for pid, point in mounts.values())


def _used_bytes(folder: str) -> int:
    try:
        system = os.statvfs(folder)
    except OSError:
        return 0
    return (system.f_blocks - system.f_bfree) * system.f_frsize


def _plain(point: bytes) -> str:
    """Return a mount point without the escapes of blanks and backslashes."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes((int(code[1], 8),)), point))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
