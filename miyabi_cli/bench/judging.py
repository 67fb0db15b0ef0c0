"""What a task's hidden tests, and a linter, say of what an agent has left; run in the sandbox, from the task's objects.

The tree that is judged is made of git's objects: the agent's, with what decides how tests run as the task began with
it, and the hidden tests over that. So nothing that a patch did to tests or their settings counts.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from miyabi_cli.bench.repositories import AUTHOR, hidden_tests
from miyabi_cli.bench.tasks import BenchTask
from miyabi_cli.workspace.base_tests import with_base_tests
from miyabi_cli.workspace.check_records import Check, CheckPlan, CheckRun
from miyabi_cli.workspace.checks import plan_checks, run_checks
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.linters import linter_of, new_findings
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.snapshots import write_commit
from miyabi_cli.workspace.toolchains import touches_tests
from miyabi_cli.workspace.trees import compare_trees, edit_tree, tree_id
from miyabi_cli.workspace.workspaces import Workspace
from miyabi_cli.workspace.worktrees import Worktree, create_worktree, remove_worktree

_PYTEST = re.compile(r"^(?:cd \S+ && )?\S+ -m pytest -q$")
_FOLDER = re.compile(r"^cd (\S+) && ")
# By the ending of what a patch changes; run where the tool is installed, as the repository sets it or by default.
LINTERS: Mapping[str, tuple[str, str]] = {
    ".py": ("ruff", "ruff check --no-fix --no-cache"),
    ".rs": ("clippy", "cargo clippy --offline --quiet --all-targets"),
    ".go": ("vet", "go vet ./..."),
    ".js": ("eslint", "npx --no-install eslint ."),
}
LINT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What the hidden tests gave: `tests` is each one's status by name where the runner told; `output` for a person.

    `problem`: "" or why nothing can be said (no runner was found, say).
    """

    passed: bool
    tests: Mapping[str, str]
    timed_out: bool = False
    problem: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Court:
    """Where judgements are made: the task's repository, a workspace on it, a sandbox, and the caller's environment."""

    repository: Repository
    workspace: Workspace
    sandbox: Sandbox
    environ: Mapping[str, str]

    @property
    def git(self) -> Git:
        return Git(self.workspace.git_dir)

    async def judge(self, task: BenchTask, commit: str, name: str = "judged") -> Judged:
        """Run the hidden tests on a commit or tree (an id) of the repository. Raises what git and the sandbox raise."""
        tree = await asyncio.to_thread(self._judged_tree, task, commit)
        worktree = await asyncio.to_thread(self._worktree, tree, name)
        try:
            plan = await asyncio.to_thread(self.test_plan, task, worktree)
            if not plan.checks:
                return Judged(False, {}, problem=": ".join(("no runner was found for the hidden tests", *plan.notes)))
            runs = await run_checks(plan.checks, worktree.place(), self.sandbox)
        finally:
            await asyncio.to_thread(remove_worktree, worktree)
        return _judgement(task, runs)

    async def lint_clean(self, commit: str) -> bool | None:
        """Say whether linters find nothing in a commit that they don't find in the base; None where none could run."""
        base = self.repository.head
        changes = await asyncio.to_thread(compare_trees, self.git, base, commit)
        endings = {f".{change.path.rpartition('.')[2]}" for change in changes}
        checks = [Check(*LINTERS[ending], timeout=LINT_SECONDS) for ending in sorted(endings & LINTERS.keys())]
        if not checks:
            return None
        after = await self._linted(commit, checks)
        told = [run for run in after if _tells(run)]
        if not any(run.findings or run.status == "fail" for run in told):
            return True if told else None
        before = await self._linted(base, checks)
        known = [(old, new) for old, new in zip(before, after, strict=True) if _tells(old) and _tells(new)]
        if not known:
            return None
        return not any(new_findings(old.findings, new.findings) or _fails_anew(old, new) for old, new in known)

    def test_plan(self, task: BenchTask, worktree: Worktree) -> CheckPlan:
        """Return the commands that run a task's hidden tests, and what keeps others from running."""
        if task.test_command:
            return CheckPlan((Check("hidden tests", task.test_command, timeout=task.timeout, requested=True),))
        plan = plan_checks(worktree.tree, repository=self.repository.root, environ=self.environ)
        tests = [check for check in plan.checks if linter_of(check.command) is None]
        narrowed = (replace(_narrowed(check, task.hidden_paths), timeout=task.timeout) for check in tests)
        return CheckPlan(tuple(narrowed), plan.notes)

    async def _linted(self, tree: str, checks: Sequence[Check]) -> tuple[CheckRun, ...]:
        worktree = await asyncio.to_thread(self._worktree, tree, "linted")
        try:
            return await run_checks(checks, worktree.place(), self.sandbox)
        finally:
            await asyncio.to_thread(remove_worktree, worktree)

    def _judged_tree(self, task: BenchTask, commit: str) -> str:
        base, git = self.repository.head, self.git
        changes = compare_trees(git, base, commit)
        editable = set(task.editable)
        guarded = [change.path for change in changes if touches_tests([change.path]) and change.path not in editable]
        tree = with_base_tests(self.workspace, tree_id(git, commit), base, changes, guarded)
        return edit_tree(git, tree, hidden_tests(task, git))

    def _worktree(self, tree: str, name: str) -> Worktree:
        # A worktree is of a commit; this one lies in the workspace alone.
        commit = write_commit(self.git, tree_id(self.git, tree), self.repository.head, "judged", AUTHOR)
        return create_worktree(self.workspace, commit, name)


def _judgement(task: BenchTask, runs: Sequence[CheckRun]) -> Judged:
    tests: dict[str, str] = {}
    for run in runs:
        for name, status in run.tests.items():
            tests[name] = "fail" if "fail" in (status, tests.get(name)) else status
    output = "\n".join(run.output for run in runs if run.status != "pass")[-4000:]
    timed_out = any(not run.conclusive and run.status == "fail" for run in runs)
    if task.must_pass:
        return Judged(all(tests.get(name) == "pass" for name in task.must_pass), tests, timed_out, output=output)
    if all(run.status == "skip" for run in runs):
        return Judged(False, tests, problem="the hidden tests' runner is missing, or found no test", output=output)
    passed = all(run.status == "pass" for run in runs)
    if not task.test_command:  # code under test can end a runner with 0 before it has told of any test
        passed = passed and "pass" in tests.values()
    return Judged(passed, tests, timed_out, output=output)


def _narrowed(check: Check, paths: Sequence[str]) -> Check:
    """Return a check that runs the test files alone, where its runner takes their names."""
    if not _PYTEST.fullmatch(check.command):
        return check
    folder = match[1] if (match := _FOLDER.match(check.command)) else ""
    below = [path.removeprefix(f"{folder}/") if folder else path for path in paths]
    files = [path for path in below if re.search(r"(?:^|/)(?:test_[^/]*|[^/]*_test|tests)\.py$", path)]
    return replace(check, command=f"{check.command} {' '.join(map(shlex.quote, files))}") if files else check


def _tells(run: CheckRun) -> bool:
    """Say whether a linter ran: it is there, and found something or ended well, or failed by what it found."""
    return run.status != "skip" and run.conclusive


def _fails_anew(before: CheckRun, after: CheckRun) -> bool:
    return before.status == "pass" and after.status == "fail"
