"""Removing folders that somebody else has filled: read-only ones too, and never what a symbolic link leads to."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

from miyabi_cli.errors import MachineError


def remove_tree(path: Path) -> None:
    """Remove a folder, or nothing when it is not there; raises MachineError where the system forbids it."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # something else removed a part of it meanwhile
            remove_tree(path)
    except (OSError, RecursionError):
        _open_up(path)
        _remove_opened(path)


def folder_size(path: Path) -> int:
    """Return the bytes that the files below a folder take on the disk, as far as they can be read."""
    total = 0
    folders = [path]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                total += _blocks(entry)
    return total


def _blocks(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def _open_up(path: Path) -> None:
    # A folder without write permission keeps its entries; one without read permission hides them.
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                continue
            folder.chmod(0o700)
            folders += [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue


def _remove_opened(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except RecursionError:
        _remove_deep(path)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENAMETOOLONG):
            raise _refused(f"{error.filename or path}: {error.strerror}", path) from None
        _remove_deep(path)


def _remove_deep(path: Path) -> None:
    """Remove folders that are nested too deep for `shutil.rmtree`, by programs that keep no folder open above another.

    Raises MachineError.
    """
    for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
        try:
            done = subprocess.run([*command, "--", path], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise _refused(f"{path}: {command[0]}: {error.strerror}", path) from None
    if done.returncode:
        raise _refused(f"{path}: exit code {done.returncode}", path)


def _refused(what: str, path: Path) -> MachineError:
    return MachineError(
        f"can't remove {what}", hint=f"a command there may have run as another user: sudo rm -rf {path}"
    )
