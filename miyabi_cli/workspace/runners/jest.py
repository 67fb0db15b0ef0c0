"""Reads the JSON that jest writes with `--json --outputFile`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import MAXIMUM_FAILURES, add_status, clipped, stable_name

_STATUS: dict[str, TestStatus] = {"passed": "pass", "failed": "fail"}


def read_jest(data: bytes) -> TestReport:
    """Read jest's results (`FormattedTestResults` of @jest/test-result); what is not that gives an empty report.

    A test is named `file::group > test`; a file that could not be loaded is a failing test by the file's name.
    """
    try:
        results = json.loads(data)["testResults"]
        files = [file for file in results if isinstance(file, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return TestReport()
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for file in files:
        for name, status, text in _cases(file):
            add_status(tests, name, status)
            if status == "fail":
                failures.append(TestFailure(name, clipped(text), clipped(text)))
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def _cases(file: dict[str, Any]) -> Iterator[tuple[str, TestStatus, str]]:
    path = str(file.get("name", ""))
    cases = [case for case in _list(file.get("assertionResults")) if isinstance(case, dict)]
    for case in cases:
        titles = [*map(str, _list(case.get("ancestorTitles"))), str(case.get("title", ""))]
        text = "\n".join(map(str, _list(case.get("failureMessages"))))
        yield stable_name(f"{path}::{' > '.join(titles)}"), _STATUS.get(str(case.get("status")), "skip"), text
    if not cases and file.get("status") == "failed":
        lines = str(file.get("message", ""))[:100_000].splitlines()
        yield stable_name(path), "fail", "\n".join(line.strip() for line in lines)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
