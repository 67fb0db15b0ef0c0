"""Running the checks on a patch, in a worktree that the agent never touched, and judging what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from miyabi_cli.codegen.concerns import Concern, bounded, of_documentation, of_findings, of_new_tests, of_tests
from miyabi_cli.codegen.documenting import is_documentable, undocumented
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.result import CheckReport, Status
from miyabi_cli.codegen.setting_up import set_up
from miyabi_cli.codegen.verdict import Verdict, added_tests, asked_tests, judge, needs_base_rerun
from miyabi_cli.events import CheckEnded, CheckStarted, Stage
from miyabi_cli.workspace.base_tests import with_base_tests
from miyabi_cli.workspace.builds import Builds
from miyabi_cli.workspace.check_records import Check, CheckRun
from miyabi_cli.workspace.checks import run_checks
from miyabi_cli.workspace.diffs import parse_diff
from miyabi_cli.workspace.staging import Staged, blobs_of, tree_of, with_paths_of
from miyabi_cli.workspace.toolchains import is_test_path
from miyabi_cli.workspace.trees import LINK, SUBMODULE
from miyabi_cli.workspace.workspaces import discard
from miyabi_cli.workspace.worktrees import Worktree, create_worktree, open_worktree

CHECKS = "checks-"  # how the names of the worktrees for checks begin
SHORTEST_TIMEOUT = 10.0  # seconds
SLOWER = 5.0  # times as long as before the patch
QUICKER = 0.1  # of the time after which a base that loops for ever was stopped
MANY_TRIES_SHARE = 0.25  # of the run's time, for the checks on the base


@dataclass(frozen=True, slots=True)
class Judged:
    """What the checks say of a patch. `to_mend` are the failing runs that a model could be told of;
    `by_base_tests`: they are those with the base's copies of the tests, since with the patch's own nothing fails.

    `concerns` are what there is to say of it all the same; they are looked for in a verified patch, and in part in any.
    """

    status: Status
    reason: str
    to_mend: tuple[CheckRun, ...]
    runs: tuple[CheckRun, ...]
    reports: tuple[CheckReport, ...]
    remarks: tuple[str, ...]
    tests_added: int
    concerns: tuple[Concern, ...] = ()
    by_base_tests: bool = False

    @property
    def settled(self) -> bool:
        """Say whether nothing is left to wish for: verified, and nothing fails any more or something was fixed."""
        fixed = any(report.tests.fixed for report in self.reports)
        return self.status == "verified" and (fixed or not self.to_mend)

    @property
    def failing(self) -> frozenset[tuple[str, str]]:
        """What fails: (check, test), with "" for the check itself."""
        tests = {(run.name, name) for run in self.runs for name, status in run.tests.items() if status == "fail"}
        return frozenset(tests | {(run.name, "") for run in self.runs if run.status == "fail"})

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
        weakened = tuple(of_tests(parse_diff(staged.patch)))
        if not plan.checks:
            return _judged(judge(paths, (), (), ()), (), (), 0, weakened)
        after = await self._run(staged.tree, "after")
        rerun: tuple[CheckRun, ...] | None = None
        restored = needs_base_rerun(paths)
        tree = await asyncio.to_thread(with_base_tests, plan.workspace, staged.tree, plan.base, staged.files, restored)
        if tree != staged.tree:
            rerun = await self._run(tree, "base_copies")
        asked = asked_tests(plan.asked, plan.base_runs)
        verdict = judge(paths, plan.checks, plan.base_runs, after, rerun, asked)
        added = added_tests(plan.base_runs, after)
        concerns = [*weakened, *of_findings(plan.base_runs, after)]
        if verdict.status == "verified":
            concerns += [*await self._of_new_tests(staged, added), *await self._of_documentation(staged)]
        judged = _judged(verdict, plan.base_runs, after, sum(map(len, added.values())), bounded(concerns))
        if rerun and verdict.status == "unverified" and not judged.to_mend:
            return replace(judged, to_mend=_to_mend(rerun, plan.base_runs), by_base_tests=True)
        return judged

    async def _of_new_tests(self, staged: Staged, added: Mapping[str, Sequence[str]]) -> tuple[Concern, ...]:
        """Run the checks that have new tests on the base with the patch's tests alone: those must fail there."""
        plan = self._plan
        tests = [change.path for change in staged.files if is_test_path(change.path) and change.status != "deleted"]
        if not (plan.wishes.tests and tests and any(added.values())):
            return ()
        base_tree = await asyncio.to_thread(tree_of, plan.workspace, plan.base)
        tree = await asyncio.to_thread(with_paths_of, plan.workspace, base_tree, staged.tree, tests)
        runs = await self._run(tree, "tests_alone", only={name for name, names in added.items() if names})
        ends = {run.name: run.tests for run in runs}
        return tuple(one for name, names in added.items() for one in of_new_tests(names, ends.get(name, {})))

    async def _of_documentation(self, staged: Staged) -> tuple[Concern, ...]:
        """Look for documentation of what the patch adds, outside of tests."""
        plan = self._plan
        if not plan.wishes.docs:
            return ()
        added = {diff.path: {line.new or 0 for line in diff.added} for diff in parse_diff(staged.patch)}
        changes = [change for change in staged.files if is_documentable(change.path) and not is_test_path(change.path)]
        wanted = [
            change for change in changes if change.status != "deleted" and change.new_mode not in (LINK, SUBMODULE)
        ]
        contents = await asyncio.to_thread(blobs_of, plan.workspace, [change.new_id for change in wanted])
        found = zip(wanted, contents, strict=True)
        return tuple(
            concern
            for change, content in found
            for concern in of_documentation(undocumented(change.path, content, added.get(change.path, ())))
        )

    async def _run(self, tree: str, stage: Stage, *, only: Container[str] | None = None) -> tuple[CheckRun, ...]:
        worktree = await checks_worktree(self._plan, self._attempt)
        if self._has_run:  # ignored files outlast a switch, and those of a patch must not speak for the next
            await asyncio.to_thread(discard, worktree.folder)
            worktree = await checks_worktree(self._plan, self._attempt)
        self._has_run = True
        await asyncio.to_thread(worktree.switch, tree)
        return await run_and_tell(self._plan, worktree, self._attempt, stage, only)


async def checks_worktree(plan: Plan, attempt: int) -> Worktree:
    """Return the attempt's worktree for checks; the first attempt goes on in that of the base's checks."""
    name = f"{CHECKS}{max(attempt, 1)}"
    worktree = await asyncio.to_thread(open_worktree, plan.workspace, name)
    if worktree is None:
        worktree = await asyncio.to_thread(create_worktree, plan.workspace, plan.base, name, plan.include)
        await set_up(plan, worktree)
    return worktree


async def run_and_tell(
    plan: Plan, worktree: Worktree, attempt: int, stage: Stage, only: Container[str] | None = None
) -> tuple[CheckRun, ...]:
    """Run the plan's checks, or those with the names of `only`, in a worktree; tell of each as it starts and ends."""

    def started(check: Check) -> None:
        plan.voice.emit(CheckStarted(attempt, stage, check.name, check.command))

    def ended(run: CheckRun) -> None:
        plan.voice.emit(CheckEnded(attempt, stage, run.name, run.status, round(run.seconds, 3), run.output))

    wanted = [check for check in plan.checks if only is None or check.name in only]
    checks = [_bounded(plan, check, stage) for check in wanted]
    builds, of_base = Builds(plan.workspace.builds), stage == "before"
    place = worktree.place()
    return await run_checks(checks, place, plan.sandbox, builds=builds, of_base=of_base, started=started, ended=ended)


def _bounded(plan: Plan, check: Check, stage: Stage) -> Check:
    """Give the base's checks no more than the run's time. A small model tries many patches, and now and then one loops
    for ever: they get less than others, and where the base does so it leaves time for them.
    """
    left = plan.allowance.seconds_left()
    tries_many = plan.profile.editing == "rewrite"
    if stage == "before":
        share = left and left * (MANY_TRIES_SHARE if tries_many else 1.0)
        return check if share is None else replace(check, timeout=min(check.timeout, max(1.0, share)))
    before = next((run for run in plan.base_runs if run.name == check.name), None)
    if before is None or not tries_many:
        return check
    usual = SLOWER * before.seconds if before.conclusive else QUICKER * before.seconds
    return replace(check, timeout=min(check.timeout, max(SHORTEST_TIMEOUT, usual)))


def _judged(
    verdict: Verdict,
    before: Sequence[CheckRun],
    runs: Sequence[CheckRun],
    tests_added: int,
    concerns: tuple[Concern, ...],
) -> Judged:
    return Judged(
        status=verdict.status,
        reason="; ".join(verdict.reasons),
        to_mend=() if verdict.fully_passing else _to_mend(runs, before),
        runs=tuple(runs),
        reports=verdict.checks,
        remarks=verdict.remarks,
        tests_added=tests_added,
        concerns=concerns,
    )


def _to_mend(runs: Sequence[CheckRun], before: Sequence[CheckRun]) -> tuple[CheckRun, ...]:
    return tuple(run for run in runs if run.status == "fail" and not _failed_before(run, before))


def _failed_before(run: CheckRun, before: Sequence[CheckRun]) -> bool:
    """Say whether it is a linter that failed before: to mend all that it finds is not the task, and what it finds
    anew is a concern."""
    failed = any(other.name == run.name and other.status == "fail" for other in before)
    return failed and bool(run.findings) and not run.tests
