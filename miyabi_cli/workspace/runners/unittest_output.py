"""Reads what `python -m unittest -v` and Django's `manage.py test -v 2` print into a `TestReport`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import add_status, stable_name

_MAXIMUM_FAILURES = 50
_DETAILS = 6_000
_RAN = re.compile(r"^Ran (\d+) tests? in [\d.]+s$", re.MULTILINE)
_START = re.compile(r"^(?P<name>\w+) \((?P<where>[\w.<>]+)\)(?= \.\.\. |\n)", re.MULTILINE)
_ENDED = re.compile(
    r"(?P<word>ok|FAIL|ERROR|skipped ['\"].*|expected failure|unexpected success)$",
    re.MULTILINE,
)
_STATUS: dict[str, TestStatus] = {"ok": "pass", "skipped": "skip", "expected": "skip"}
_SECTION = re.compile(
    r"^={70}\n(?:FAIL|ERROR|UNEXPECTED SUCCESS): (?P<name>\w+) \((?P<where>[\w.<>]+)\)[^\n]*\n"
    r"(?:(?!-{70}\n)[^\n]*\n){0,20}?-{70}\n(?P<body>.*?)(?=^={70}$|^-{70}$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_CAPTURED = re.compile(r"^Std(?:out|err):$", re.MULTILINE)


def read_unittest(output: str) -> TestReport:
    """Read the output of verbose unittest runs.

    A test's name is `module.Class::method`. `tests` is empty where no run came to its end ("Ran 3 tests in …")
    or the runner was not verbose; failures are read in either case. Expected failures are `skip`.
    """
    if not _RAN.search(output):
        return TestReport()
    verdicts = dict[str, TestStatus]()
    for name, status in _statuses(output):
        add_status(verdicts, name, status)
    failures = tuple(_failures(output))
    if verdicts:  # the sections at the end also name what `-v` lines miss: setUpClass, subtests
        for failure in failures:
            add_status(verdicts, failure.name, "fail")
    return TestReport(verdicts, failures[:_MAXIMUM_FAILURES])


def count_tests_run(output: str) -> int | None:
    """Return how many tests unittest says it ran, None where the output is not unittest's."""
    counts = [int(match[1]) for match in _RAN.finditer(output)]
    return sum(counts) if counts else None


def _statuses(output: str) -> Iterator[tuple[str, TestStatus]]:
    """Yield each test's status: what it prints itself may stand between its name and its status."""
    starts = list(_START.finditer(output))
    for start, following in zip_longest(starts, starts[1:]):
        text = output[start.end() : following.start() if following else len(output)]
        segment = text.partition("\n" + "=" * 70 + "\n")[0].partition("\n" + "-" * 70 + "\n")[0]
        _, dots, rest = segment.partition(" ... ")
        if dots and (ended := _ENDED.search(rest)):
            yield _identifier(start), _STATUS.get(ended["word"].split()[0], "fail")


def _failures(output: str) -> Iterator[TestFailure]:
    for section in _SECTION.finditer(output):
        body = _CAPTURED.split(section["body"])[0].strip("\n")[-_DETAILS:]
        yield TestFailure(_identifier(section), _message(body), body)


def _identifier(match: re.Match[str]) -> str:
    """Return one form for what Python 3.11 prints ("m.C.test_x") and what it printed before ("m.C")."""
    name, where = match["name"], match["where"]
    return stable_name(f"{where.removesuffix('.' + name)}::{name}")


def _message(body: str) -> str:
    """Return the exception's text: what follows the frames of the last traceback."""
    lines = body.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    first = next((number for number, line in enumerate(lines) if line and not line.startswith(" ")), 0)
    return "\n".join(lines[first:])
