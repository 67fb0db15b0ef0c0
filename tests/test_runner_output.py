"""What real test runners wrote, read test by test; and what hostile ones may write."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.check_records import TestReport, TestStatus
from miyabi_cli.workspace.runners.cargo_test import cargo_found_no_test, read_cargo_test
from miyabi_cli.workspace.runners.ctest import ctest_found_no_test, read_ctest
from miyabi_cli.workspace.runners.go_test import go_found_no_test, read_go_test, shown_go_test
from miyabi_cli.workspace.runners.jest import read_jest
from miyabi_cli.workspace.runners.junit import read_junit
from miyabi_cli.workspace.runners.lines import read_test_lines
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "runners"
GO = {
    "example.com/calc::TestAdd": "fail",
    "example.com/calc::TestAdd/two_and_three": "fail",
    "example.com/calc::TestAdd/zeros": "pass",
    "example.com/calc::TestDouble": "pass",
    "example.com/calc::TestLater": "skip",
    "example.com/calc::ExampleDouble": "pass",
    "example.com/calc/broken": "fail",
    "example.com/calc/panics::TestPanics": "fail",
}
JAVASCRIPT = {
    "calc.test.js::adds": "fail",
    "calc.test.js::group > doubles": "pass",
    "calc.test.js::group > later": "skip",
    "calc.test.js::group > each 1": "pass",
    "calc.test.js::group > each 2": "fail",
    "calc.test.js::todo": "skip",
    "broken.test.js": "fail",
}


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text()


def from_top(report: TestReport) -> dict[str, TestStatus]:
    return {name.removeprefix("/project/"): status for name, status in report.tests.items()}


def details(report: TestReport, name: str) -> str:
    return next(failure.details for failure in report.failures if failure.name.removeprefix("/project/") == name)


def test_cargo() -> None:
    report = read_cargo_test(fixture("cargo_test.txt"))
    assert report.tests == {
        "calc::tests::adds": "fail",
        "calc::tests::doubles": "pass",
        "calc::tests::panics": "pass",
        "calc::tests::slow": "skip",
        "tests/it.rs::adds_more": "fail",
        "tests/it.rs::doubles_more": "pass",
        "tests/it.rs::errs": "fail",
        "src/lib.rs - add": "fail",
        "src/lib.rs - add #2": "pass",
    }
    assert "left: -1" in details(report, "calc::tests::adds")
    assert "no" in details(report, "tests/it.rs::errs")
    assert "some noise" not in next(one for one in report.failures if one.name == "calc::tests::adds").message


def test_a_documentation_test_keeps_its_name_where_lines_move() -> None:
    before = fixture("cargo_test.txt")
    after = before.replace("(line 3)", "(line 30)").replace("(line 7)", "(line 34)")
    assert read_cargo_test(after).tests == read_cargo_test(before).tests


def test_one_test_thread_prints_endings_apart_from_names() -> None:
    text = "running 3 tests\ntest a ... child\nok\ntest b ... FAILED\ntest c ... noise\n"
    summary = "\nfailures:\n\n---- b stdout ----\nx\n\n\nfailures:\n    b\n\n"
    summary += "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n"
    assert read_cargo_test(text + summary).tests == {"a": "pass", "b": "fail", "c": "pass"}
    assert read_cargo_test(text).tests == {"a": "fail", "b": "fail", "c": "fail"}, "it was killed on the way"


def test_what_a_test_prints_of_another_does_not_make_it_pass() -> None:
    text = "running 1 test\ntest a ... FAILED\ntest a ... ok\n"
    assert read_cargo_test(text).tests == {"a": "fail"}


@pytest.mark.parametrize("name", ["go_test.jsonl", "go_test_verbose.txt"])
def test_go(name: str) -> None:
    report = read_go_test(fixture(name))
    assert report.tests == GO
    assert (
        details(report, "example.com/calc::TestAdd/two_and_three").strip() == "calc_test.go:15: Add(2, 3) = -1, want 5"
    )
    assert 'cannot use "no"' in details(report, "example.com/calc/broken")
    assert "panic: oh" in details(report, "example.com/calc/panics::TestPanics")


def test_go_that_names_no_test_that_passes() -> None:
    report = read_go_test(fixture("go_test_plain.txt"))
    assert report.tests == {
        "example.com/calc": "fail",
        "example.com/calc/broken": "fail",
        "example.com/calc/panics": "fail",
    }
    assert "want 5" in details(report, "example.com/calc")
    assert read_go_test("ok  \texample.com/calc\t0.1s\n").tests == {"example.com/calc": "pass"}


def test_go_json_is_shown_as_text() -> None:
    shown = shown_go_test(fixture("go_test.jsonl"))
    assert "calc_test.go:15: Add(2, 3) = -1, want 5\n" in shown
    assert "{" not in shown.splitlines()[0]
    assert "=== RUN" not in shown
    assert shown_go_test("make: nothing to do\n") == "make: nothing to do\n"


def test_go_builds_that_are_told_as_json() -> None:
    events = [
        {"ImportPath": "a/b [a/b.test]", "Action": "build-output", "Output": "b.go:1:1: undefined: x\n"},
        {"ImportPath": "a/b [a/b.test]", "Action": "build-fail"},
        {"Action": "fail", "Package": "a/b", "Elapsed": 0, "FailedBuild": "a/b [a/b.test]"},
    ]
    report = read_go_test("\n".join(map(json.dumps, events)))
    assert report.tests == {"a/b": "fail"}
    assert "undefined: x" in details(report, "a/b")


def test_jest_and_vitest() -> None:
    jest = read_jest((FIXTURES / "jest.json").read_bytes())
    vitest = read_junit((FIXTURES / "vitest.xml").read_bytes())
    assert from_top(jest) == from_top(vitest) == JAVASCRIPT
    assert "Cannot find module './nowhere'" in details(jest, "broken.test.js")


def test_mocha_and_node() -> None:
    mocha = read_junit((FIXTURES / "mocha.xml").read_bytes(), named_by_file=True)
    node = read_junit((FIXTURES / "node.xml").read_bytes())
    assert from_top(mocha)["test/calc.js::group > deep fail"] == "fail"
    assert from_top(node) == {
        "broken.test.js": "fail",
        "calc.test.js::adds": "fail",
        "calc.test.js::group > doubles": "pass",
        "calc.test.js::group > later": "skip",
        "calc.test.js::group > deep fail": "fail",
        "calc.test.js::parent > child": "pass",
        "calc.test.js::parent": "pass",
        "calc.test.js::todo": "skip",
    }


def test_ctest() -> None:
    report = read_ctest(fixture("ctest.txt"))
    assert report.tests == {"add": "fail", "twice": "pass", "crash": "fail", "skipped": "skip"}
    assert details(report, "add").strip().endswith("Assertion `add(2, 3) == 5' failed.")


def test_small_runners() -> None:
    tap = "1..3\nok 1 - adds\nnot ok 2 - twice\nok 3 - later # SKIP no time\n"
    assert read_test_lines(tap).tests == {"adds": "pass", "twice": "fail", "later": "skip"}
    assert read_test_lines("ok 1 - adds\nPASS: x\n").tests == {}, "no plan, no summary: it may be chance"
    automake = "PASS: adds\nFAIL: twice\n# TOTAL: 2\n# PASS:  1\n"
    assert read_test_lines(automake).tests == {"adds": "pass", "twice": "fail"}
    unity = "t.c:3:test_add:PASS\nt.c:9:test_sub:FAIL: Expected 1 Was 2\n-----\n2 Tests 1 Failures 0 Ignored\nFAIL\n"
    assert read_test_lines(unity).tests == {"t.c::test_add": "pass", "t.c::test_sub": "fail"}


@pytest.mark.parametrize(
    ("found_none", "none", "some"),
    [
        (cargo_found_no_test, "running 0 tests\n\nrunning 0 tests\n", "running 0 tests\n\nrunning 1 test\n"),
        (go_found_no_test, "?   \ta\t[no test files]\n", "?   \ta\t[no test files]\nok  \tb\t0.1s\n"),
        (go_found_no_test, "ok  \ta\t0.1s [no tests to run]\n", "FAIL\ta [build failed]\n"),
        (ctest_found_no_test, "No tests were found!!!\n", "1/1 Test #1: a ...   Passed    0.00 sec\n"),
    ],
)
def test_runs_without_a_test(found_none: Callable[[str], bool], none: str, some: str) -> None:
    assert found_none(none)
    assert not found_none(some)
    assert not found_none("")


PIECES = st.sampled_from(
    [
        *("test ", "a::b", " ... ", "ok", "FAILED", "ignored, x", "\n", " (line 3)", "running 1 test", "failures:"),
        *("    a::b", "---- a::b stdout ----", "test result: ok. 1 passed; 0 failed;", " - should panic"),
        *("     Running tests/a.rs (deps/a-0123456789abcdef)", "   Doc-tests a", "--- FAIL: T (0.0s)", "FAIL\tp\t1s"),
        *(
            "ok  \tp\t1s",
            "=== RUN   T",
            "# p",
            '{"Action":"fail","Package":"p"}',
            '{"Action":["x"]}',
            '{"Action":"pass"',
        ),
        *("1/2 Test #1: a ...", "   Passed    0.00 sec", "1..2", "not ok 1 - x", "# SKIP", "\x00", "é", "{", "[" * 50),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_text_is_read(text: str) -> None:
    for read in (read_cargo_test, read_go_test, read_ctest, read_test_lines):
        report = read(text)
        assert {failure.name for failure in report.failures} <= report.tests.keys()
    assert isinstance(shown_go_test(text), str)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda part: st.lists(part, max_size=3)))
def test_any_json_is_read_as_jest_s(value: object) -> None:
    entry = {"name": value, "status": "failed", "assertionResults": value, "message": value}
    case = {"title": value, "ancestorTitles": value, "status": value, "failureMessages": value}
    documents = [value, {"testResults": value}, {"testResults": [entry, {"assertionResults": [case, value]}]}]
    for document in documents:
        assert isinstance(read_jest(json.dumps(document).encode()), TestReport)


@pytest.mark.parametrize(
    "piece", ["test ", "test a ... ", "---- ", "1/1 Test #1: ", " ...", "ok 1 ", "# ", "=== ", "(", '{"']
)
def test_long_lines_are_read_in_linear_time(piece: str) -> None:
    for text in (piece * 200_000, f"running 1 test\n1..2\n{piece}\n" * 20_000):
        for read in (read_cargo_test, read_go_test, read_ctest, read_test_lines):
            read(text)
