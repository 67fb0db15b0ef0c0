"""A backlog: tasks in a file, each a JSON object on a line of its own, all of them checked before the first is done."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Self

from miyabi_cli.codegen.request import ISSUE
from miyabi_cli.errors import UsageError

LINE_LIMIT = 1 << 20  # bytes
ID_LIMIT = 100
MOST_ATTEMPTS = 64
EXAMPLE = 'a line is such as {"id": "a", "task": "fix the failing test"}'


@dataclass(frozen=True, slots=True)
class BacklogTask:
    """One line: a task in words or an issue of GitHub, and what else it says; None and () where it says nothing.

    `id` is the line's number where it has none; `digest` tells whether two lines ask for the same.
    """

    id: str
    digest: str
    task: str | None = None
    issue: str | None = None
    base: str | None = None
    check: tuple[str, ...] = ()
    branch: str | None = None
    attempts: int | None = None
    from_run: str | None = None


class Backlog:
    """The tasks of a file, read from a copy, which may be a pipe's and outlasts a change of the file; close it.

    `check` is given each task, and raises UsageError for one that can't be done. Raises UsageError for the first line
    that is wrong, with its number, and for a file without tasks.
    """

    def __init__(self, source: IO[bytes], check: Callable[[BacklogTask], object]) -> None:
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the backlog)
        try:
            for line in _lines(source):
                self._copy.write(line)
            self.count = self._checked(check)
        except BaseException:
            self._copy.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._copy.close()

    def __iter__(self) -> Iterator[BacklogTask]:
        self._copy.seek(0)
        for number, line in enumerate(self._copy, 1):
            if line.strip():
                yield read_task(line, number)

    def _checked(self, check: Callable[[BacklogTask], object]) -> int:
        self._copy.seek(0)
        ids: dict[str, int] = {}
        branches: dict[str, int] = {}
        for number, line in enumerate(self._copy, 1):
            if not line.strip():
                continue
            task = read_task(line, number)
            _refuse_twice("id", task.id, number, ids)
            if task.branch:
                _refuse_twice("branch", task.branch, number, branches)
            try:
                check(task)
            except UsageError as error:
                raise UsageError(f"line {number}: {error.message}", hint=error.hint) from None
        if not ids:
            raise UsageError("there is no task in the file", hint=EXAMPLE)
        return len(ids)


def read_task(line: bytes, number: int) -> BacklogTask:
    """Return the task on a line. Raises UsageError that names the line's number."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(number, f"not JSON: {getattr(error, 'msg', error)!s:.100}") from None
    if not isinstance(data, dict):
        raise _wrong(number, "not a JSON object")
    if unknown := next((key for key in data if key not in FIELDS), None):
        near = difflib.get_close_matches(unknown[:50], FIELDS, 1, 0.5)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FIELDS)}"
        raise UsageError(f"line {number}: unknown key {unknown[:50]!r}", hint=meant)
    given = {key: value for key, value in data.items() if value is not None}
    for key, value in given.items():
        wanted, is_right = FIELDS[key]
        if not is_right(value):
            raise _wrong(number, f"{key} is to be {wanted}")
    _refuse_together(number, given)
    check = given.get("check", ())
    return BacklogTask(
        id=str(given.get("id", number)),
        digest=hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16],
        task=given["task"].strip() if "task" in given else None,
        issue=str(given["issue"]) if "issue" in given else None,
        base=given.get("base"),
        check=(check,) if isinstance(check, str) else tuple(check),
        branch=given.get("branch"),
        attempts=given.get("attempts"),
        from_run=given.get("from"),
    )


def _refuse_together(number: int, given: Mapping[str, Any]) -> None:
    if ("task" in given) == ("issue" in given):
        raise _wrong(number, "a line needs a task or an issue" if "task" not in given else "a task and an issue")
    for key in ("base", "issue"):
        if "from" in given and key in given:
            raise _wrong(number, f"{key} and from exclude each other")


def _refuse_twice(what: str, name: str, number: int, seen: dict[str, int]) -> None:
    if (first := seen.setdefault(name, number)) != number:
        raise _wrong(number, f"the {what} {name!r} is that of line {first} too")


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while line := source.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise _wrong(number, f"longer than {LINE_LIMIT:,} bytes")
        yield line


def _wrong(number: int, problem: str) -> UsageError:
    return UsageError(f"line {number}: {problem}", hint=EXAMPLE)


def _is_text(value: object) -> bool:
    """Say whether a value is text that can be written down and handed to a program."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\0\ud800-\udfff]", value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value == value.strip() and 0 < len(value) <= ID_LIMIT


def _is_number(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _is_id(value: object) -> bool:
    return _is_name(value) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18)


def _is_issue(value: object) -> bool:
    return _is_number(value, 10**18) or (isinstance(value, str) and ISSUE.fullmatch(value) is not None)


def _are_commands(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _is_run(value: object) -> bool:
    return _is_name(value) and value != "last"


# Each key: what it is to be, in words, and whether a value is that.
FIELDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "id": (f"a number or a printable text of at most {ID_LIMIT} letters", _is_id),
    "task": ("text that is not empty", _is_text),
    "issue": ("the number of an issue, or its address", _is_issue),
    "base": ("a commit, branch or tag", _is_text),
    "check": ("a list of commands", _are_commands),
    "branch": ("a name", _is_text),
    "attempts": (f"a number from 1 to {MOST_ATTEMPTS}", lambda value: _is_number(value, MOST_ATTEMPTS)),
    "from": ("the id of a run; not last, since many runs begin at a time", _is_run),
}
