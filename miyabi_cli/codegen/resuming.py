"""Going on with a run that was stopped: what must still be there, and what was half-done."""

from __future__ import annotations

import re

from miyabi_cli.codegen.earlier import Earlier
from miyabi_cli.codegen.judging import CHECKS
from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.workspaces import STOPPED, Workspace, discard, worktree_folders

ANEW = "begin the task anew"
# What lifts a limit, by a word of how `Allowance.reached` names it.
LARGER = {
    "month": "budget.monthly_usd",
    **{"step": "--max-steps", "time limit": "--max-time", "tokens": "limits.tokens", "USD": "--max-cost"},
}
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def base_again(workspace: Workspace, earlier: Earlier) -> str:
    """Return the commit that a run works from, and make its worktrees ready to go on.

    Those in which its checks may have been stopped are taken away, and the others stay should it be stopped again.
    Raises RepositoryError where the repository at hand is another one, or the commit is gone.
    """
    for folder in worktree_folders(workspace.folder):
        if folder.name.startswith(CHECKS):
            discard(folder)
        else:
            (folder / STOPPED).touch()
    started, root = earlier.started, workspace.repository.root
    if str(root) != started.repository:
        raise RepositoryError(f"run {workspace.run_id} was at work in {started.repository}, not {root}", hint=ANEW)
    if not COMMIT.fullmatch(started.base):
        raise RepositoryError(f"the log of run {workspace.run_id} names no commit: {started.base!r:.80}", hint=ANEW)
    if Git(workspace.git_dir).ask("cat-file", "-e", f"{started.base}^{{commit}}").exit_code:
        raise RepositoryError(f"the commit that run {workspace.run_id} began from is gone: {started.base}", hint=ANEW)
    return started.base


def going_on(run_id: str, limit: str) -> str:
    """Say how a run goes on that a limit has ended."""
    flag = next((flag for word, flag in LARGER.items() if word in limit), "")
    larger = f" with a larger {flag}" if flag else ""
    return f"miyabi codegen --resume {run_id}{larger} goes on with it"
