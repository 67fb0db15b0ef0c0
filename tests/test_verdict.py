"""The rule of `verified`, case by case and as properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.codegen.result import CheckReport
from miyabi_cli.codegen.verdict import Verdict, added_tests, asked_tests, judge, needs_base_rerun
from miyabi_cli.workspace.check_records import Check, CheckRun, CheckStatus, TestsDelta, TestStatus

FOUND = Check("pytest", "pytest -q")
ASKED = Check("asked", "make test", requested=True)
EXIT_CODES = {"pass": 0, "fail": 1, "skip": 127}


def run(check: Check, status: CheckStatus, **tests: TestStatus) -> CheckRun:
    return CheckRun(check.name, check.command, status, 1.2345, tests, f"{check.name} ended", EXIT_CODES[status])


def verdict_of(before: CheckRun, after: CheckRun, check: Check = FOUND) -> Verdict:
    return judge(["a.py"], [check], [before], [after])


def test_a_fixed_test_is_verified() -> None:
    verdict = verdict_of(run(FOUND, "fail", a="fail", b="pass"), run(FOUND, "pass", a="pass", b="pass"))
    assert verdict == Verdict(
        status="verified",
        checks=(CheckReport("pytest", "pytest -q", "fail", "pass", 1.234, TestsDelta(fixed=("a",))),),
        fully_passing=True,
    )


def test_nothing_changed_is_failed() -> None:
    verdict = judge([], [FOUND], [run(FOUND, "pass")], [run(FOUND, "pass")])
    assert (verdict.status, verdict.fully_passing) == ("failed", False)


@pytest.mark.parametrize(
    ("checks", "runs"),
    [((), ()), ((FOUND,), (run(FOUND, "skip"),)), ((FOUND,), ())],
    ids=["none", "skipped", "not run"],
)
def test_without_a_check_that_ran_nothing_is_verified(checks: Sequence[Check], runs: Sequence[CheckRun]) -> None:
    verdict = judge(["a.py"], checks, runs, runs)
    assert verdict.status == "unverified"
    assert verdict.reasons


def test_a_check_that_vouches_for_nothing_does_not_verify() -> None:
    failing = run(FOUND, "fail", a="fail")
    assert verdict_of(failing, failing).reasons == ("no check that could run has passed",)
    assert verdict_of(run(FOUND, "fail"), run(FOUND, "fail")).status == "unverified"


@pytest.mark.parametrize("after", ["fail", "skip"])
def test_a_check_that_passed_must_pass(after: CheckStatus) -> None:
    verdict = verdict_of(run(FOUND, "pass"), run(FOUND, after))
    assert verdict.status == "unverified"
    assert "pytest passed before" in verdict.reasons[-1]


def test_a_broken_a_skipped_and_a_missing_test_are_named() -> None:
    before = run(FOUND, "fail", a="pass", b="pass", c="pass", d="pass", e="fail")
    after = run(FOUND, "fail", a="fail", b="skip", d="pass", e="pass")
    verdict = verdict_of(before, after)
    assert verdict.reasons == ("pytest breaks a, b, c",)
    assert verdict.checks[0].tests == TestsDelta(fixed=("e",), broken=("a", "b", "c"))


@pytest.mark.parametrize("now", [{"b": "pass"}, {"a::t": "skip", "b": "pass"}], ids=["gone", "skipped"])
def test_a_failing_test_has_to_be_run_again(now: dict[str, TestStatus]) -> None:
    before = replace(run(FOUND, "fail", b="pass"), tests={"a::t": "fail", "b": "pass"})
    after = replace(run(FOUND, "pass"), tests=now)
    assert verdict_of(before, after).reasons == ("pytest does not run a::t any more, which failed before",)
    renamed = judge(["test_a.py"], [FOUND], [before], [after], [replace(after, tests={"a::t": "pass", "b": "pass"})])
    assert renamed.status == "verified"


@pytest.mark.parametrize(
    ("failed", "now", "status"),
    [
        ("tests.test_a", {"tests.test_a::t": "pass"}, "verified"),
        ("tests.test_a", {"tests.test_a.T::t": "pass"}, "verified"),
        ("tests.test_a", {"tests.test_ab::t": "pass"}, "unverified"),
        ("tests.test_a", {"tests.test_a::t": "skip", "b::t": "pass"}, "unverified"),
        ("unittest.loader._FailedTest::test_a", {"test_a.T::t": "pass"}, "verified"),
        ("unittest.loader._FailedTest::test_a", {"b.T::t": "pass"}, "unverified"),
        ("test_a.T::setUpClass", {"test_a.T::t": "pass"}, "verified"),
        ("test_a.T::setUpClass", {"test_a.U::t": "pass"}, "unverified"),
    ],
)
def test_a_file_that_did_not_load_has_to_run_its_tests(failed: str, now: dict[str, TestStatus], status: str) -> None:
    before, after = replace(run(FOUND, "fail"), tests={failed: "fail"}), replace(run(FOUND, "pass"), tests=now)
    assert verdict_of(before, after).status == status


def test_a_runner_that_reports_nothing_any_more_proves_nothing() -> None:
    before = run(FOUND, "fail", a="fail")
    assert verdict_of(before, replace(run(FOUND, "pass"), reported=False)).reasons == (
        "pytest reports no test any more",
    )
    assert verdict_of(before, run(FOUND, "pass")).status == "verified", "its report was overwritten"
    assert verdict_of(run(FOUND, "fail"), replace(run(FOUND, "pass"), reported=False)).status == "verified"


def test_a_check_may_go_on_failing_with_a_remark() -> None:
    before = run(FOUND, "fail", a="pass", b="fail")
    verdict = verdict_of(before, run(FOUND, "fail", a="pass", b="fail", c="fail"))
    assert (verdict.status, verdict.fully_passing) == ("verified", False)
    assert verdict.remarks == ("pytest still fails in b, c, new of them c",)
    assert verdict.checks[0].tests == TestsDelta(still_failing=("b",))


def test_a_requested_check_may_not() -> None:
    failing = run(ASKED, "fail", a="pass", b="fail")
    assert verdict_of(failing, failing, ASKED).reasons == ("asked must pass: it ended with exit code 1",)
    passing = replace(failing, status="pass", exit_code=0)
    assert verdict_of(failing, passing, ASKED).status == "verified"


def test_a_check_that_was_not_run_after_is_missing() -> None:
    other = Check("other", "x")
    for before in ([run(FOUND, "pass")], [run(FOUND, "fail")]):
        assert judge(["a.py"], [FOUND, other], before, [run(other, "pass")]).reasons == ("pytest was not run",)
        assert judge(["a.py"], [other], before, [run(other, "pass")]).reasons == ("pytest was not run",)
    assert judge(["a.py"], [ASKED, other], [], [run(other, "pass")]).reasons == ("asked was not run",)


def test_a_check_that_is_new_after_counts() -> None:
    assert judge(["a.py"], [FOUND], [], [run(FOUND, "pass", a="pass")]).status == "verified"


def test_a_check_that_can_not_run_is_a_remark_beside_one_that_can() -> None:
    other = Check("other", "x")
    runs = [run(FOUND, "pass"), run(other, "skip")]
    verdict = judge(["a.py"], [FOUND, other], runs, runs)
    assert (verdict.status, verdict.remarks) == ("verified", ("other could not run: other ended",))


def test_changed_tests_need_a_second_run() -> None:
    runs = [run(FOUND, "pass", a="pass")]
    paths = ["a.py", "tests/test_a.py", "conftest.py"]
    assert needs_base_rerun(paths) == ("tests/test_a.py", "conftest.py")
    assert needs_base_rerun(["a.py", "README.md"]) == ()
    assert "not run with the base's" in judge(paths, [FOUND], runs, runs).reasons[0]
    held = judge(paths, [FOUND], runs, runs, runs)
    assert (held.status, held.rerun) == ("verified", held.checks)
    broken = judge(paths, [FOUND], runs, runs, [run(FOUND, "fail", a="fail")])
    assert broken.reasons == ("with the base's tests: pytest breaks a",)
    assert not broken.fully_passing


def test_a_test_that_passes_only_as_the_patch_rewrote_it_proves_nothing() -> None:
    before = [run(FOUND, "fail", a="fail", b="pass")]
    verdict = judge(["test_a.py"], [FOUND], before, [run(FOUND, "pass", a="pass", b="pass")], before)
    assert (verdict.status, verdict.reasons) == ("unverified", ("with the base's tests: pytest still fails in a",))
    silent = judge(["test_a.py"], [FOUND], [run(FOUND, "fail")], [run(FOUND, "pass")], [run(FOUND, "fail")])
    assert silent.status == "unverified"


def test_a_second_run_counts_also_where_tests_lie_in_sources() -> None:
    runs = [run(FOUND, "pass")]
    assert judge(["a.rs"], [FOUND], runs, runs, runs).status == "verified"
    assert judge(["a.rs"], [FOUND], runs, runs, [run(FOUND, "fail")]).status == "unverified"


def test_a_check_that_failed_must_not_fall_silent() -> None:
    other = Check("other", "other")
    passes = run(other, "pass")
    verdict = judge(["a.rs"], [FOUND, other], [run(FOUND, "fail"), passes], [run(FOUND, "skip"), passes])
    assert verdict.status == "unverified"
    assert "failed before, and now says nothing" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("test", "task"),
    [
        ("tests/sums.rs::adds", "make tests/sums.rs pass"),
        ("src/a.test.ts::group > adds", "a.test.ts fails"),
        ("example.com/calc::TestAdd/zeros", "TestAdd/zeros is wrong"),
    ],
)
def test_tests_of_other_languages_are_named_by_file_or_name(test: str, task: str) -> None:
    before = replace(run(FOUND, "fail"), tests={test: "fail"})
    assert asked_tests(task, [before]) == {test}
    assert asked_tests("mend add", [before]) == frozenset()


def test_tests_added() -> None:
    after = [run(FOUND, "pass", a="pass", b="pass", c="skip")]
    assert sum(map(len, added_tests([run(FOUND, "pass", a="pass")], after).values())) == 2
    assert sum(map(len, added_tests([run(FOUND, "skip")], after).values())) == 3
    assert sum(map(len, added_tests([], after).values())) == 3
    assert sum(map(len, added_tests([run(FOUND, "fail")], after).values())) == 0
    assert sum(map(len, added_tests(after, [run(FOUND, "pass")]).values())) == 0


statuses: st.SearchStrategy[CheckStatus] = st.sampled_from(["pass", "fail", "skip"])
test_statuses: st.SearchStrategy[TestStatus] = st.sampled_from(["pass", "fail", "skip"])
runs_of = {
    check.name: st.builds(
        lambda status, tests, check=check: replace(run(check, status), tests=tests),
        statuses,
        st.dictionaries(st.sampled_from("abcd"), test_statuses),
    )
    for check in (FOUND, ASKED)
}
sets_of_runs = st.tuples(*runs_of.values()).flatmap(lambda runs: st.lists(st.sampled_from(runs), unique_by=id))
paths = st.lists(st.sampled_from(["a.py", "test_a.py", "Makefile", "b/c.py"]), min_size=1)
CHECKS = (FOUND, ASKED)


@given(paths, sets_of_runs, sets_of_runs, st.none() | sets_of_runs)
def test_what_verified_means(
    changed: list[str], before: list[CheckRun], after: list[CheckRun], rerun: list[CheckRun] | None
) -> None:
    if judge(changed, CHECKS, before, after, rerun).status != "verified":
        return
    for now in [after, rerun] if needs_base_rerun(changed) else [after]:
        assert now is not None
        ended = {run.name: run for run in now}
        assert ended["asked"].exit_code == 0
        assert any(run.status == "pass" or "pass" in run.tests.values() for run in now)
        for previous in before:
            if previous.status == "pass":
                assert ended[previous.name].status == "pass"
            for name, status in previous.tests.items():
                assert status != "pass" or ended[previous.name].tests[name] == "pass"


@given(paths, sets_of_runs, sets_of_runs, st.data())
def test_a_patch_that_does_better_is_never_judged_worse(
    changed: list[str], before: list[CheckRun], after: list[CheckRun], data: st.DataObject
) -> None:
    verdict = judge(changed, CHECKS, before, after, after)
    if not after:
        return
    chosen = data.draw(st.sampled_from(after))
    passing: dict[str, TestStatus] = dict.fromkeys(chosen.tests, "pass")
    better = replace(chosen, status="pass", exit_code=0, tests=passing)
    improved = [better if run is chosen else run for run in after]
    order = ("failed", "unverified", "verified")
    assert order.index(judge(changed, CHECKS, before, improved, improved).status) >= order.index(verdict.status)


@given(paths, sets_of_runs, sets_of_runs)
def test_every_verdict_explains_itself(changed: list[str], before: list[CheckRun], after: list[CheckRun]) -> None:
    verdict = judge(changed, CHECKS, before, after, after)
    assert bool(verdict.reasons) == (verdict.status != "verified")
    assert not verdict.fully_passing or verdict.status == "verified"
    still_failing = any(run.status == "fail" for run in after)
    assert verdict.fully_passing == (verdict.status == "verified" and not still_failing)
    assert bool(verdict.remarks) >= (verdict.status == "verified" and still_failing)


@pytest.mark.parametrize(
    ("task", "asked"),
    [
        ("Fix test_sum", {"tests.test_a::test_sum"}),
        ("Fix tests/test_a.py", {"tests.test_a::test_sum", "tests.test_a::test_more[1]"}),
        ("test_more in test_a fails", {"tests.test_a::test_sum", "tests.test_a::test_more[1]"}),
        ("Fix the failing test", set()),
        ("Fix test_summary and mytest_sum", set()),
        ("Fix test_fine", set()),
    ],
)
def test_failing_tests_that_the_task_names_must_pass(task: str, asked: set[str]) -> None:
    tests: dict[str, TestStatus] = {
        "tests.test_a::test_sum": "fail",
        "tests.test_a::test_more[1]": "fail",
        "tests.test_a::test_fine": "pass",
    }
    runs = [replace(run(FOUND, "fail"), tests=tests)]
    assert asked_tests(task, runs) == asked
    verdict = judge(["a.py"], [FOUND], runs, runs, asked=asked)
    assert (verdict.status == "verified") == (not asked)
    assert not asked or "which still fails" in verdict.reasons[0]
