"""Runs a repository's checks in the sandbox and compares what they gave before and after a change."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from miyabi_cli.workspace.builds import Builds, KeptBuilds, open_build
from miyabi_cli.workspace.check_records import (
    Check,
    CheckPlan,
    CheckRun,
    CheckStatus,
    Finding,
    Survey,
    TestFailure,
    TestReport,
    TestsDelta,
)
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, NO_RESULT, LinterReport
from miyabi_cli.workspace.linters.sarif import read_sarif
from miyabi_cli.workspace.modules import show_modules
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits, Outcome
from miyabi_cli.workspace.regular_files import read_regular
from miyabi_cli.workspace.runners.junit import MAXIMUM_BYTES, merge_reports, read_junit, suite_times
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.toolchains import TOOLCHAINS, recognised_toolchains, survey
from miyabi_cli.workspace.toolchains.toolchain import Folders

_READ_OUTPUT = 16_000_000  # bytes that are read for the tests' names
_KEPT_HEAD = 2_000
_KEPT_TAIL = 22_000
_MAXIMUM_REPORTS = 50
_NOT_FOUND = (126, 127)
_NO_TESTS = 5  # pytest, and unittest since Python 3.12
_NO_MODULE = re.compile(r"\S*python[\d.]*: No module named .+")
_NO_SUBCOMMAND = re.compile(r"error: (?:'cargo-\S+' is not installed for the toolchain .+|no such command: `\S+`)")
_FOLDER = re.compile(r"cd ([\w./@+-]+) && ")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def plan_checks(
    tree: Path, *, repository: Path, environ: Mapping[str, str], configured: Sequence[Check] = ()
) -> CheckPlan:
    """Return the checks of a tree, each with a name of its own, and one line for each thing they leave out.

    Checks that are configured replace those found. No code of the repository is run. A tree in which nothing is found
    has no checks.
    """
    return checks_of(survey(tree, repository=repository, environ=environ), configured)


def checks_of(seen: Survey, configured: Sequence[Check] = ()) -> CheckPlan:
    """Return the checks of a tree that has been looked at; see `plan_checks`."""
    chains = recognised_toolchains(seen.files)
    plans = [CheckPlan(tuple(configured))] if configured else [chain.find(seen) for chain in chains]
    checks = [check for plan in plans for check in plan.checks]
    variables = {key: value for chain in chains for key, value in chain.variables(seen).items()}
    given = [replace(check, environment=tuple({**variables, **dict(check.environment)}.items())) for check in checks]
    return CheckPlan(_named_apart(given), tuple(note for plan in plans for note in plan.notes))


async def run_checks(
    checks: Sequence[Check],
    place: Place,
    sandbox: Sandbox,
    *,
    limits: Limits | None = None,
    builds: Builds | KeptBuilds | None = None,
    of_base: bool = False,
    started: Callable[[Check], None] | None = None,
    ended: Callable[[CheckRun], None] | None = None,
) -> tuple[CheckRun, ...]:
    """Run checks one after the other; raises what the sandbox raises.

    They build upon what `builds` has of the base, or leave it there where the tree is the base's (`of_base`).
    A time-out, or a `--check` whose command is not found, is `fail`. Any other check whose tool is missing or that
    found no test to run is `skip`. `limits` gives all limits but time and output.
    """
    runs = []
    place = await asyncio.to_thread(show_modules, place, sandbox)
    async with open_build(builds, of_base=of_base) as build:
        for check in checks:
            if started:
                started(check)
            run = await _run_check(check, place, sandbox, limits or Limits(), build)
            runs.append(run)
            if ended:
                ended(run)
    return tuple(runs)


def compare_runs(before: CheckRun | None, after: CheckRun) -> TestsDelta:
    """Compare two runs of a check, test by test, in the order of the run before.

    A test that passed and is not reported or skipped after is broken: nothing vouches for it any more. What failed as
    a whole before, as a file that can't be loaded or a package that does not compile, is fixed by its tests.
    """
    if before is None:
        return TestsDelta()
    statuses = [(name, status, after.tests.get(name)) for name, status in before.tests.items()]
    return TestsDelta(
        fixed=tuple(name for name, was, now in statuses if was == "fail" and (now or _loads(name, after)) == "pass"),
        broken=tuple(name for name, was, now in statuses if was == "pass" and now != "pass"),
        still_failing=tuple(name for name, was, now in statuses if (was, now) == ("fail", "fail")),
    )


def _loads(group: str, run: CheckRun) -> CheckStatus | None:
    """Return "pass" for a file or package that has tests in this run, none of which fails."""
    members = [status for name, status in run.tests.items() if name.startswith(f"{group}::")]
    return "pass" if members and "fail" not in members else None


def _named_apart(checks: Sequence[Check]) -> tuple[Check, ...]:
    taken: dict[str, Check] = {}
    for check in checks:
        name, number = check.name, 2
        while name in taken:
            name, number = f"{check.name} {number}", number + 1
        taken[name] = replace(check, name=name)
    return tuple(taken.values())


async def _run_check(check: Check, place: Place, sandbox: Sandbox, limits: Limits, build: Path) -> CheckRun:
    # made anew for each run, outside the tree; its folders are the mounts, so a command can't replace them
    with tempfile.TemporaryDirectory(prefix="miyabi-check-", ignore_cleanup_errors=True) as private:
        reports, leftovers, tools = (_folder(Path(private), name) for name in ("reports", "leftovers", "tools"))
        folders = Folders(reports, leftovers, build, tools)
        _put_files(tools)
        writable = tuple((path, path) for path in (reports, leftovers, build))
        tree = str(sandbox.inside(place))
        outcome = await sandbox.run(
            check.command,
            replace(place, writable=(*place.writable, *writable), readable=(*place.readable, (tools, tools))),
            limits=replace(limits, seconds=check.timeout, output_bytes=_READ_OUTPUT),
            environment=_environment(check, tree, folders),
        )
        report = await asyncio.to_thread(_read_reports, reports, outcome)
    return _check_run(check, outcome, report, tree)


def _folder(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


def _put_files(folder: Path) -> None:
    for chain in TOOLCHAINS:
        for name, text in chain.files.items():
            (folder / name).write_text(text)


def _environment(check: Check, tree: str, folders: Folders) -> dict[str, str]:
    places = (("{tree}", tree), ("{builds}", str(folders.builds)))
    variables = dict(check.environment) | dict(check.alone)
    for name, path in places:
        variables = {key: value.replace(name, path) for key, value in variables.items()}
    for chain in TOOLCHAINS:
        variables |= chain.environment(replace(check, environment=tuple(variables.items())), folders)
    return variables


def _read_reports(folder: Path, outcome: Outcome) -> TestReport:
    """Read what the runners wrote to the folder, else what they printed."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".xml", ".json"))[:_MAXIMUM_REPORTS]
    reports = [_read_report(folder, path) for path in paths]
    if not any(report.tests or report.failures for report in reports) and not outcome.omitted_bytes:
        output = _plain(outcome.output)
        reports += [chain.read_output(output) for chain in TOOLCHAINS]
    report = merge_reports(reports)
    return TestReport({}, report.failures) if outcome.timed_out else report


def _read_report(folder: Path, path: Path) -> TestReport:
    data = read_regular(path, MAXIMUM_BYTES)
    if data is None:
        return TestReport()
    own = (chain.read_report(path.name, data) for chain in TOOLCHAINS)
    report = next((found for found in own if found is not None), None) or read_junit(data)
    if path.name == "pytest.xml" and _was_overwritten(folder, path, data):  # other runners write a file each time
        return TestReport({}, report.failures, overwritten=True)
    return report


def _was_overwritten(folder: Path, path: Path, data: bytes) -> bool:
    """Say whether two runs of pytest wrote one file, of which only the second is left.

    The folder's time is that of the file's creation, at the end of the first run; the file's that of the last
    writing. A second run started after the one and lies whole between the two, while one run writes at once.
    """
    created, written = folder.stat().st_mtime, path.lstat().st_mtime
    seconds, started = suite_times(data)
    return written - created > max(0.05, seconds) and (started is None or started > created)


def _check_run(check: Check, outcome: Outcome, report: TestReport, tree: str) -> CheckRun:
    def relative(text: str) -> str:
        return text.replace(f"{tree.rstrip('/')}/", "") if tree.strip("/") else text

    plain = _plain(outcome.output)
    linted = _lint_report(check, plain)
    output = relative(linted.output)
    if outcome.timed_out:
        output += f"\ntimed out after {check.timeout:g} s"
    return CheckRun(
        name=check.name,
        command=check.command,
        status=_status(check, outcome, report, plain),
        seconds=outcome.seconds,
        tests={relative(name): status for name, status in report.tests.items()},
        output=_bounded(output),
        exit_code=outcome.exit_code,
        failures=tuple(
            TestFailure(relative(failure.name), relative(failure.message), relative(failure.details))
            for failure in report.failures
        ),
        conclusive=not outcome.timed_out and outcome.exit_code < 124,  # 124: `timeout`'s; 126, 127: no tool; signals
        reported=bool(report.tests) or report.overwritten,
        findings=tuple(_placed(check, replace(found, path=relative(found.path))) for found in linted.findings),
        unread=_unread(linted, outcome),
    )


def _lint_report(check: Check, output: str) -> LinterReport:
    """Return what a linter found, and what a check printed as a person reads it."""
    if linter := linter_of(check.command):
        return linter.read(output)
    if (report := read_sarif(output)) is not None:
        return report
    for chain in TOOLCHAINS:
        output = chain.shown_output(output)
    return LinterReport((), output, NO_RESULT)


def _unread(linted: LinterReport, outcome: Outcome) -> str:
    """Return why findings may be missing, "" where all are read."""
    if outcome.omitted_bytes:
        return f"it printed over {_READ_OUTPUT // 1_000_000} MB"
    if len(linted.findings) >= MAXIMUM_FINDINGS:
        return f"it has over {MAXIMUM_FINDINGS:,} findings"
    return linted.unread


def _placed(check: Check, finding: Finding) -> Finding:
    """Return a finding with its path from the top of the tree: a check of a nested project begins with `cd FOLDER`."""
    folder = _FOLDER.match(check.command)
    if folder is None or finding.path.startswith((f"{folder[1]}/", "/")):
        return finding
    return replace(finding, path=f"{folder[1]}/{finding.path}")


def _status(check: Check, outcome: Outcome, report: TestReport, output: str) -> CheckStatus:
    if not check.requested and not outcome.timed_out and _says_nothing(outcome, report, output):
        return "skip"
    # Code under test can end the runner with exit code 0; what was reported by then stays.
    fails = outcome.exit_code != 0 or outcome.timed_out or "fail" in report.tests.values()
    return "fail" if fails else "pass"


def _says_nothing(outcome: Outcome, report: TestReport, output: str) -> bool:
    """Say whether the check's tool is missing or had no test to run."""
    if outcome.exit_code in _NOT_FOUND:
        return True
    if report.tests:
        return False
    if outcome.exit_code == _NO_TESTS or any(chain.found_no_test(output) for chain in TOOLCHAINS):
        return True
    text = output.strip()
    if outcome.exit_code == 1:
        first, last = text.partition("\n")[0], text.rpartition("\n")[2]
        return bool(_NO_MODULE.fullmatch(last) or _NO_SUBCOMMAND.fullmatch(first))
    return outcome.exit_code == 101 and bool(_NO_SUBCOMMAND.match(text))


def _plain(text: str) -> str:
    return _ESCAPE.sub("", text).replace("\r\n", "\n")


def _bounded(text: str) -> str:
    if len(text) <= _KEPT_HEAD + _KEPT_TAIL:
        return text
    left_out = len(text) - _KEPT_HEAD - _KEPT_TAIL
    return f"{text[:_KEPT_HEAD]}\n… {left_out} characters left out …\n{text[-_KEPT_TAIL:]}"
