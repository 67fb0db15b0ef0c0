"""Reads what ctest prints: a line for each test as it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import MAXIMUM_FAILURES, add_status, clipped

_TEST = re.compile(r"^ *\d{1,9}/\d{1,9} +Test +#\d{1,9}: ")
_START = re.compile(r"^ *Start +\d{1,9}: ")
_NONE = "No tests were found!!!"


def read_ctest(output: str) -> TestReport:
    """Read ctest's progress lines; what a failing test printed follows its line (CTEST_OUTPUT_ON_FAILURE)."""
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for name, ending, text in _ended(output):
        status = _status(ending)
        add_status(tests, name, status)
        if status == "fail":
            failures.append(TestFailure(name, clipped(ending), clipped(text)))
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def ctest_found_no_test(output: str) -> bool:
    """Say whether ctest found nothing to run."""
    return _NONE in output


def _ended(output: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, how it ended, what follows): `1/2 Test #1: adds ........***Failed    0.00 sec`."""
    name, ending, lines = "", "", list[str]()
    for line in [*output.splitlines(), " 1/1 Test #1: "]:
        if not (head := _TEST.match(line)):
            if not _START.match(line):
                lines.append(line)
            continue
        if name:
            yield name, ending, "\n".join(lines).partition("% tests passed")[0].strip("\n")
        name, dots, rest = line[head.end() :].partition(" ...")
        name, ending, lines = name.strip() if dots else "", rest.strip(" .*"), []


def _status(ending: str) -> TestStatus:
    if ending.startswith("Passed"):
        return "pass"
    return "skip" if ending.startswith(("Skipped", "Not Run (Disabled)")) else "fail"
