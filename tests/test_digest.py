"""The few lines that a model is told of a failed check."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.check_records import CheckRun, TestFailure, TestStatus
from miyabi_cli.workspace.digest import failure_digest

PYTEST_DETAILS = """tests/test_calc.py:5: in test_add
    assert calc.add(2, 3) == 5
           ^^^^^^^^^^^^^^
calc.py:2: in add
    return helper(a, b)
           ^^^^^^^^^^^^
/usr/lib/python3.11/json/decoder.py:337: in decode
    obj, end = self.raw_decode(s)
E   AssertionError: wrong
E   assert -1 == 5
E    +  where -1 = <function add at 0x7f>(2, 3)
E   Use -v to get more diff"""

UNITTEST_DETAILS = """Traceback (most recent call last):
  File "/usr/lib/python3.11/unittest/case.py", line 57, in testPartExecutor
    yield
  File "tests/test_calc.py", line 7, in test_add
    self.assertEqual({"a": 1}, {"a": 2})
    ~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^
AssertionError: {'a': 1} != {'a': 2}
- {'a': 1}
?       ^

+ {'a': 2}
?       ^
"""


def _run(
    *failures: TestFailure, tests: dict[str, TestStatus] | None = None, output: str = "", conclusive: bool = True
) -> CheckRun:
    exit_code = 1 if conclusive else 124
    return CheckRun("tests", "cmd", "fail", 1.0, tests or {}, output, exit_code, failures, conclusive)


def test_a_pytest_failure() -> None:
    run = _run(TestFailure("t::test_add", "m", PYTEST_DETAILS), tests={"t::test_add": "fail", "t::test_b": "pass"})
    assert failure_digest(run).splitlines() == [
        "tests: 1 of 2 tests fail",
        "t::test_add",
        "  tests/test_calc.py:5 in test_add",
        "    assert calc.add(2, 3) == 5",
        "  calc.py:2 in add",
        "    return helper(a, b)",
        "  AssertionError: wrong",
        "  assert -1 == 5",
        "  +  where -1 = <function add at 0x7f>(2, 3)",
    ]


def test_a_unittest_failure() -> None:
    assert failure_digest(_run(TestFailure("t::test_add", "", UNITTEST_DETAILS))).splitlines() == [
        "tests fails:",
        "t::test_add",
        "  tests/test_calc.py:7 in test_add",
        '    self.assertEqual({"a": 1}, {"a": 2})',
        "  AssertionError: {'a': 1} != {'a': 2}",
        "  - {'a': 1}",
        "  + {'a': 2}",
    ]


def test_a_failure_without_details_tells_its_message() -> None:
    assert failure_digest(_run(TestFailure("a", "timeout > 5 s", ""))).endswith("a\n  timeout > 5 s")


def test_one_cause_is_told_once() -> None:
    failures = [TestFailure(f"t::test_add[{number}]", "m", PYTEST_DETAILS) for number in range(9)]
    digest = failure_digest(_run(*failures))
    assert digest.count("assert -1 == 5") == 1
    assert "t::test_add[0], t::test_add[1], t::test_add[2] and 6 more" in digest


def test_the_first_five_failures_are_told_and_the_others_named() -> None:
    failures = [TestFailure(f"test_{number}", f"reason {number}", "") for number in range(7)]
    digest = failure_digest(_run(*failures))
    assert "reason 4" in digest
    assert "reason 5" not in digest
    assert digest.endswith("and 2 more: test_5, test_6")


def test_of_a_linter_the_lines_that_name_a_place() -> None:
    output = (
        "a.py:1:2: F401 `os` imported but unused\na.py:3: note: See docs\nFound 1 error.\nb.py:4: error: Bad  [arg]\n"
    )
    assert failure_digest(_run(output=output)).splitlines() == [
        "tests fails:",
        "a.py:1:2: F401 `os` imported but unused",
        "b.py:4: error: Bad  [arg]",
    ]


def test_otherwise_the_end_of_the_output() -> None:
    digest = failure_digest(_run(output="=====\n" + "\n".join(f"line {number}" for number in range(900))), 200)
    assert digest.startswith("tests fails: exit code 1\nline ")
    assert digest.endswith("line 899")


def test_a_time_out_is_told() -> None:
    output = "a.py:1:2: wrong\ntimed out after 5 s"
    assert failure_digest(_run(output=output, conclusive=False)).endswith("timed out after 5 s")


@pytest.mark.parametrize("status", ["pass", "skip"])
def test_what_did_not_fail_has_none(status: TestStatus) -> None:
    assert failure_digest(CheckRun("a", "a", status, 0, {}, "output", 0)) == ""


@given(st.lists(st.builds(TestFailure, st.text(), st.text(), st.text()), max_size=8), st.text(), st.integers(0, 400))
def test_it_is_never_longer_than_asked(failures: list[TestFailure], output: str, limit: int) -> None:
    assert len(failure_digest(_run(*failures, output=output), limit).encode()) <= limit


def test_frames_of_node_are_those_of_the_repository() -> None:
    details = (
        "Error: expect(received).toBe(expected)\n\nExpected: 5\nReceived: -1\n"
        "    at add (calc.js:3:9)\n    at Object.toBe (calc.test.js:2:61)\n"
        "    at run (node_modules/jest-circus/build/run.js:316:40)\n    at node:internal/x:95:5"
    )
    run = CheckRun("npm test", "npm test", "fail", 1.0, {"a": "fail"}, "", 1, (TestFailure("a", "m", details),))
    assert failure_digest(run).splitlines()[1:] == [
        "a",
        "  calc.test.js:2 in Object.toBe",
        "  calc.js:3 in add",
        "  Error: expect(received).toBe(expected)",
        "  Expected: 5",
        "  Received: -1",
    ]
