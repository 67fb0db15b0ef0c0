"""The reader of verbose unittest output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.check_records import TestReport
from miyabi_cli.workspace.runners.unittest_output import count_tests_run, read_unittest

MODULE = """
import os, sys, unittest
class C(unittest.TestCase):
    def test_documented(self):
        "A line about it ... ok"
    def test_prints(self): print("noise"); os.write(1, b"direct"); sys.stderr.write("err")
    def test_fails(self): self.assertEqual({"a": 1}, {"a": 2})
    def test_raises(self): raise KeyError("x")
    @unittest.skip("why ok")
    def test_skipped(self): pass
    @unittest.expectedFailure
    def test_expected(self): self.fail()
    @unittest.expectedFailure
    def test_unexpected(self): pass
    def test_parts(self):
        for i in range(3):
            with self.subTest(i=i): self.assertEqual(i, 1)
class D(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("boom")
    def test_never(self): pass
"""

OLD = """test_a (m.C) ... ok
test_b (m.C)
What it does. ... FAIL

======================================================================
FAIL: test_b (m.C)
What it does.
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/x/m.py", line 3, in test_b
    self.fail("no")
AssertionError: no

Stdout:
some output
----------------------------------------------------------------------
Ran 2 tests in 0.001s

FAILED (failures=1)
"""


def _output(tmp_path: Path, *options: str) -> str:
    (tmp_path / "test_m.py").write_text(MODULE)
    (tmp_path / "test_broken.py").write_text("import nowhere_at_all\n")
    command = [sys.executable, "-m", "unittest", "discover", *options]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def test_every_status_of_a_real_run(tmp_path: Path) -> None:
    report = read_unittest(_output(tmp_path, "-v", "-b"))
    assert report.tests == {
        "unittest.loader._FailedTest::test_broken": "fail",
        "test_m.C::test_documented": "pass",
        "test_m.C::test_expected": "skip",
        "test_m.C::test_fails": "fail",
        "test_m.C::test_parts": "fail",
        "test_m.C::test_prints": "pass",
        "test_m.C::test_raises": "fail",
        "test_m.C::test_skipped": "skip",
        "test_m.C::test_unexpected": "fail",
        "test_m.D::setUpClass": "fail",
    }
    failures = {failure.name: failure for failure in report.failures}
    assert failures["test_m.C::test_raises"].message == "KeyError: 'x'"
    assert failures["test_m.C::test_fails"].message.startswith("AssertionError: {'a': 1} != {'a': 2}\n- {'a': 1}")
    assert 'test_m.py", line 7, in test_fails' in failures["test_m.C::test_fails"].details


def test_a_run_that_is_not_verbose_names_failures_alone(tmp_path: Path) -> None:
    report = read_unittest(_output(tmp_path))
    assert report.tests == {}
    assert "test_m.C::test_raises" in {failure.name for failure in report.failures}
    assert count_tests_run(_output(tmp_path)) == 9


def test_the_form_before_python_3_11() -> None:
    report = read_unittest(OLD)
    assert report.tests == {"m.C::test_a": "pass", "m.C::test_b": "fail"}
    assert report.failures[0].message == "AssertionError: no"
    assert "some output" not in report.failures[0].details


def test_a_run_that_was_cut_says_nothing() -> None:
    assert read_unittest(OLD.partition("Ran 2")[0]) == TestReport()
    assert count_tests_run("nothing of the kind") is None


pieces = st.sampled_from([*OLD.splitlines(keepends=True), "test_c (m.C) ... ", "ok\n", "=" * 70 + "\n", "x", "\n"])


@given(st.lists(pieces, max_size=40).map("".join))
def test_no_text_raises_and_what_failed_is_never_a_pass(text: str) -> None:
    report = read_unittest(text)
    assert all(report.tests.get(failure.name, "fail") == "fail" for failure in report.failures)
