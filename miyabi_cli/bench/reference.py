"""The solution that a suite has of its own, in place of an agent's: it shows that the suite works on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from miyabi_cli.bench.repositories import AUTHOR, solution_entries
from miyabi_cli.bench.tasks import BenchTask
from miyabi_cli.bench.trials import Failure, Solved
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.snapshots import write_commit
from miyabi_cli.workspace.trees import compare_trees, edit_tree, tree_id

NAME = "reference"


async def solve_by_reference(repository: Repository, task: BenchTask, _worktrees: Path) -> Solved:
    """Return a run whose result is the task's own solution; a failure where it has none."""
    return await asyncio.to_thread(_solved, repository, task)


def _solved(repository: Repository, task: BenchTask) -> Solved:
    git = Git(repository.git_dir)
    entries = solution_entries(task, git)
    if not entries:
        return Solved(None, None, Failure("no_solution", "the suite has no solution of this task", 2))
    tree = edit_tree(git, tree_id(git, repository.head), entries)
    changes = compare_trees(git, repository.head, tree)
    result: dict[str, Any] = {
        "status": "unverified",
        "commit": write_commit(git, tree, repository.head, "the solution", AUTHOR),
        "attempts": [],
        "lines_added": sum(change.lines_added for change in changes),
        "lines_removed": sum(change.lines_removed for change in changes),
        "usage": dataclasses.asdict(Usage()),
        "seconds": 0.0,
        "provider": NAME,
        "model": NAME,
        "effort": None,
    }
    return Solved(None, result)
