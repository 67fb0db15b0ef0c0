"""QuixBugs: 40 programs, each with a bug on one line; from a checkout of jkoppel/QuixBugs, or as JSON lines.

A checkout holds `python_programs/NAME.py`, `correct_python_programs/NAME.py`, and `json_testcases/NAME.json` (pairs of
arguments and result, one a line) or `python_testcases/test_NAME.py`. A line holds `{"id", "buggy", "correct", "cases",
"pytest"}`. The programs come with their tests, so the tests lie in the repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.bench.tasks import BenchTask, read_objects
from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.workspace.regular_files import read_regular

CASE_SECONDS = 10
# Cases that QuixBugs' own tests skip, since its corrections take minutes for them; and what its tests compare roughly.
TOO_SLOW = (("knapsack", "[6404180]"), ("levenshtein", "['amanaplanacanalpanama']"))
APPROXIMATE = ("sqrt",)
SECONDS = 300.0
PROJECT = '[tool.pytest.ini_options]\npythonpath = ["."]\n'
# As the graph programs' own tests build their graphs; successors first, as those call it.
NODE = '''"""A node of a graph or of a linked list."""


class Node:
    def __init__(
        self, value=None, successor=None, successors=(), predecessors=(), incoming_nodes=(), outgoing_nodes=()
    ):
        self.value = value
        self.successor = successor
        self.successors = list(successors)
        self.predecessors = list(predecessors)
        self.incoming_nodes = list(incoming_nodes)
        self.outgoing_nodes = list(outgoing_nodes)
'''
_CHOICE = re.compile(
    r"^if pytest\.use_correct:\n(?:[ \t]+.*\n)+else:\n[ \t]+from python_programs\.(\w+) import (\w+)\n", re.MULTILINE
)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,80}")
_FILE_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    buggy: str
    correct: str
    cases: Sequence[Any]
    pytest: str


def read_quixbugs(path: Path) -> tuple[BenchTask, ...]:
    """Return the programs as tasks. Raises UsageError where there are none, or one is damaged."""
    programs = list(_checkout(path) if path.is_dir() else _lines(path))
    if not programs:
        hint = "a checkout of jkoppel/QuixBugs has python_programs and json_testcases"
        raise UsageError(f"there is no program of QuixBugs in {path}", hint=hint)
    return tuple(_task(program, path) for program in programs)


def _task(program: _Program, path: Path) -> BenchTask:
    name = program.name
    files = {f"{name}.py": _ended(program.buggy), "pyproject.toml": PROJECT}
    if not program.cases:
        files["node.py"] = NODE
    return BenchTask(
        id=f"quixbugs/{name}",
        task=f"{name}() in {name}.py is wrong. Fix it; the bug is on one line.",
        files=files,
        tests={f"tests/test_{name}.py": _cases(name, program.cases) if program.cases else _rewritten(program.pytest)},
        solution={f"{name}.py": _ended(program.correct)},
        visible=True,
        timeout=SECONDS,
        language="python",
        source="QuixBugs",
        dependencies=str((path if path.is_dir() else path.parent).absolute()),
    )


def _ended(text: str) -> str:
    return text.strip("\n") + "\n"


def _rewritten(text: str) -> str:
    """Return a test of QuixBugs' own that imports the program from where it lies in the task."""
    return _CHOICE.sub(r"from \1 import \2\n", text)


def _cases(name: str, cases: Sequence[Any]) -> str:
    """Return tests of pairs of arguments and result, as QuixBugs' own: generators as lists, floats approximately.

    A case fails after some seconds of processor time, for many of the bugs are loops without an end.
    """
    pairs = [(case[0] if isinstance(case[0], list) else [case[0]], case[1]) for case in cases]
    pairs = [(given, expected) for given, expected in pairs if (name, str(given[:1])) not in TOO_SLOW]
    about = "    if isinstance(expected, float):\n        expected = pytest.approx(expected)"
    about = "    expected = pytest.approx(expected, abs=given[-1])" if name in APPROXIMATE else about
    listed = "".join(f"    ({given!r}, {expected!r}),\n" for given, expected in pairs)
    return f"""import signal

import pytest

from {name} import {name}

CASES = [
{listed}]


def too_slow(*_):
    raise TimeoutError("the program does not end")


@pytest.fixture(autouse=True)
def limit():
    signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, {CASE_SECONDS})
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_{name}(given, expected):
    result = {name}(*given)
    if hasattr(result, "__next__"):
        result = list(result)
{about}
    if isinstance(result, tuple):
        result = list(result)
    if isinstance(result, list):
        result = [list(part) if isinstance(part, tuple) else part for part in result]
    assert result == expected
"""


def _lines(path: Path) -> Iterator[_Program]:
    for number, data in read_objects(path):
        try:
            cases, tests = data.get("cases") or [], data.get("pytest") or ""
            yield _program(data["id"], data["buggy"], data["correct"], cases, tests)
        except (KeyError, ValueError, TypeError):
            hint = "a line has id, buggy, correct, and cases or pytest"
            raise UsageError(f"{path}, line {number}: no program of QuixBugs", hint=hint) from None


def _program(name: Any, buggy: Any, correct: Any, cases: Any, tests: Any) -> _Program:
    """Return a program whose parts are what they should be; raises ValueError."""
    texts = all(isinstance(text, str) for text in (name, buggy, correct, tests))
    is_paired = isinstance(cases, list) and all(isinstance(case, list) and len(case) == 2 for case in cases)
    if not texts or not is_paired or not _NAME.fullmatch(name) or not (cases or tests):
        raise ValueError("not a program")
    return _Program(name, buggy, correct, cases, tests)


def _checkout(path: Path) -> Iterator[_Program]:
    for file in sorted((path / "python_programs").glob("*.py")):
        name = file.stem
        correct, cases = path / f"correct_python_programs/{name}.py", path / f"json_testcases/{name}.json"
        tests = path / f"python_testcases/test_{name}.py"
        if (
            name.endswith("_test")
            or name == "node"
            or not correct.is_file()
            or not (cases.is_file() or tests.is_file())
        ):
            continue
        try:
            pairs = [json.loads(line) for line in _text(cases).splitlines() if line.strip()] if cases.is_file() else []
            yield _program(name, _text(file), _text(correct), pairs, "" if pairs else _text(tests))
        except (ValueError, RecursionError):
            raise UsageError(f"{cases} holds no pairs of arguments and result") from None


def _text(path: Path) -> str:
    data = read_regular(path, _FILE_LIMIT)
    if data is None:
        raise MachineError(f"can't read {path}", hint="it is no regular file of at most four MiB")
    return data.decode("utf-8", "replace")
