"""What this machine has to give: processors and memory, less what a container's limits take away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FEW_CORES = 4


def default_threads() -> int:
    """Return how many threads an engine gets: all processors of a small machine, one a core of a larger one.

    Two threads of one core share its arithmetic units, so the second one adds next to nothing.
    """
    usable = usable_processors()
    if usable <= FEW_CORES:
        return usable
    return max(FEW_CORES, min(usable, _cores(os.sched_getaffinity(0))))


def usable_processors(*, root: Path = Path("/")) -> int:
    """Return how many processors this process may use: its affinity, capped by its control groups' quota."""
    count = float(len(os.sched_getaffinity(0)))
    for group in _control_groups(root, "cpu"):
        words = _read(group / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            count = min(count, int(words[0]) / int(words[1]))
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            count = min(count, quota / period)
    return max(1, int(count))


def available_memory(*, root: Path = Path("/")) -> int | None:
    """Return the bytes that a new process may take without swapping, or None where nothing says."""
    candidates = [_system_memory(root)]
    for group in _control_groups(root, "memory"):
        candidates.append(_left(group / "memory.max", group / "memory.current", group, "inactive_file"))
        pair = group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"
        candidates.append(_left(*pair, group, "total_inactive_file"))
    return min((bytes_ for bytes_ in candidates if bytes_ is not None), default=None)


def _system_memory(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left(limit_file: Path, used_file: Path, group: Path, reclaimable: str) -> int | None:
    """Return what a control group has left; the page cache that it can drop does not count as used."""
    limit, used = _number(limit_file), _number(used_file)
    if limit is None or used is None:
        return None
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == reclaimable:
            used -= int(value)
    return max(0, limit - used)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for one controller (versions 1 and 2), innermost first."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" if number == "0" else root / "sys/fs/cgroup" / controllers
        group = base / path.lstrip("/")
        while group != base:
            yield group
            group = group.parent
        yield base


def _cores(processors: set[int]) -> int:
    siblings = Path("/sys/devices/system/cpu")
    return len({_read(siblings / f"cpu{number}/topology/thread_siblings_list") or number for number in processors})


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_read(path))
    except ValueError:
        return None
