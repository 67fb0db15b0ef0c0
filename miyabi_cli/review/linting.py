"""Linters, type checkers and compilers as a source: what they say of changed lines, and did not say of the base."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.errors import MiyabiError
from miyabi_cli.places import cache_dir
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.checkouts import Checkouts
from miyabi_cli.review.findings import Dropped, Finding, Level, Skipped, SourceResult
from miyabi_cli.review.linter_caches import with_cache
from miyabi_cli.review.means import ReviewMeans
from miyabi_cli.workspace import check_records
from miyabi_cli.workspace.check_cache import CheckCache, check_key
from miyabi_cli.workspace.check_records import Check, CheckPlan, CheckRun
from miyabi_cli.workspace.checks import run_checks
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.linters.linter import NO_RESULT
from miyabi_cli.workspace.linters.planning import plan_linters
from miyabi_cli.workspace.modules import show_modules
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.staging import with_paths_of
from miyabi_cli.workspace.toolchains import is_test_configuration

ELSEWHERE = "not on a changed line"
KNOWN = "there before the change"
_TOOL_SETTINGS = ("staticcheck.conf", ".eslintignore")
_TOOL_FOLDERS = {"node_modules", ".cargo"}  # the linters themselves, and what runs in their place
_LEVELS: Mapping[str, Level] = {"critical": "critical", "high": "high", "medium": "medium", "low": "low"}
_NUMBER = re.compile(r"\d+")
# Paths that stand whole on one line of text, and end where a line's number begins.
_PLAIN = re.compile(r"(?!\s)(?:(?!:\d+:)[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff])+")


@dataclass(frozen=True, slots=True)
class _Lint:
    """What linters run on: a change's two trees (ids), checked out when they are needed."""

    change: Change
    means: ReviewMeans
    checkouts: Checkouts
    sandbox: Sandbox
    base: str
    head: str


async def find_by_linters(change: Change, means: ReviewMeans) -> SourceResult:
    """Run the linters that the repository is set up for, side by side; the base is looked at only where one finds
    something on a changed line."""
    if not change.reviewed:
        return SourceResult()
    base, head = change.base_tree, change.head_tree
    if means.checkouts is None or means.sandbox is None or head is None or base is None:
        return SourceResult(
            skipped=(Skipped("", "linters: there is a diff alone, and no files to run them on"),), ran=False
        )
    try:
        return await _lint(_Lint(change, means, means.checkouts, means.sandbox, base, head))
    except MiyabiError as error:
        reason = f"linters: {error.message}"
        return SourceResult(skipped=(Skipped("", reason),), complete=False, error=error)


async def _lint(lint: _Lint) -> SourceResult:
    means = lint.means
    head = await asyncio.to_thread(_linted_tree, lint)
    plan = await asyncio.to_thread(_plan, lint, (await lint.checkouts.of(head)).tree)
    if not plan.checks:
        return SourceResult(skipped=tuple(Skipped("", note) for note in plan.notes), ran=False)
    checks = [replace(check, timeout=means.seconds_left(check.timeout)) for check in plan.checks]
    means.tell(f"linters: {', '.join(check.name for check in checks)}")
    results = await _run_side_by_side(lint, checks, head)
    return SourceResult(
        findings=tuple(finding for result in results for finding in result.findings),
        dropped=tuple(dropped for result in results for dropped in result.dropped),
        skipped=(
            *(Skipped("", note) for note in plan.notes),
            *(skipped for result in results for skipped in result.skipped),
        ),
        complete=all(result.complete for result in results),
        limit=any(result.limit for result in results),
        ran=any(result.ran for result in results),
    )


async def _run_side_by_side(lint: _Lint, checks: Sequence[Check], head: str) -> list[SourceResult]:
    """Run linters as many at a time as there are processors; each is compared with the base while others still run."""
    worktree = await lint.checkouts.of(head)
    await asyncio.to_thread(show_modules, worktree.place(), lint.sandbox)  # while no command is in the tree
    gate = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(check: Check) -> SourceResult:
        async with gate:
            done = await _run(lint, check, head)
        return await _compare(lint, check, done)

    tasks = [asyncio.create_task(run(check)) for check in checks]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(lint: _Lint, check: Check, tree: str) -> CheckRun:
    """Return what a linter says of one of the trees; it is kept, for the next review may be of the same.

    Not of a change that is not trusted, nor what a tool says that is not known: it may go by more than the files.
    """
    checkouts = lint.checkouts
    repository = checkouts.repository.root
    cache = CheckCache(cache_dir("checks"))
    key = check_key(
        tree,
        [replace(check, timeout=0)],
        sandbox_kind=lint.sandbox.kind,
        repository=repository,
        environ=lint.means.environ,
        extra=("review", lint.means.settings.sandbox.model_dump_json(), *checkouts.include),
    )
    is_kept = tree == lint.base or (linter_of(check.command) is not None and not lint.change.untrusted)
    known = await asyncio.to_thread(cache.get, key) if is_kept else None
    if known is None:
        place = (await checkouts.of(tree)).place()
        cached, kept = with_cache(check, repository, untrusted=lint.change.untrusted)
        known = await run_checks([cached], place, lint.sandbox, builds=kept)
        if is_kept and not _problem(known[0]):
            await asyncio.to_thread(cache.put, key, known)
    return known[0]


def _linted_tree(lint: _Lint) -> str:
    """Return the tree that is linted: of somebody else's change with the settings of the base, for they are code."""
    change = lint.change
    if not change.untrusted:
        return lint.head
    paths = {path for file in change.files for path in (file.path, file.old_path) if _configures(path)}
    return with_paths_of(lint.checkouts.workspace, lint.head, lint.base, sorted(paths)) if paths else lint.head


def _configures(path: str) -> bool:
    *folders, name = path.split("/")
    is_tool = name in _TOOL_SETTINGS or name.startswith(("bandit.", ".bandit")) or not _TOOL_FOLDERS.isdisjoint(folders)
    return is_tool or is_test_configuration(path)


def _plan(lint: _Lint, tree: Path) -> CheckPlan:
    settings = lint.means.settings
    checks = [Check(check.name, check.command, check.timeout) for check in settings.checks]
    tools = [Check(tool.name, tool.command, tool.timeout) for tool in settings.review.tools]
    changed = [file.path for file in lint.change.reviewed if file.status != "deleted"]
    repository = lint.checkouts.repository.root
    environ = lint.means.environ
    return plan_linters(tree, changed, repository=repository, environ=environ, configured=checks, tools=tools)


async def _compare(lint: _Lint, check: Check, run: CheckRun) -> SourceResult:
    """Return what a linter's run says of the change, in comparison with the base."""
    if problem := _problem(run):
        timed_out = not run.conclusive and run.status == "fail"
        return SourceResult(
            skipped=(Skipped("", problem),),
            complete=run.status == "skip",
            limit=timed_out and lint.means.is_late(),
            ran=False,
        )
    on_change: list[check_records.Finding] = []
    elsewhere: list[check_records.Finding] = []
    for found in run.findings:
        file = lint.change.by_path.get(found.path)
        (on_change if file and _touches(file, found) else elsewhere).append(found)
    dropped = [Dropped(ELSEWHERE, len(elsewhere))] if elsewhere else []
    if any(lint.change.by_path[found.path].status != "created" for found in on_change):
        before = await _base_run(lint, check)
        fresh = _new(before.findings if before else (), elsewhere, on_change, _moved(lint.change))
        dropped += [Dropped(KNOWN, len(on_change) - len(fresh))] if len(fresh) < len(on_change) else []
        on_change = fresh
    skipped = [Skipped("", f"{run.name} did not read all: {run.unread}")] if run.unread else []
    skipped += [
        Skipped(path, f"{run.name} can't tell of a file of such a name") for path in _untold(check, lint.change)
    ]
    findings = tuple(map(_finding, on_change))
    return SourceResult(findings, dropped=tuple(dropped), skipped=tuple(skipped), complete=not skipped)


def _untold(check: Check, change: Change) -> list[str]:
    """Return the files of a linter of which its output, `path:line:column: message`, does not tell beyond doubt."""
    linter = linter_of(check.command)
    paths = [file.path for file in change.reviewed if file.status != "deleted" and not _PLAIN.fullmatch(file.path)]
    return [path for path in paths if linter and any(fnmatchcase(path, pattern) for pattern in linter.files)]


def _problem(run: CheckRun) -> str:
    """Return why a run says nothing of the code, "" where it does: a linter that found something fails, too."""
    last = " ".join(run.output.strip().rpartition("\n")[2].split())[:200]
    if run.status == "skip":
        return f"{run.name} is not there: {last}" if last else f"{run.name} is not there"
    if not run.conclusive:
        return f"{run.name} did not come to its end: {last or f'exit code {run.exit_code}'}"
    if run.status == "fail" and not run.findings:
        return f"{run.name} failed and told no finding: {last or f'exit code {run.exit_code}'}"
    if run.unread == NO_RESULT:
        return f"{run.name} failed: {run.unread}"
    return ""


def _touches(file: ChangedFile, found: check_records.Finding) -> bool:
    """Say whether a finding is on a changed line; one of a whole file counts for a new file."""
    if not found.line:
        return file.status == "created"
    if found.line in file.added:
        return True
    # the place of a construct is its first line, so that only a short one is looked through
    return any(line in file.added for line in range(found.line, min(found.end_line, found.line + 20) + 1))


async def _base_run(lint: _Lint, check: Check) -> CheckRun | None:
    """Return what a linter gives on the base; None where it can't run there."""
    lint.means.tell(f"{check.name} on the base")
    run = await _run(lint, _on_base(check, lint.change), lint.base)
    return None if _problem(run) else run


def _on_base(check: Check, change: Change) -> Check:
    """Return a check whose command names files with the names that these have in the base."""
    command = check.command
    if check.name.startswith("bandit"):
        for file in change.reviewed:
            if file.old_path != file.path:
                command = command.replace(f"./{file.path}", f"./{file.old_path}")
    return replace(check, command=command)


def _moved(change: Change) -> Mapping[str, str]:
    return {file.old_path: file.path for file in change.files if file.old_path != file.path}


def _new(
    before: Iterable[check_records.Finding],
    elsewhere: Iterable[check_records.Finding],
    on_change: Sequence[check_records.Finding],
    moved: Mapping[str, str],
) -> list[check_records.Finding]:
    """Return what is new of the findings on changed lines.

    Lines move, so they are not compared: a finding of the base is first looked for among those on lines that the
    change left alone, and what remains may be a line that was only edited.
    """
    known = Counter(_identity(replace(found, path=moved.get(found.path, found.path))) for found in before)
    known.subtract(Counter(map(_identity, elsewhere)))
    fresh = []
    for found in on_change:
        if known[_identity(found)] > 0:
            known[_identity(found)] -= 1
        else:
            fresh.append(found)
    return fresh


def _identity(found: check_records.Finding) -> tuple[str, str, str, str]:
    """Return what stays of a finding when lines move; messages name lines too."""
    return found.source, found.path, found.rule, _NUMBER.sub("#", found.message)


def _finding(found: check_records.Finding) -> Finding:
    return Finding(
        path=found.path,
        line=found.line,
        end_line=found.end_line,
        severity=found.severity,
        category=found.category or "lint",
        rule=found.rule,
        source=found.source,
        message="; ".join([found.message, *found.suggestion.splitlines()]),
        level=_LEVELS.get(found.level, ""),
    )
