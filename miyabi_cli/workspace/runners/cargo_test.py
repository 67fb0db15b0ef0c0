"""Reads what `cargo test` prints: libtest's lines, test binary by test binary, documentation tests too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from miyabi_cli.workspace.check_records import TestFailure, TestReport, TestStatus
from miyabi_cli.workspace.runners.junit import MAXIMUM_FAILURES, add_status, clipped

_BINARY = re.compile(r"^ *Running (?P<unit>unittests )?(?P<path>\S{1,500}) \((?P<file>\S{1,4000})\)$", re.MULTILINE)
_DOCUMENTATION = re.compile(r"^ *Doc-tests (?P<crate>[\w-]{1,200})$", re.MULTILINE)
_CRATE = re.compile(r"([\w-]+?)-[0-9a-f]{16}(?:\.exe)?$")
_RESULT = re.compile(r"^test result: \w+\. (?P<passed>\d{1,9}) passed; (?P<failed>\d{1,9}) failed;", re.MULTILINE)
_RUNNING = re.compile(r"^running (\d{1,9}) tests?$", re.MULTILINE)
_LINE = re.compile(r" \(line (\d{1,9})\)")
_SHOULD_PANIC = " - should panic"
_PANICKED = re.compile(r"^thread '.*' (?:\(\d+\) )?panicked at ", re.MULTILINE)
_ENDING: dict[str, TestStatus] = {"ok": "pass", "FAILED": "fail", "ignored": "skip"}
_WIDEST = 10_000  # characters of a line that is looked at


@dataclass(slots=True)
class _Binary:
    """What one test binary told: tests by the name that it prints, None where how one ended is not known."""

    place: str
    tests: dict[str, TestStatus | None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def read_cargo_test(output: str) -> TestReport:
    """Read the output of `cargo test`.

    A unit test is named by its path in the language (`crate::tests::adds`), those of a binary and of an integration
    test by their file (`tests/sums.rs::adds`), a documentation test by what it documents (`src/lib.rs - add`, the
    second there `src/lib.rs - add #2`): lines move with every patch. `tests` is empty where nothing was run, as
    after an error of the compiler. A test that began and never ended is `fail`; ignored ones are `skip`.
    """
    tests: dict[str, TestStatus] = {}
    failures: list[TestFailure] = []
    for binary in _binaries(output):
        names = _stable_names(binary)
        for printed, status in binary.tests.items():
            add_status(tests, names[printed], status or "fail")
        failing = [printed for printed, status in binary.tests.items() if status in ("fail", None)]
        failures += [_failure(names[printed], binary.texts.get(printed, "")) for printed in failing]
    return TestReport(tests, tuple(failures[:MAXIMUM_FAILURES]))


def cargo_found_no_test(output: str) -> bool:
    """Say whether all binaries that were run had no test in them."""
    counts = [int(count) for count in _RUNNING.findall(output)]
    return bool(counts) and not any(counts)


def _binaries(output: str) -> Iterator[_Binary]:
    heads = sorted([*_BINARY.finditer(output), *_DOCUMENTATION.finditer(output)], key=lambda match: match.start())
    starts = [0, *(head.end() for head in heads)]
    ends = [*(head.start() for head in heads), len(output)]
    for head, start, end in zip([None, *heads], starts, ends, strict=True):
        text = output[start:end]
        if _RUNNING.search(text):
            yield _read_binary(_place(head), text)


def _place(head: re.Match[str] | None) -> str:
    """Return what the names of a binary's tests begin with; "" where nothing says which binary it was."""
    found = head.groupdict() if head else {}
    if "path" not in found:
        return ""  # documentation tests carry their file in their name
    crate = _CRATE.search(found["file"])
    if found["unit"] and found["path"].endswith("lib.rs") and crate:
        return f"{crate[1]}::"
    return f"{found['path']}::"


def _read_binary(place: str, text: str) -> _Binary:
    binary = _Binary(place)
    told, _, listed = text.partition("\nfailures:\n")
    for line in told.splitlines():
        if " ... " in line[:_WIDEST] or line.endswith(" ..."):
            _read_line(binary, line[:_WIDEST])
    _settle(binary, text, listed)
    binary.texts.update(_texts(listed))
    return binary


def _read_line(binary: _Binary, line: str) -> None:
    """Note a line `test NAME ... ENDING`; what a test's child process printed may stand before it, or in the midst."""
    body, _, ending = line.partition(" ... ") if line.startswith("test ") else line.rpartition(" ... ")
    _, test, name = ("", "test ", body[5:]) if body.startswith("test ") else body.rpartition("test ")
    if test and name.strip():
        word = ending.replace(",", " ").split(" ")[0]
        known = binary.tests.get(name)
        status = _ENDING.get(word)
        binary.tests[name] = "fail" if "fail" in (known, status) else status or known


def _settle(binary: _Binary, text: str, listed: str) -> None:
    """Find out how the tests ended whose ending was printed apart from their name: the summary names what failed."""
    names = {line[4:] for line in listed.rpartition("\nfailures:\n")[2].splitlines() if line.startswith("    ")}
    for name in names & binary.tests.keys():
        binary.tests[name] = "fail"
    unknown = [name for name, status in binary.tests.items() if status is None]
    result = _RESULT.search(text)
    if result and unknown:
        passed = sum(status == "pass" for status in binary.tests.values())
        if passed + len(unknown) == int(result["passed"]):
            binary.tests.update(dict.fromkeys(unknown, "pass"))


def _texts(listed: str) -> Iterator[tuple[str, str]]:
    """Yield what each failing test printed: `---- NAME stdout ----` and the lines up to the next."""
    name, lines = "", list[str]()
    for line in listed.splitlines():
        if line.startswith("---- ") and line.endswith(" stdout ----"):
            yield name, "\n".join(lines)
            name, lines = line[5:-12], []
        elif line == "failures:":
            break
        else:
            lines.append(line)
    yield name, "\n".join(lines)


def _stable_names(binary: _Binary) -> dict[str, str]:
    """Return each test's name by the one that was printed: without line numbers, those with one name counted."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for printed in sorted(binary.tests, key=_line_number):
        name = _LINE.sub("", printed).removesuffix(_SHOULD_PANIC)
        counts[name] = counts.get(name, 0) + 1
        number = f" #{counts[name]}" if counts[name] > 1 and name != printed else ""
        names[printed] = f"{binary.place}{name}{number}"
    return names


def _line_number(printed: str) -> int:
    found = _LINE.search(printed)
    return int(found[1]) if found else 0


def _failure(name: str, text: str) -> TestFailure:
    details = text.strip("\n")
    panic = _PANICKED.search(details)
    message = details[panic.start() :] if panic else details
    return TestFailure(name, clipped(message.partition("\n")[2] or message), clipped(details))
