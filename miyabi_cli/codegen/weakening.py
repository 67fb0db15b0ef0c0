"""Tells where a patch makes tests prove less: deleted, skipped, with fewer or other assertions, run otherwise.

It reads lines, not programs: what it tells of is for a person to look at. What holds is the rule of `verified`, which
runs the checks with the base's tests too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from miyabi_cli.workspace.diffs import DiffLine, FileDiff
from miyabi_cli.workspace.toolchains import is_test_configuration, is_test_path

_SKIP = re.compile(
    r"@(?:\w+\.)*(?:skip\w*|xfail|expectedFailure|Ignore|Disabled)\b|\bpytest\.(?:skip|xfail|importorskip)\("
    r"|\.skipTest\(|\bSkipTest\b|\bpytestmark\s*=.*(?:skip|xfail)"
    r"|\b(?:it|test|describe|context|suite)\.(?:skip|todo|fixme|failing|skipIf)\b|\bx(?:it|describe|test|specify)\("
    r"|#\[ignore|\b[tb]\.Skip(?:f|Now)?\(|\bGTEST_SKIP\(|\bDISABLED_\w"
)
_ASSERTION = re.compile(
    r"\bassert(?:[A-Z_]\w*)?\b|\bassert(?:_\w+)?!|\bassert\.\w+\(|\bexpect\(|\.should\b|\b(?:EXPECT|ASSERT|CHECK|REQUIRE)\w*\("
    r"|\b[tb]\.(?:Error|Fatal|Fail)\w*\(|\b(?:pytest|self|t)\.(?:raises|warns|fail|assertRaises\w*|is|throws|ok)\("
    r"|#\[should_panic|@Test\(expected"
)
_RUNNER = re.compile(
    r"\b(?:addopts|testpaths|python_(?:files|classes|functions)|norecursedirs|collect_ignore\w*|pytest_\w+|deselect)\b"
    r'|--ignore|--deselect|\btest(?:Match|PathIgnorePatterns|Regex|NamePattern)\b|"(?:pre|post)?test(?::[\w-]+)?"\s*:'
    r"|\b(?:harness|test|doctest)\s*=\s*false\b|\b(?:include|exclude)\b|\badd_test\(|^\.?(?:test|check)s?\s*:"
)
_COMMENT = re.compile(r"\s*(?:#(?!\[)|//|/\*|\*)")


@dataclass(frozen=True, slots=True)
class Weakened:
    """A file in which tests prove less than before, and how: for a person, and in `warnings`."""

    path: str
    message: str


def weakened_tests(diffs: Iterable[FileDiff]) -> Iterator[Weakened]:
    """Yield what a patch takes from the tests, file by file."""
    for diff in diffs:
        if is_test_path(diff.old_path):
            yield from (Weakened(diff.path, message) for message in _in_tests(diff))
        elif is_test_configuration(diff.old_path) and _changes_the_runner(diff):
            yield Weakened(diff.path, "it changes which tests run, or how")
        elif skips := _surplus(_SKIP, diff):
            # in some languages tests stand beside the code
            yield Weakened(diff.path, f"it skips tests: {_quoted(skips)}")


def _in_tests(diff: FileDiff) -> Iterator[str]:
    if diff.status == "deleted":
        yield "it deletes tests"
        return
    if diff.status == "created":
        if skips := _surplus(_SKIP, diff):
            yield f"new tests are skipped: {_quoted(skips)}"
        return
    if not is_test_path(diff.path):
        yield f"it moves tests from {diff.old_path} to where none are looked for"
    if skips := _surplus(_SKIP, diff):
        yield f"it skips tests: {_quoted(skips)}"
    gone, come = _lost(diff), _surplus(_ASSERTION, diff)
    if len(gone) > len(come):
        yield f"{len(gone) - len(come)} fewer assertions: {_quoted(gone)}"
    elif gone:
        yield f"{_counted(len(gone), 'assertion')} changed: {_quoted(gone)}"


def _surplus(pattern: re.Pattern[str], diff: FileDiff) -> list[str]:
    """Return the lines with a pattern that come and did not just move or change their indentation."""
    return _difference(diff.added, diff.removed, pattern)


def _lost(diff: FileDiff) -> list[str]:
    return _difference(diff.removed, diff.added, _ASSERTION)


def _difference(lines: Iterable[DiffLine], others: Iterable[DiffLine], pattern: re.Pattern[str]) -> list[str]:
    there = Counter(line.text.strip() for line in others)
    found = []
    for line in lines:
        text = line.text.strip()[:500]
        if there[text] > 0:
            there[text] -= 1
        elif pattern.search(text) and not _COMMENT.match(text):
            found.append(text)
    return found


def _changes_the_runner(diff: FileDiff) -> bool:
    if diff.status == "created":
        return any(_RUNNER.search(line.text[:500]) for line in diff.added)
    return bool(_difference(diff.removed, diff.added, _RUNNER) or _difference(diff.added, diff.removed, _RUNNER))


def _quoted(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0][:80]}{more}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"
