"""Reads what `go test` prints, as JSON (`-json`; the format is that of test2json) and as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import MAXIMUM_FAILURES, add_status, clipped

_STATUS: dict[str, TestStatus] = {"pass": "pass", "fail": "fail", "skip": "skip"}
_TEXT_STATUS: dict[str, TestStatus] = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip"}
_TEST = re.compile(r"--- (?P<status>PASS|FAIL|SKIP): (?P<name>\S+) \([\d.]{1,20}s\)")
_PACKAGE = re.compile(r"^(?P<word>ok|FAIL|\?) *\t(?P<package>[^\s\[]+)(?P<rest>[\t ].*)?$")
_TALK = re.compile(r"^ *(?:=== (?:RUN|PAUSE|CONT|NAME) |--- (?:PASS|SKIP): )|^(?:PASS|FAIL)$")
_HEADING = re.compile(r"^# (?P<package>[^\s\[]+)")


@dataclass(slots=True)
class _Run:
    """What is known so far: statuses by (package, test), test "" for the package as a whole, and what was printed."""

    statuses: dict[tuple[str, str], TestStatus] = field(default_factory=dict)
    printed: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    compiler: dict[str, list[str]] = field(default_factory=dict)


def read_go_test(output: str) -> TestReport:
    """Read the output of `go test`, with `-json`, with `-v` or plain.

    A test is named `package::TestName/subtest`. A package that fails without a failing test (it does not compile, or
    ends before its tests do) is named as a test by its path alone; of a plain run, where tests that pass are not
    named, every package is.
    """
    run = _read_json(output) if _is_json(output) else _read_text(output)
    failed = {package for (package, test), status in run.statuses.items() if test and status == "fail"}
    named = {package for package, test in run.statuses if test}
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for (package, test), status in run.statuses.items():
        if not test and (package in failed or (package in named and status != "fail")):
            continue
        name = f"{package}::{test}" if test else package
        add_status(tests, name, status)
        details = _details(run, package, test)
        if status == "fail" and details:
            failures.append(TestFailure(name, clipped(details), clipped(details)))
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def shown_go_test(output: str) -> str:
    """Return what `go test -json` printed as `go test` would have: failures and packages; other output as it is."""
    if not _is_json(output):
        return output
    pieces = []
    for line in output.splitlines():
        event = _event(line)
        text = line + "\n" if event is None else _text_of(event)
        if not _TALK.match(text):
            pieces.append(text)
    return "".join(pieces)


def go_found_no_test(output: str) -> bool:
    """Say whether packages were looked at and none had a test."""
    lines = [found for line in shown_go_test(output).splitlines() if (found := _PACKAGE.match(line))]
    empty = ["[no test" in (found["rest"] or "") for found in lines]
    return bool(empty) and all(empty)


def _is_json(output: str) -> bool:
    return any(line.startswith("{") and _event(line) is not None for line in output.splitlines()[:1000])


def _event(line: str) -> Mapping[str, Any] | None:
    if not line.startswith('{"'):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("Action"), str) else None


def _text_of(event: Mapping[str, Any]) -> str:
    text = event.get("Output")
    return text if isinstance(text, str) and event["Action"] in ("output", "build-output") else ""


def _read_json(output: str) -> _Run:
    run, others = _Run(), list[str]()
    for line in output.splitlines():
        event = _event(line)
        if event is None:
            others.append(line)
            continue
        package, test = (str(event.get(key) or "") for key in ("Package", "Test"))
        if event["Action"] == "build-output":
            package = str(event.get("ImportPath") or "").split(" ")[0].removesuffix(".test")
            run.compiler.setdefault(package, []).extend(_text_of(event).splitlines())
        elif package and event["Action"] in _STATUS:
            if test or event["Action"] == "fail":
                _note(run, package, test, _STATUS[event["Action"]])
        elif package and event["Action"] == "output":
            lines = _text_of(event).splitlines()
            run.printed.setdefault((package, test), []).extend(lines)
            for found in filter(None, map(_ended, lines)):  # before Go 1.20 the only sign, after what has no newline
                _note(run, package, found["name"], _TEXT_STATUS[found["status"]])
    _read_package_lines(run, others, told=True)
    return run


def _read_text(output: str) -> _Run:
    run = _Run()
    _read_package_lines(run, output.splitlines(), told=False)
    return run


def _read_package_lines(run: _Run, lines: list[str], *, told: bool) -> None:
    """Read lines of text: tests until a line names their package; the compiler's errors under `# package`.

    `told`: what the tests gave is known already, and only packages that did not start are of interest.
    """
    tests: list[tuple[str, TestStatus]] = []
    printed: dict[str, list[str]] = {}
    verbose, last, heading = False, "", ""
    for line in lines:
        if found := _HEADING.match(line):
            heading, last = found["package"], ""
        elif found := _ended(line):
            tests.append((found["name"], _TEXT_STATUS[found["status"]]))
            last, heading = found["name"], ""
        elif (found := _PACKAGE.match(line)) and found["word"] != "?":
            _note_package(run, found, tests if verbose and not told else [], printed)
            tests, printed, verbose, last, heading = [], {}, False, "", ""
        elif line.startswith("=== "):
            verbose, last, heading = True, line.split()[-1], ""
        elif heading:
            run.compiler.setdefault(heading, []).append(line)
        else:
            printed.setdefault(last, []).append(line)


def _ended(line: str) -> re.Match[str] | None:
    """Return what a line says of a test's end; what the test printed last, without a newline, may stand before it."""
    start = line.rfind("--- ")
    return _TEST.fullmatch(line, start) if start >= 0 else None


def _note_package(
    run: _Run, found: re.Match[str], tests: list[tuple[str, TestStatus]], printed: Mapping[str, list[str]]
) -> None:
    package = found["package"]
    for test, status in tests:
        _note(run, package, test, status)
        run.printed.setdefault((package, test), []).extend(printed.get(test, []))
    if found["word"] == "FAIL":
        _note(run, package, "", "fail")
        own = [line for test, lines in printed.items() for line in lines] if not tests else printed.get("", [])
        run.printed.setdefault((package, ""), []).extend(own)
    elif "[no test" not in (found["rest"] or ""):
        _note(run, package, "", "pass")


def _note(run: _Run, package: str, test: str, status: TestStatus) -> None:
    """Note a status; of two the worse counts."""
    known = run.statuses.get((package, test))
    if known != "fail":
        run.statuses[package, test] = status


def _details(run: _Run, package: str, test: str) -> str:
    lines = list(run.printed.get((package, test), ()))
    if not test:
        lines = [*run.compiler.get(package, ()), *lines]
    return "\n".join(_telling(lines)).strip("\n")


def _telling(lines: list[str]) -> Iterator[str]:
    yield from (line for line in lines if not _TALK.match(line) and not _ended(line) and not _PACKAGE.match(line))
