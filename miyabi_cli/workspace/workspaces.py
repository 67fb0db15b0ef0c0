"""A run's own folder outside of the user's repository, held by a lock for as long as the run lives.

    FOLDER/SLUG-HASH/RUN/       SLUG-HASH stands for the repository's path
        lock
        git/                    the host's git directory; its objects are those that the run has made
        builds/                 what its checks compiled (`builds`)
        NAME/                   a worktree (`worktrees`); it is half-made while it has no worktree.json
            worktree.json
            keep                there when the worktree stays after the run
            stopped             there when the run has come so far in it that it should go on, were it stopped

Whatever dies gives up its lock; the next run of that repository removes what it left half-made, and the locks of git's
that it left on its worktrees; after `STOPPED_SECONDS` also the worktrees with which nobody went on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.locks import HeldLock, take_lock
from miyabi_cli.places import cache_dir
from miyabi_cli.workspace.private_git import Shown, Template, make_git_dir, read_template
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.repository import Repository

RECORD = "worktree.json"
KEEP = "keep"
STOPPED = "stopped"
STOPPED_SECONDS = 7 * 86_400
LOCK = "lock"
GIT = "git"
BUILDS = "builds"
INDEX_LOCK = "index.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CLAIM_SECONDS = 2  # longer than a cleaner or a list holds the lock of a run that is dead


@dataclass(frozen=True, slots=True)
class Workspace:
    """A run's own folder, held by this process until `close`; made by `open_workspace`.

    `shown`: what git directories in worktrees of a base have in common, by the base's id; see `worktrees`.
    """

    repository: Repository
    run_id: str
    folder: Path
    template: Template
    lock: HeldLock
    shown: dict[str, Shown] = field(default_factory=dict)

    @property
    def git_dir(self) -> Path:
        """The git directory that the host works with; no command of an agent can write it."""
        return self.folder / GIT

    @property
    def builds(self) -> Path:
        """What the checks of the run compile, gone with the run even if a worktree stays."""
        return self.folder / BUILDS

    @property
    def objects(self) -> Path:
        """The objects that the run has made: staged files, snapshots, commits."""
        return self.git_dir / "objects"

    def close(self, *, stopped: bool = False) -> None:
        """Remove what is not to be kept, and give the lock up; raises MachineError where the system forbids it.

        Of a run that was `stopped` those worktrees stay with which it can go on.
        """
        try:
            sweep(self.folder, (KEEP, STOPPED) if stopped else (KEEP,))
        finally:
            self.lock.release()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_workspace(repository: Repository, run_id: str, folder: Path | None = None) -> Workspace:
    """Make or take over the folder of a run below `folder` (default: the user's cache), and hold its lock.

    Raises RepositoryError for a run that another process is at, MachineError where the disk fails.
    """
    check_label(run_id, "the id of a run")
    home = _home(repository, folder or default_folder())
    try:
        lock = _claim(home / run_id)
        try:
            heal(home)
            return _furnish(repository, run_id, home / run_id, lock)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        hint = "set worktree.path to a folder that can be written"
        raise MachineError(f"can't make {home / run_id}: {error.strerror}", hint=hint) from None


def default_folder() -> Path:
    """Return the folder of all workspaces where the settings name no other."""
    return cache_dir("worktrees")


def check_label(name: str, what: str) -> None:
    """Raise RepositoryError unless `name` is plain enough for the name of a folder."""
    if not NAME.fullmatch(name) or name in (GIT, BUILDS, LOCK):
        raise RepositoryError(f"not {what}: {name!r}")


def heal(home: Path) -> None:
    """Remove what dead runs left half-made in a repository's folder; all else is left alone."""
    for run_folder in subfolders(home):
        with contextlib.suppress(OSError, MachineError), hold_dead(run_folder) as held:
            if held:
                _remove_half_made(run_folder)
                _remove_outdated(run_folder)
                remove_if_unused(run_folder)


@contextlib.contextmanager
def hold_dead(run_folder: Path) -> Iterator[bool]:
    """Hold the lock of a run for a `with` block that removes parts of it; False when its process lives."""
    try:
        lock = take_lock(run_folder / LOCK)
    except FileNotFoundError:
        lock = None
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


def sweep(run_folder: Path, spared: Sequence[str]) -> None:
    """Remove a run's worktrees but those with a `spared` mark, and then the run's folder if none is left."""
    remove_tree(run_folder / BUILDS)
    for worktree in worktree_folders(run_folder):
        if not any((worktree / mark).exists() for mark in spared):
            discard(worktree)
    remove_if_unused(run_folder)


def discard(worktree: Path) -> None:
    """Remove a worktree's folder. Should we die on the way, it counts as half-made and the next run goes on."""
    (worktree / RECORD).unlink(missing_ok=True)
    remove_tree(worktree)


def remove_if_unused(run_folder: Path) -> None:
    """Remove a run's folder unless a worktree is left in it; the caller holds the run's lock.

    The lock goes last, and the folder only if it is empty then: whoever comes in between has a lock of its own in it.
    """
    if worktree_folders(run_folder):
        return
    for entry in run_folder.iterdir() if run_folder.exists() else ():
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        elif entry.name != LOCK:
            entry.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (run_folder / LOCK).unlink()
        run_folder.rmdir()
        run_folder.parent.rmdir()  # where no other runs are in it


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none when it is not there."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def worktree_folders(run_folder: Path) -> list[Path]:
    """Return the folders of a run's worktrees, half-made ones too."""
    return [folder for folder in subfolders(run_folder) if folder.name not in (GIT, BUILDS)]


def is_outdated(worktree: Path) -> bool:
    """Say whether nobody has gone on with a dead run's worktree for so long that nobody will."""
    times = [path.stat().st_mtime for path in (worktree / RECORD, worktree / STOPPED) if path.exists()]
    return time.time() - max(times, default=0.0) > STOPPED_SECONDS


def read_record(worktree: Path) -> dict[str, Any] | None:
    """Return the content of a worktree's worktree.json, or None when it is half-made."""
    try:
        record = json.loads((worktree / RECORD).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _home(repository: Repository, folder: Path) -> Path:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", repository.root.name).strip("-")[:40] or "repository"
    digest = hashlib.sha256(os.fsencode(repository.root)).hexdigest()[:10]
    return folder / f"{slug}-{digest}"


def _claim(run_folder: Path) -> HeldLock:
    deadline = time.monotonic() + CLAIM_SECONDS
    while time.monotonic() < deadline:
        # A cleaner may remove the folder before it is locked, or while `mkdir` looks whether it is one: make it again.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if lock := take_lock(run_folder / LOCK):
                return lock
        time.sleep(0.01)
    raise RepositoryError(f"run {run_folder.name} is at work in another process", hint="wait until it has ended")


def _furnish(repository: Repository, run_id: str, run_folder: Path, lock: HeldLock) -> Workspace:
    _hide_from(repository, run_folder)
    workspace = Workspace(repository, run_id, run_folder, read_template(repository), lock)
    _remove_half_made(run_folder)
    make_git_dir(workspace.git_dir, workspace.template, repository.object_directories, repository.head)
    return workspace


def _hide_from(repository: Repository, run_folder: Path) -> None:
    # The user may want the worktrees inside the repository; there they must not look like new files.
    if run_folder.is_relative_to(repository.root):
        (run_folder / ".gitignore").write_text("*\n")


def _remove_outdated(run_folder: Path) -> None:
    for worktree in worktree_folders(run_folder):
        if not (worktree / KEEP).exists() and is_outdated(worktree):
            discard(worktree)


def _remove_half_made(run_folder: Path) -> None:
    remove_tree(run_folder / BUILDS)
    for worktree in worktree_folders(run_folder):
        if read_record(worktree) is None:
            remove_tree(worktree)
        else:  # whoever had it is dead, for its run's lock is ours
            (worktree / INDEX_LOCK).unlink(missing_ok=True)
