"""The worktrees that lie on this machine: of runs that live, that died, and those that were to be kept."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miyabi_cli.errors import MachineError
from miyabi_cli.workspace.removal import folder_size
from miyabi_cli.workspace.workspaces import (
    KEEP,
    LOCK,
    STOPPED,
    discard,
    hold_dead,
    is_outdated,
    read_record,
    remove_if_unused,
    subfolders,
    worktree_folders,
)

_LATEST = 1e12  # seconds; a time beyond it is none

State = Literal["live", "kept", "stopped", "left over"]


@dataclass(frozen=True, slots=True)
class WorktreeEntry:
    """A worktree on the disk. A half-made one has no repository, base (a commit's id) or time (seconds since 1970)."""

    run_id: str
    name: str
    state: State
    folder: Path
    size_bytes: int
    repository: str | None = None
    base: str | None = None
    created: float | None = None


def list_worktrees(folder: Path) -> tuple[WorktreeEntry, ...]:
    """Return all worktrees below a folder of workspaces, by repository, run and name."""
    return tuple(entry for run_folder in _run_folders(folder) for entry in _entries(run_folder))


def clean_worktrees(
    folder: Path, *, kept: bool = False, run_ids: Collection[str] = (), dry_run: bool = False
) -> tuple[tuple[WorktreeEntry, ...], tuple[MachineError, ...]]:
    """Remove what dead runs left over and, with `kept`, what was to be kept and what a stopped run can go on with.

    Return those, and what went wrong.

    `run_ids` narrows it to those runs. A run that lives is never touched.
    """
    removed: list[WorktreeEntry] = []
    errors: list[MachineError] = []
    for run_folder in _run_folders(folder):
        if run_ids and run_folder.name not in run_ids:
            continue
        entries = [
            entry
            for entry in _entries(run_folder)
            if entry.state == "left over" or (kept and entry.state in ("kept", "stopped"))
        ]
        if dry_run:
            removed += entries
            continue
        with hold_dead(run_folder) as held:
            for entry in entries if held else ():
                try:
                    discard(entry.folder)
                    removed.append(entry)
                except MachineError as error:
                    errors.append(error)
            if held:
                remove_if_unused(run_folder)
    return tuple(removed), tuple(errors)


def _run_folders(folder: Path) -> Iterator[Path]:
    # Only what we made, and may remove: the folder may hold other things, and runs of other users.
    for home in subfolders(folder):
        for run_folder in subfolders(home):
            if os.access(run_folder, os.R_OK | os.W_OK | os.X_OK) and (run_folder / LOCK).is_file():
                yield run_folder


def _entries(run_folder: Path) -> Iterator[WorktreeEntry]:
    with hold_dead(run_folder) as held:
        for worktree in worktree_folders(run_folder):
            state: State = _dead_state(worktree) if held else "live"
            record = read_record(worktree) or {}
            yield WorktreeEntry(
                run_id=run_folder.name,
                name=worktree.name,
                state=state,
                folder=worktree,
                size_bytes=folder_size(worktree),
                repository=_text(record.get("repository")),
                base=_text(record.get("base")),
                created=_moment(record.get("created")),
            )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < _LATEST else None


def _dead_state(worktree: Path) -> State:
    if (worktree / KEEP).exists():
        return "kept"
    return "stopped" if (worktree / STOPPED).exists() and not is_outdated(worktree) else "left over"
