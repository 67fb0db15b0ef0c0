"""A limit of processes that holds for root too, by the pids controller of cgroups (v1 and v2), where root may use it.

RLIMIT_NPROC does not count root's processes; a fork bomb of root's outruns any watch of ours.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from miyabi_cli.workspace.processes import Limits

_MOUNT = Path("/sys/fs/cgroup")
_NAME = "miyabi"
_numbers = itertools.count()
_free: list[Path] = []


# Joins the group and becomes the command: put there from outside, a fork bomb is quicker. Not joined, nothing runs.
_JOIN = 'echo $$ >"$0" && exec "$@"'


@contextlib.contextmanager
def limited_group(limits: Limits, folder: Path | None) -> Iterator[tuple[str, ...]]:
    """Give what to put before a command's arguments, so that it and all that it starts are held to a number of tasks,
    and to their memory where the controller is handed down too (version 2).

    `folder` is one that `pids_folder` returned. () is given where no cgroup can be made.
    """
    group = _taken(folder, limits) if folder else None
    if group is None:
        yield ()
        return
    try:
        yield ("/bin/sh", "-c", _JOIN, str(group / "cgroup.procs"))
    finally:
        _free.append(group)


@lru_cache(maxsize=1)
def pids_folder(mount: Path = _MOUNT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return a folder of cgroups that can hold processes to a number, None where there is none that may be used."""
    for folder in _candidates(mount, own):
        trial = folder / f"{_NAME}-{os.getpid()}-trial"
        if _make(trial, Limits(processes=1)):
            trial.rmdir()  # nothing was ever in it
            _sweep(folder)
            atexit.register(_sweep, folder)
            return folder
    return None


def _candidates(mount: Path, own: Path) -> Iterator[Path]:
    """Yield v1's group of this process, or v2's nearest one above it that hands the controller down (cgroups(7))."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if "pids" in controllers.split(","):
            yield mount / "pids" / path.lstrip("/")
        elif not controllers:
            for top in (mount, mount / "unified"):
                folder = top / path.lstrip("/")
                yield from (
                    above for above in (folder, *folder.parents) if above.is_relative_to(top) and _hands_down(above)
                )


def _hands_down(folder: Path) -> bool:
    try:
        return "pids" in (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


def _taken(folder: Path, limits: Limits) -> Path | None:
    """Return a group that no command is in: a used one, since one can't be removed the moment that it is empty."""
    for used in [group for group in _free if group.parent == folder]:
        _free.remove(used)
        if _limit(used, limits):
            return used
    group = folder / f"{_NAME}-{os.getpid()}-{next(_numbers)}"
    return group if _make(group, limits) else None


def _make(group: Path, limits: Limits) -> bool:
    try:
        group.mkdir()
    except OSError:
        return False
    if _limit(group, limits):
        return True
    group.rmdir()
    return False


def _limit(group: Path, limits: Limits) -> bool:
    try:
        (group / "pids.max").write_text(str(limits.processes))
    except OSError:
        return False
    if (group / "memory.max").exists():
        most = "max" if limits.memory_bytes is None else str(limits.memory_bytes)
        for name, value in (("memory.max", most), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError):  # the watch holds it as well
                (group / name).write_text(value)
    return True


def _sweep(folder: Path) -> None:
    """Remove the groups of this run and of those that are dead; one that still holds a process can't be removed."""
    for group in folder.glob(f"{_NAME}-*"):
        pid = group.name.split("-")[1]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                group.rmdir()
