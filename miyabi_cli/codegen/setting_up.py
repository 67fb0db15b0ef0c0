"""Making a worktree ready for work: the commands of `worktree.setup`."""

from __future__ import annotations

from miyabi_cli.codegen.plan import Plan
from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.worktrees import Worktree


async def set_up(plan: Plan, worktree: Worktree) -> None:
    """Run the set-up commands in the sandbox; raises SandboxError where one fails."""
    for command in plan.setup:
        outcome = await plan.sandbox.run(command, worktree.place())
        if outcome.exit_code:
            last = outcome.output.strip().rpartition("\n")[2]
            raise SandboxError(f"the set-up command failed: {command}: {last}", hint="see worktree.setup")
