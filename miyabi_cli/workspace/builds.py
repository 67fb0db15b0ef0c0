"""Compiled code that the checks of a run share: built once for the base, and copied for each patch.

A build that two attempts wrote to would be wrong, since cargo goes by the times of files, and not to be trusted, since
the code of one attempt could write what the checks of the next run. So only the base's is kept; every other check gets
a copy of it, which nobody else sees. All of it goes when the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import MachineError
from miyabi_cli.locks import HeldLock, take_lock
from miyabi_cli.workspace.removal import remove_tree

KEPT_SECONDS = 7 * 86_400
_LOCK, _FILES = "lock", "files"  # side by side, for what commands write may not be the lock
_MAXIMUM_BYTES = 4 << 30
_MAXIMUM_FILES = 200_000


@dataclass(frozen=True, slots=True)
class Builds:
    """The builds of a run, in a folder of the run's own that no command sees but for the one it is given."""

    folder: Path

    @contextlib.asynccontextmanager
    async def opened(self, *, of_base: bool) -> AsyncIterator[Path]:
        """Yield the folder for the checks of one tree: a copy of the base's, or where `of_base` what will be that."""
        seed = self.folder / "base"
        await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="build-", dir=self.folder))
        try:
            if of_base:
                yield path
                await asyncio.to_thread(_keep, path, seed)
            else:
                await asyncio.to_thread(_copy, seed, path)
                yield path
        finally:
            await asyncio.to_thread(remove_tree, path)


@dataclass(frozen=True, slots=True)
class KeptBuilds:
    """What one tool keeps in `home/name` for all trees of a repository, from run to run; begun anew each week.

    It is for tools that go by what files hold and never by their age. One command at a time has it: another that comes
    meanwhile begins with nothing.
    """

    home: Path
    name: str

    @contextlib.asynccontextmanager
    async def opened(self, *, of_base: bool) -> AsyncIterator[Path]:
        """Yield the folder for the checks of one tree, the base's or another."""
        folder = self.home / self.name
        held = None
        with contextlib.suppress(OSError, MachineError):  # no locks, or no disk: only speed is lost
            held = await asyncio.to_thread(_claim, folder)
        if held is None:
            async with open_build(None, of_base=of_base) as path:
                yield path
            return
        try:
            yield folder / _FILES
        finally:
            held.release()


def _claim(folder: Path) -> HeldLock | None:
    """Take a kept folder for oneself, None where another has it; what is over a week old goes from it and all others.

    The lock is never written, so that its time is that of the folder's beginning.
    """
    held = _take(folder)
    if held is None:
        return None
    try:
        if _outdated(folder):
            for other in folder.parent.iterdir():
                taken = None if other == folder else _take(other)
                if taken is not None and _outdated(other):
                    _begin(other)
                if taken is not None:
                    taken.release()
            _begin(folder)
        (folder / _FILES).mkdir(mode=0o700, exist_ok=True)
    except BaseException:
        held.release()
        raise
    return held


def _take(folder: Path) -> HeldLock | None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return take_lock(folder / _LOCK)


def _outdated(folder: Path) -> bool:
    return time.time() - (folder / _LOCK).stat().st_mtime > KEPT_SECONDS


def _begin(folder: Path) -> None:
    remove_tree(folder / _FILES)
    os.utime(folder / _LOCK)


@contextlib.asynccontextmanager
async def open_build(builds: Builds | KeptBuilds | None, *, of_base: bool) -> AsyncIterator[Path]:
    """Yield a folder for the builds of some checks; without a run to share them it ends with them."""
    if builds is not None:
        async with builds.opened(of_base=of_base) as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="miyabi-build-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _keep(path: Path, seed: Path) -> None:
    """Make a build the base's, unless there is one."""
    if not seed.exists():
        path.rename(seed)


def _copy(seed: Path, target: Path) -> None:
    """Copy what is in a folder with its times; one that is too large to copy, or fills the disk, is done without."""
    try:
        files = _count(seed)
        if files is not None:
            shutil.copytree(seed, target, symlinks=True, ignore=_special_files, dirs_exist_ok=True)
    except (OSError, shutil.Error, RecursionError):  # the last: nested too deep
        for entry in list(target.iterdir()):
            remove_tree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _count(seed: Path) -> int | None:
    """Return the number of files, None where they are too many or too large, or there is no such folder."""
    files = size = 0
    for folder, _, names in os.walk(seed):
        files += len(names)
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)  # noqa: PTH118 (many)
        if files > _MAXIMUM_FILES or size > _MAXIMUM_BYTES:
            return None
    return files or None


def _special_files(folder: str, names: list[str]) -> set[str]:
    """Return what is neither a file, a folder nor a link: a pipe would never end."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}  # noqa: PTH118 (many)
    return {
        name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
    }
