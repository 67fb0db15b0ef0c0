"""Running the checks on a patch, in a worktree that the agent never touched, and judging what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.result import CheckReport, Status
from miyabi_cli.codegen.setting_up import set_up
from miyabi_cli.codegen.verdict import Verdict, asked_tests, count_tests_added, judge, needs_base_rerun
from miyabi_cli.events import CheckEnded, CheckStarted, Stage
from miyabi_cli.workspace.check_records import Check, CheckRun
from miyabi_cli.workspace.checks import run_checks
from miyabi_cli.workspace.staging import Staged, with_paths_of
from miyabi_cli.workspace.workspaces import discard
from miyabi_cli.workspace.worktrees import Worktree, create_worktree, open_worktree

CHECKS = "checks-"  # how the names of the worktrees for checks begin
SHORTEST_TIMEOUT = 10.0  # seconds
SLOWER = 5.0  # times as long as before the patch


@dataclass(frozen=True, slots=True)
class Judged:
    """What the checks say of a patch. `mendable`: something fails, and a model could be told what."""

    status: Status
    reason: str
    mendable: bool
    runs: tuple[CheckRun, ...]
    reports: tuple[CheckReport, ...]
    remarks: tuple[str, ...]
    tests_added: int

    @property
    def settled(self) -> bool:
        """Say whether nothing is left to wish for: verified, and nothing fails any more or something was fixed."""
        fixed = any(report.tests.fixed for report in self.reports)
        return self.status == "verified" and (fixed or not any(run.status == "fail" for run in self.runs))

    @property
    def broken(self) -> int:
        """Return how many tests and checks passed before and do not any more."""
        lost = sum(report.before == "pass" and report.after != "pass" for report in self.reports)
        return lost + sum(len(report.tests.broken) for report in self.reports)


class Judge:
    """Judges the patches of one attempt, each on files that are checked out from the staged tree."""

    def __init__(self, plan: Plan, attempt: int) -> None:
        self._plan = plan
        self._attempt = attempt
        self._has_run = False

    async def judge(self, staged: Staged) -> Judged:
        """Run the checks on a staged tree, and with the base's tests where the patch touches those."""
        plan = self._plan
        paths = tuple(change.path for change in staged.files)
        if not plan.checks:
            return _judged(judge(paths, (), (), ()), (), 0)
        after = await self._run(staged.tree, "after")
        rerun: tuple[CheckRun, ...] | None = None
        if restored := needs_base_rerun(paths):
            tree = await asyncio.to_thread(with_paths_of, plan.workspace, staged.tree, plan.base, restored)
            rerun = await self._run(tree, "base_copies")
        asked = asked_tests(plan.task.description, plan.base_runs)
        verdict = judge(paths, plan.checks, plan.base_runs, after, rerun, asked)
        return _judged(verdict, after, count_tests_added(plan.base_runs, after))

    async def _run(self, tree: str, stage: Stage) -> tuple[CheckRun, ...]:
        worktree = await checks_worktree(self._plan, self._attempt)
        if self._has_run:  # ignored files outlast a switch, and those of a patch must not speak for the next
            await asyncio.to_thread(discard, worktree.folder)
            worktree = await checks_worktree(self._plan, self._attempt)
        self._has_run = True
        await asyncio.to_thread(worktree.switch, tree)
        return await run_and_tell(self._plan, worktree, self._attempt, stage)


async def checks_worktree(plan: Plan, attempt: int) -> Worktree:
    """Return the attempt's worktree for checks; the first attempt goes on in that of the base's checks."""
    name = f"{CHECKS}{max(attempt, 1)}"
    worktree = await asyncio.to_thread(open_worktree, plan.workspace, name)
    if worktree is None:
        worktree = await asyncio.to_thread(create_worktree, plan.workspace, plan.base, name, plan.include)
        await set_up(plan, worktree)
    return worktree


async def run_and_tell(plan: Plan, worktree: Worktree, attempt: int, stage: Stage) -> tuple[CheckRun, ...]:
    """Run the plan's checks in a worktree, and tell of each as it starts and ends."""

    def started(check: Check) -> None:
        plan.voice.emit(CheckStarted(attempt, stage, check.name, check.command))

    def ended(run: CheckRun) -> None:
        plan.voice.emit(CheckEnded(attempt, stage, run.name, run.status, round(run.seconds, 3), run.output))

    checks = plan.checks if stage == "before" else tuple(_bounded(plan, check) for check in plan.checks)
    return await run_checks(checks, worktree.place(), plan.sandbox, started=started, ended=ended)


def _bounded(plan: Plan, check: Check) -> Check:
    """Give a small model's patches less time: it tries many, and now and then one loops for ever."""
    before = next((run.seconds for run in plan.base_runs if run.name == check.name), None)
    if before is None or plan.profile.editing != "rewrite":
        return check
    return replace(check, timeout=min(check.timeout, max(SHORTEST_TIMEOUT, SLOWER * before)))


def _judged(verdict: Verdict, runs: Sequence[CheckRun], tests_added: int) -> Judged:
    failing = any(run.status == "fail" for run in runs)
    return Judged(
        status=verdict.status,
        reason="; ".join(verdict.reasons),
        mendable=failing and not verdict.fully_passing,
        runs=tuple(runs),
        reports=verdict.checks,
        remarks=verdict.remarks,
        tests_added=tests_added,
    )
