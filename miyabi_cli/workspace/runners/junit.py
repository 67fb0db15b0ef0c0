"""Reads JUnit XML, which is written by code that nobody trusts, into a `TestReport`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from xml.parsers import expat

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus

MAXIMUM_BYTES = 16_000_000
_MAXIMUM_DEPTH = 100
MAXIMUM_FAILURES = 50
_DETAILS = 6_000  # characters
_DECLARATION = re.compile(r"^\ufeff?\s*<\?xml[^>]*\?>")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_RANK = {"skip": 0, "pass": 1, "fail": 2}


def read_junit(data: bytes, *, named_by_file: bool = False) -> TestReport:
    """Read one JUnit document, with `testsuites` or `testsuite` at its root.

    A document that is broken, too large, too deep or that declares a DTD (entities are how a small file becomes a
    huge one) gives an empty report. A test's name is `classname::name`, or a file's name alone where both are that;
    with `named_by_file` it is `file::classname > name`. Memory addresses in it are written `0x…`.

    Failures and errors are `fail`; skipped, and failing as expected (xfail), are `skip`. Where two cases have one
    name the worse of them counts: fail, then pass, then skip.
    """
    text = data[: MAXIMUM_BYTES + 1].decode(errors="replace")
    if len(data) > MAXIMUM_BYTES or not _is_plain(text):
        return TestReport()
    return _report(_cases(_DECLARATION.sub("", text)), _name_by_file if named_by_file else _name)


def suite_times(data: bytes) -> tuple[float, float | None]:
    """Return the longest `time` that a suite of the document states, in seconds, and the first `timestamp`.

    The latter is in seconds since the epoch, None where there is none; one without an offset is local time.
    """
    head = b" ".join(re.findall(rb"<testsuite\b[^>]{1,2000}>", data[:MAXIMUM_BYTES])[:1000])
    seconds = max((float(time) for time in re.findall(rb'\stime="([0-9]{1,9}\.?[0-9]{0,9})"', head)), default=0.0)
    stamp = re.search(rb'\stimestamp="([0-9T:.+Z-]{1,40})"', head)
    try:
        return seconds, datetime.fromisoformat(stamp[1].decode()).timestamp() if stamp else None
    except (ValueError, OverflowError, OSError):
        return seconds, None


def merge_reports(reports: Sequence[TestReport]) -> TestReport:
    """Return one report of several; a test in more than one of them has its worst status."""
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for report in reports:
        for name, status in report.tests.items():
            add_status(tests, name, status)
        failures += report.failures
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]), any(report.overwritten for report in reports))


def add_status(tests: dict[str, TestStatus], name: str, status: TestStatus) -> None:
    """Note a test's status; a name that is there keeps the worse of the two."""
    known = tests.get(name)
    if known is None or _RANK[status] > _RANK[known]:
        tests[name] = status


def clipped(text: str) -> str:
    """Return the end of a failure's text, where what was asserted is, if it is too long."""
    return text[-_DETAILS:]


def stable_name(name: str) -> str:
    """Return a test's name without what differs from run to run: memory addresses and line breaks."""
    return " ".join(_ADDRESS.sub("0x…", name).split())


def _is_plain(text: str) -> bool:
    """Say whether the text is well-formed XML with neither a DTD nor a nesting that no runner writes."""
    depth = 0

    def refuse(*_: object) -> None:
        raise ValueError

    def enter(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAXIMUM_DEPTH:
            raise ValueError

    def leave(*_: object) -> None:
        nonlocal depth
        depth -= 1

    # a str is parsed as UTF-8 whatever its declaration says, so nothing can hide in another encoding
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = enter
    parser.EndElementHandler = leave
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError):
        return False
    return True


def _cases(text: str) -> Iterator[Any]:
    """Yield the document's test cases, those of nested suites too."""
    from junitparser import JUnitXml, JUnitXmlError, TestSuite

    try:
        root = JUnitXml.fromstring(text)
    except (JUnitXmlError, SyntaxError, ValueError):  # ElementTree's and lxml's errors are SyntaxErrors
        return
    # junitparser before 4.0 gives a lone suite as itself; a suite's iterator enters the suites nested in it
    for suite in [root] if isinstance(root, TestSuite) else root:
        yield from suite


def _name(case: Any) -> str:
    if case.classname == case.name and "." in (case.name or ""):
        return str(case.name)
    return "::".join(filter(None, (case.classname, case.name)))


def _name_by_file(case: Any) -> str:
    titles = " > ".join(filter(None, (case.classname, case.name)))
    return "::".join(filter(None, (_file_of(case), titles)))


def _file_of(case: Any) -> str | None:
    from junitparser import Attr

    attribute: Any = Attr("file")  # a descriptor, as those that junitparser has for the other attributes
    value: str | None = attribute.__get__(case, type(case))
    return value


def _report(cases: Iterable[Any], name_of: Callable[[Any], str]) -> TestReport:
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for case in cases:
        name = stable_name(name_of(case))
        if not name:
            continue
        results = [(entry, _status(entry)) for entry in case.result]
        add_status(tests, name, max((status for _, status in results), key=_RANK.__getitem__, default="pass"))
        failures += [_failure(name, entry) for entry, status in results if status == "fail"]
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def _status(entry: Any) -> TestStatus:
    from junitparser import Error, Failure

    return "fail" if isinstance(entry, Failure | Error) else "skip"


def _failure(name: str, entry: Any) -> TestFailure:
    return TestFailure(name, (entry.message or "")[:_DETAILS], clipped(entry.text or ""))
