"""The agent that `miyabi bench codegen` measures: codegen as a user runs it, on a task's own repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_cli.commands.access import Access
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.means import Shared, means_of
from miyabi_cli.commands.one_run import OneRun
from miyabi_cli.commands.unforeseen import explain
from miyabi_cli.errors import ProviderError
from miyabi_cli.events import Event, WarningRaised
from miyabi_cli.messages import Usage
from miyabi_cli.relay import Relay

if TYPE_CHECKING:
    from miyabi_cli.bench.tasks import BenchTask
    from miyabi_cli.bench.trials import Solved
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.repository import Repository
    from miyabi_cli.workspace.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Agent:
    """Runs codegen on tasks, with what all runs share; `values` are the flags. `tell` hears of what a run warns of.

    `own_settings`: the tasks are the user's repository's own, and its checks and set-up hold for them.
    """

    access: Access
    values: Mapping[str, Any]
    tell: Callable[[str, Event], None]
    own_settings: bool

    async def solve(self, repository: Repository, task: BenchTask, worktrees: Path) -> Solved:
        """Run codegen on a task's repository. No error of the run's leaves it, but is what it comes to."""
        from miyabi_cli.bench.calls import CallCounts
        from miyabi_cli.bench.trials import Failure, Solved
        from miyabi_cli.runs import new_run_id

        counts, run_id = CallCounts(), new_run_id()
        begun = Begun(redactor=self.access.redactor)
        result, failure, usage = None, None, Usage()

        def told(event: Event, _kept: object = None) -> None:
            counts.take(event)
            self.tell(task.id, event)

        warn = Relay(lambda kind, what: told(WarningRaised(kind, "", self.access.redactor.redact(what))))
        try:
            access = replace(self.access, settings=self._settings(worktrees))
            request = self._request(repository, task)
            means = await means_of(Shared(access, repository, None), request, run_id, warn, command="bench")
            run = OneRun(request, means, None, run_id, begun, told, lambda _patch: None)
            result = (await run.do()).data()
        except Exception as error:
            usage = error.usage if isinstance(error, ProviderError) else Usage()
            found = explain(error, begun)
            failure = Failure(found.kind, self.access.redactor.redact(found.message), int(found.code))
        out_of_time = result is not None and result["seconds"] >= self.access.settings.limits.seconds
        return Solved(run_id, result, failure, usage, counts.calls, counts.valid, out_of_time)

    def _request(self, repository: Repository, task: BenchTask) -> CodegenRequest:
        from miyabi_cli.codegen.request import CodegenRequest, Wishes

        return CodegenRequest(
            task=task.prompt,
            requested_checks=(task.test_command,) if task.visible and task.test_command else (),
            attempts=self.values["attempts"],
            wishes=Wishes(tests=self.values["tests"], docs=False),
            cost_capped=self.values["max_cost"] is not None,
            folder=repository.root,
        )

    def _settings(self, worktrees: Path) -> Settings:
        settings = self.access.settings
        changed: dict[str, Any] = {"path": worktrees, "keep": False}
        if self.own_settings:
            return settings.model_copy(update={"worktree": settings.worktree.model_copy(update=changed)})
        changed |= {"include": (), "setup": ()}
        return settings.model_copy(update={"checks": (), "worktree": settings.worktree.model_copy(update=changed)})


def sandbox_of(settings: Settings, environ: Mapping[str, str]) -> Callable[[Path], Sandbox]:
    """Return what opens a sandbox for a repository, as codegen's commands run in."""
    from miyabi_cli.workspace.policy import policy_of
    from miyabi_cli.workspace.sandbox import open_sandbox

    policy = policy_of(settings.sandbox, settings.limits)
    return lambda root: open_sandbox(settings.sandbox.mode, repository=root, environ=environ, policy=policy)
