"""The rule of `verified`: pure functions from check runs to a verdict."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from miyabi_cli.codegen.result import CheckReport
from miyabi_cli.workspace.check_records import Check, CheckRun, TestsDelta
from miyabi_cli.workspace.checks import compare_runs
from miyabi_cli.workspace.toolchains import touches_tests

_FILE = re.compile(r"\.(?:py|rs|go|[cm]?[jt]sx?)$")
_NAMED = 3  # tests that a reason names
_FIXTURES = ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule")  # unittest tells of these as of tests


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checks say of a patch.

    reasons: why it is not verified. remarks: what is still wrong with it all the same, or was not proven.
    fully_passing: verified, and no check fails any more; while it is False there may be something to mend.
    rerun: the checks once more with the base's tests, where that was needed.
    """

    status: Literal["verified", "unverified", "failed"]
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    checks: tuple[CheckReport, ...] = ()
    rerun: tuple[CheckReport, ...] = ()
    fully_passing: bool = False


def judge(
    changed_paths: Iterable[str],
    checks: Sequence[Check],
    before: Sequence[CheckRun],
    after: Sequence[CheckRun],
    rerun: Sequence[CheckRun] | None = None,
    asked: Collection[str] = (),
) -> Verdict:
    """Judge a patch; runs are matched to checks by name.

    `verified`: something changed; at least one check vouches for it (it passes, or a test in it does); every
    requested check passes after; no test of `asked` (see `asked_tests`) fails after; no check or test that passed
    before fails, is skipped or is missing after; no test that failed is got rid of. Where `needs_base_rerun` names
    paths, or tests inside of sources changed, all of that must hold in `rerun` too, and what was fixed must be fixed
    there: a test that passes only as the patch rewrote it proves nothing. A check that was not requested and failed
    before may go on failing, test for test: that is a remark. `failed`: nothing changed.
    """
    paths = tuple(changed_paths)
    if not paths:
        return Verdict("failed", reasons=("nothing was changed",), checks=_reports(checks, before, after))
    reasons, remarks = _objections(checks, before, after), list(_remarks(checks, before, after))
    if needs_base_rerun(paths) and rerun is None:
        reasons.append("the patch touches tests, and the checks were not run with the base's")
    elif rerun is not None:
        reasons += [f"with the base's tests: {reason}" for reason in _objections(checks, before, rerun)]
        reasons += [f"with the base's tests: {reason}" for reason in _fixed_by_rewriting(before, after, rerun)]
        remarks += [f"with the base's tests: {remark}" for remark in _remarks(checks, before, rerun)]
    # A patch may rename a test that it fixes; the base's own has to be there again with the base's tests.
    reasons += _got_rid_of(before, after if rerun is None else rerun)
    reasons += _unanswered(after, asked)
    fails = any(run.status == "fail" for run in after)
    return Verdict(
        status="unverified" if reasons else "verified",
        reasons=tuple(reasons),
        remarks=tuple(remarks),
        checks=_reports(checks, before, after),
        rerun=_reports(checks, before, rerun) if rerun is not None else (),
        fully_passing=not reasons and not fails,
    )


def needs_base_rerun(changed_paths: Iterable[str]) -> tuple[str, ...]:
    """Return the changed tests and test settings, for which the checks must hold with the base's copies too.

    For that run each is put back as the base has it; one that the base does not have is removed.
    """
    return tuple(path for path in changed_paths if touches_tests([path]))


def asked_tests(task: str, before: Sequence[CheckRun]) -> frozenset[str]:
    """Return the failing tests that a task names, by their own name or their file's: they are part of what is asked."""
    failing = {name for run in before for name, status in run.tests.items() if status == "fail"}
    return frozenset(name for name in failing if any(_is_named(part, task) for part in _names_of(name)))


def _names_of(test: str) -> Iterator[str]:
    """Yield how a person may name a test: `test_add`, `TestSum`, `tests/test_calc.py`, `test_calc.py`."""
    place, _, own = test.rpartition("::")
    yield own.split("[")[0]
    parts = place.split(".")
    for end in range(1, len(parts) + 1):
        yield "/".join(parts[:end]) + ".py"
    yield from (part for part in parts if part.lower().startswith("test") and part != "tests")
    if _FILE.search(place):
        yield from (place, place.rpartition("/")[2])


def _is_named(name: str, task: str) -> bool:
    return len(name) > 4 and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", task) is not None


def _unanswered(after: Sequence[CheckRun], asked: Collection[str]) -> list[str]:
    failing = [name for run in after for name in run.tests if name in asked and run.tests[name] == "fail"]
    return [f"the task names {_listed(failing)}, which still fails"] if failing else []


def added_tests(before: Sequence[CheckRun], after: Sequence[CheckRun]) -> dict[str, tuple[str, ...]]:
    """Return the tests that are reported after and were not before, by check; none where names were not known."""
    known = _by_name(before)
    added = {}
    for run in after:
        there = _names_before(known.get(run.name), run)
        added[run.name] = tuple(name for name in run.tests if name not in there)
    return added


def _names_before(before: CheckRun | None, after: CheckRun) -> Collection[str]:
    had_no_tests = before is None or before.status == "skip"
    if had_no_tests or (before and before.tests):
        return before.tests.keys() if before else ()
    return after.tests.keys()


def _objections(checks: Sequence[Check], before: Sequence[CheckRun], after: Sequence[CheckRun]) -> list[str]:
    """Return what the rule of `verified` has against the runs after."""
    if not checks:
        return ["there is no check"]
    found = [*_lost(checks, before, after), *_unmet(checks, before, after)]
    return found if found or any(map(_vouches, after)) else ["no check that could run has passed"]


def _lost(checks: Sequence[Check], before: Sequence[CheckRun], after: Sequence[CheckRun]) -> Iterator[str]:
    """Yield the checks that ran before or must run, and did not run after."""
    expected = [run.name for run in before] + [check.name for check in checks if check.requested]
    now = _by_name(after)
    yield from (f"{name} was not run" for name in dict.fromkeys(expected) if name not in now)


def _unmet(checks: Sequence[Check], before: Sequence[CheckRun], after: Sequence[CheckRun]) -> Iterator[str]:
    """Yield what a check that ran after should have given and did not."""
    known = _by_name(before)
    requested = {check.name for check in checks if check.requested}
    for run in after:
        if run.name in requested and (run.exit_code != 0 or run.status == "fail"):
            yield f"{run.name} must pass: {_ending(run)}"
        yield from _broken(known.get(run.name), run)


def _vouches(run: CheckRun) -> bool:
    return run.status == "pass" or "pass" in run.tests.values()


def _broken(before: CheckRun | None, after: CheckRun) -> Iterator[str]:
    """Yield what passed before and does not any more."""
    if before and before.tests and not after.reported:
        yield f"{after.name} reports no test any more"
    elif broken := compare_runs(before, after).broken:
        yield f"{after.name} breaks {_listed(broken)}"
    elif before and before.status == "pass" and after.status != "pass":
        yield f"{after.name} passed before: {_ending(after)}"
    elif before and before.status == "fail" and after.status == "skip":
        yield f"{after.name} failed before, and now says nothing: {_last_line(after)}"


def _remarks(checks: Sequence[Check], before: Sequence[CheckRun], after: Sequence[CheckRun]) -> Iterator[str]:
    known = _by_name(before)
    requested = {check.name for check in checks if check.requested}
    for run in after:
        previous = known.get(run.name)
        if run.status == "skip":
            yield f"{run.name} could not run: {_last_line(run)}"
        elif run.status == "fail" and run.name not in requested and (not previous or previous.status != "pass"):
            yield f"{run.name} still fails{_failing_tests(previous, run)}"


def _fixed_by_rewriting(
    before: Sequence[CheckRun], after: Sequence[CheckRun], rerun: Sequence[CheckRun]
) -> Iterator[str]:
    """Yield what is fixed after, but not with the base's tests."""
    known, again = _by_name(before), _by_name(rerun)
    for run in after:
        previous, other = known.get(run.name), again.get(run.name)
        if previous is None or other is None:
            continue
        undone = [name for name in compare_runs(previous, run).fixed if other.tests.get(name) == "fail"]
        if undone:
            yield f"{run.name} still fails in {_listed(undone)}"
        elif (previous.status, run.status, other.status) == ("fail", "pass", "fail"):
            yield f"{run.name} still fails: {_ending(other)}"


def _got_rid_of(before: Sequence[CheckRun], after: Sequence[CheckRun]) -> Iterator[str]:
    """Yield the tests that failed before and neither pass nor fail after: skipped or gone, they prove nothing."""
    known = _by_name(before)
    for run in after:
        tests = known[run.name].tests if run.name in known and run.tests else {}
        gone = [name for name, status in tests.items() if status == "fail" and not _is_answered(name, run)]
        if gone:
            yield f"{run.name} does not run {_listed(gone)} any more, which failed before"


def _is_answered(test: str, run: CheckRun) -> bool:
    """Say whether a run says how a test ended; for a file or class that did not load, how any test in it did."""
    place, _, own = test.rpartition("::")
    if not place or place.endswith("._FailedTest"):
        group = own
    elif own in _FIXTURES:
        group = place
    else:
        return run.tests.get(test, "skip") != "skip"
    ended = (name for name, status in run.tests.items() if status != "skip")
    return any(re.match(rf"{re.escape(group)}(::|\.|$)", name) for name in ended)


def _failing_tests(before: CheckRun | None, after: CheckRun) -> str:
    failing = [name for name, status in after.tests.items() if status == "fail"]
    if not failing:
        return f": {_ending(after)}"
    new = [name for name in failing if before and name not in before.tests]
    return f" in {_listed(failing)}" + (f", new of them {_listed(new)}" if new else "")


def _reports(checks: Sequence[Check], before: Sequence[CheckRun], after: Sequence[CheckRun]) -> tuple[CheckReport, ...]:
    """Return what each check gave before and after, for those that have run; "skip" where one of the two did not."""
    known, now = _by_name(before), _by_name(after)
    names = {check.name: check.command for check in checks}
    return tuple(
        _report(name, command, known.get(name), now.get(name))
        for name, command in names.items()
        if name in known or name in now
    )


def _report(name: str, command: str, before: CheckRun | None, after: CheckRun | None) -> CheckReport:
    return CheckReport(
        name=name,
        command=command,
        before=before.status if before else "skip",
        after=after.status if after else "skip",
        seconds=round(after.seconds, 3) if after else 0.0,
        tests=compare_runs(before, after) if after else TestsDelta(),
    )


def _by_name(runs: Sequence[CheckRun]) -> Mapping[str, CheckRun]:
    return {run.name: run for run in runs}


def _ending(run: CheckRun) -> str:
    if run.status == "skip":
        return f"it could not run: {_last_line(run)}"
    if run.exit_code == 0:
        return "tests in it fail"
    return f"it ended with exit code {run.exit_code}" if run.conclusive else _last_line(run)


def _last_line(run: CheckRun) -> str:
    return run.output.strip().rpartition("\n")[2][:200] or f"exit code {run.exit_code}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
