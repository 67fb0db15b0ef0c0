"""The trees of a change as files on the disk, each checked out once and only when somebody asks for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from miyabi_cli.review.linter_caches import steady_times
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import NOBODY, Repository
from miyabi_cli.workspace.snapshots import write_commit
from miyabi_cli.workspace.workspaces import Workspace
from miyabi_cli.workspace.worktrees import Worktree, create_worktree

_MESSAGE = "A tree under review\n"


@dataclass(slots=True)
class Checkouts:
    """Checks out trees into worktrees of a run's workspace, which go when that is closed."""

    workspace: Workspace
    include: tuple[str, ...] = ()
    _made: dict[str, asyncio.Task[Worktree]] = field(default_factory=dict)

    @property
    def repository(self) -> Repository:
        return self.workspace.repository

    @property
    def git(self) -> Git:
        """The host's git on the run's own git directory: it reads all objects of the repository and of the run."""
        return Git(self.workspace.git_dir)

    async def of(self, tree: str) -> Worktree:
        """Return the files of a tree (an id); whoever asks for the same tree shares them, so nobody may change them.

        Raises RepositoryError, MachineError.
        """
        if tree not in self._made:
            self._made[tree] = asyncio.create_task(asyncio.to_thread(self._shared, tree, f"tree-{len(self._made)}"))
        return await asyncio.shield(self._made[tree])

    async def private(self, tree: str, name: str) -> Worktree:
        """Return the files of a tree in a worktree of one's own, called `name`, to change and to remove."""
        return await asyncio.to_thread(self._check_out, tree, name)

    def _shared(self, tree: str, name: str) -> Worktree:
        worktree = self._check_out(tree, name)
        steady_times(worktree)
        return worktree

    def _check_out(self, tree: str, name: str) -> Worktree:
        commit = write_commit(self.git, tree, None, _MESSAGE, NOBODY)
        return create_worktree(self.workspace, commit, name, self.include)
