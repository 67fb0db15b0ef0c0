"""Going on with a run that was stopped: what must still be there, and what was half-done."""

from __future__ import annotations

from miyabi_cli.codegen.earlier import Earlier
from miyabi_cli.codegen.judging import CHECKS
from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.workspaces import Workspace, discard, worktree_folders

ANEW = "begin the task anew"


def base_again(workspace: Workspace, earlier: Earlier) -> str:
    """Return the commit that a run works from, and take away the worktrees in which its checks may have been stopped.

    Raises RepositoryError where the repository at hand is another one, or the commit is gone.
    """
    started, root = earlier.started, workspace.repository.root
    if str(root) != started.repository:
        raise RepositoryError(f"run {workspace.run_id} was at work in {started.repository}, not {root}", hint=ANEW)
    if Git(workspace.git_dir).ask("cat-file", "-e", f"{started.base}^{{commit}}").exit_code:
        raise RepositoryError(f"the commit that run {workspace.run_id} began from is gone: {started.base}", hint=ANEW)
    for folder in worktree_folders(workspace.folder):
        if folder.name.startswith(CHECKS):
            discard(folder)
    return started.base
