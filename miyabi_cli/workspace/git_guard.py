"""Keeps a tree's `.git` as the host left it, where no mount can make it read-only: a change is undone, and told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.removal import remove_tree

_MOST_BYTES = 256 << 20  # held in memory while a command runs


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int  # S_IFREG, S_IFDIR or S_IFLNK
    mode: int
    content: bytes = b""  # of a file; of a link its target


_Snapshot = dict[str, _Entry]


@dataclass(slots=True)
class _Held:
    snapshot: _Snapshot
    commands: int = 0


@dataclass(slots=True)
class Change:
    """Whether `.git` was found changed at the end; known once the command's block has ended."""

    was_undone: bool = False


@dataclass(frozen=True, slots=True)
class GitGuard:
    """Guards trees; several commands may run in one at once."""

    _held: dict[Path, _Held] = field(default_factory=dict)

    @contextmanager
    def guarding(self, tree: Path) -> Iterator[Change]:
        """Put `.git` back at the end as it was when the first of the running commands began.

        Every process of the command must have ended by then. A tree without `.git` is left alone. Raises SandboxError
        where `.git` can't be read, or is too large.
        """
        change = Change()
        git = tree / ".git"
        held = self._held.get(tree)
        if held is None:
            if not os.path.lexists(git):
                yield change
                return
            held = self._held[tree] = _Held(_take(git))
        held.commands += 1
        try:
            yield change
        finally:
            held.commands -= 1
            if not held.commands:
                del self._held[tree]
            if not _is_same(git, held.snapshot):
                _put_back(git, held.snapshot)
                change.was_undone = True


def _take(git: Path) -> _Snapshot:
    taken: _Snapshot = {}
    total = 0
    try:
        for name, status in _walk(git):
            total += status.st_size
            if total > _MOST_BYTES:
                raise SandboxError(f"{git} is too large to be guarded without bubblewrap")
            taken[name] = _Entry(
                stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), _content(git / name, status)
            )
    except OSError as error:
        raise SandboxError(f"{git} can't be read: {error.strerror}") from None
    return taken


def _is_same(git: Path, snapshot: _Snapshot) -> bool:
    count = 0
    try:
        for name, status in _walk(git):
            entry = snapshot.get(name)
            if entry is None or (entry.kind, entry.mode) != (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)):
                return False
            if entry.kind != stat.S_IFDIR and status.st_size != len(entry.content):
                return False
            if entry.content != _content(git / name, status):
                return False
            count += 1
    except OSError:
        return False
    return count == len(snapshot)


def _put_back(git: Path, snapshot: _Snapshot) -> None:
    if git.is_dir() and not git.is_symlink():
        remove_tree(git)
    else:
        git.unlink(missing_ok=True)
    folders = []
    for name, entry in snapshot.items():  # a folder comes before what is in it
        path = git / name
        if entry.kind == stat.S_IFDIR:
            path.mkdir(mode=0o700)
            folders.append((path, entry.mode))
        elif entry.kind == stat.S_IFLNK:
            path.symlink_to(os.fsdecode(entry.content))
        else:
            path.write_bytes(entry.content)
            path.chmod(entry.mode)
    for path, mode in reversed(folders):
        path.chmod(mode)


def _walk(git: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a path's name below itself, "" for itself, with its status, and so on for all in it; links not followed."""
    names = [""]
    while names:
        name = names.pop()
        status = (git / name).lstat()
        yield name, status
        if stat.S_ISDIR(status.st_mode):
            names += [f"{name}/{child}".lstrip("/") for child in os.listdir(git / name)]  # noqa: PTH208


def _content(path: Path, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.fsencode(os.readlink(path))  # noqa: PTH115
    return path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
