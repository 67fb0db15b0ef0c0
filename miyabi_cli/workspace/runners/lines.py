"""Reads the lines by which small runners tell of tests: TAP, automake's, Unity's."""

from __future__ import annotations

import re

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import MAXIMUM_FAILURES, add_status, clipped, stable_name

_TAP = re.compile(r"^(?P<no>not )?ok (?P<number>\d{1,9})(?: -)?(?: (?P<name>[^#]{0,500}))?(?:# (?P<directive>\w+).*)?$")
_PLAN = re.compile(r"^1\.\.\d{1,9}(?: |$)", re.MULTILINE)
_AUTOMAKE = re.compile(r"^(?P<status>PASS|FAIL|XFAIL|XPASS|SKIP|ERROR): (?P<name>\S.{0,500})$")
_SUMMARY = re.compile(r"^# (?:PASS|TOTAL): +\d", re.MULTILINE)
_UNITY = re.compile(
    r"^(?P<file>[^\s:][^:]{0,500}):\d{1,9}:(?P<name>\w{1,200}):(?P<status>PASS|FAIL|IGNORE)(?P<text>.*)$"
)
_UNITY_SUMMARY = re.compile(r"^\d{1,9} Tests \d{1,9} Failures \d{1,9} Ignored", re.MULTILINE)
_STATUS: dict[str, TestStatus] = {
    **{"PASS": "pass", "FAIL": "fail", "XPASS": "fail", "ERROR": "fail"},
    **{"XFAIL": "skip", "SKIP": "skip", "IGNORE": "skip"},
}
_LONGEST = 2_000  # characters of a line that is looked at


def read_test_lines(output: str) -> TestReport:
    """Read TAP (testanything.org) with a plan, the summary lines of automake's test driver, and those of Unity.

    Each needs the mark that the format ends or begins with: a program may print such a line by chance.
    """
    readers = [
        reader
        for mark, reader in ((_PLAN, _tap), (_SUMMARY, _automake), (_UNITY_SUMMARY, _unity))
        if mark.search(output)
    ]
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for line in output.splitlines():
        for reader in readers:
            if found := reader(line[:_LONGEST]):
                name, status = found
                add_status(tests, name, status)
                if status == "fail":
                    failures.append(TestFailure(name, clipped(line[:_LONGEST]), clipped(line[:_LONGEST])))
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def _tap(line: str) -> tuple[str, TestStatus] | None:
    found = _TAP.match(line)
    if not found:
        return None
    name = stable_name(found["name"] or "") or f"test {found['number']}"
    if (found["directive"] or "").upper() in ("SKIP", "TODO"):
        return name, "skip"
    return name, "fail" if found["no"] else "pass"


def _automake(line: str) -> tuple[str, TestStatus] | None:
    found = _AUTOMAKE.match(line)
    return (stable_name(found["name"]), _STATUS[found["status"]]) if found else None


def _unity(line: str) -> tuple[str, TestStatus] | None:
    found = _UNITY.match(line)
    return (f"{found['file']}::{found['name']}", _STATUS[found["status"]]) if found else None
