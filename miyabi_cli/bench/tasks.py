"""A suite's tasks: a repository's state, what is asked, and the hidden tests that decide; and the JSONL they lie in.

One JSON object a line. Always there are `task`, and `tests` or `gold`:

    id              text, unique in the file; the line's number where there is none
    task            what the agent is asked, in words
    files           {path: text}: the repository's files; or else
    repository      the folder of a git repository, relative to the file, and
    base            the commit of it whose files the agent gets
    tests           {path: text}: the hidden tests, put over what the agent leaves; null takes a file away; or else
    gold            a commit of `repository`, and
    test_paths      the paths whose content there are the hidden tests
    test_command    shell text that exits 0 when they pass; without it the tests' own runner is found
    must_pass       names of tests that have to pass; without it all of them
    solution        {path: text}: one that is right, never shown to an agent
    editable        paths that decide how tests run, and that a solution may change all the same
    visible         true: the tests lie in the repository from the start
    timeout         seconds for the hidden tests; 120 without it
    language, source    for the report
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from miyabi_cli.errors import MachineError, UsageError

LINE_LIMIT = 16 << 20  # bytes
FILE_LIMIT = 256 << 20
TEXT_LIMIT = 200_000  # characters of a task's words
ID_LIMIT = 200
NAMES_LIMIT = 20_000
TEST_SECONDS = 120.0
MOST_SECONDS = 3600.0
EXAMPLE = '{"id": "a", "task": "make add() add", "files": {"calc.py": "…"}, "tests": {"test_calc.py": "…"}}'
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BenchTask:
    """One task; the module's docstring says what each field is. `repository` is an absolute path, "" where there is
    none; `dependencies` the folder whose `.venv` and `node_modules` its commands are shown.
    """

    id: str
    task: str
    files: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""
    base: str = ""
    tests: Mapping[str, str | None] = field(default_factory=dict)
    gold: str = ""
    test_paths: tuple[str, ...] = ()
    test_command: str = ""
    must_pass: tuple[str, ...] = ()
    solution: Mapping[str, str] = field(default_factory=dict)
    editable: tuple[str, ...] = ()
    visible: bool = False
    timeout: float = TEST_SECONDS
    language: str = ""
    source: str = ""
    dependencies: str = ""

    @property
    def hidden_paths(self) -> tuple[str, ...]:
        """The paths of the hidden tests."""
        return self.test_paths if self.gold else tuple(self.tests)

    @property
    def prompt(self) -> str:
        """What the agent is told: of tests that it can see also where they are."""
        if not self.visible:
            return self.task
        return f"{self.task}\n\nThese tests have to pass: {', '.join(self.hidden_paths)}"

    @property
    def digest(self) -> str:
        """Tells whether two tasks are the same."""
        data = {name: value for name, value in asdict(self).items() if name not in ("repository", "dependencies")}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:16]

    def line(self) -> str:
        """Return the task as a line of a suite."""
        data = {name: value for name, value in asdict(self).items() if value and name != "dependencies"}
        if self.timeout == TEST_SECONDS:
            del data["timeout"]
        return json.dumps(data, ensure_ascii=False) + "\n"


def read_suite(path: Path) -> tuple[BenchTask, ...]:
    """Return the tasks of a JSONL file.

    Raises UsageError for the first line that is wrong, with its number, and for a file without tasks; MachineError for
    one that can't be read.
    """
    tasks: dict[str, BenchTask] = {}
    for number, data in read_objects(path):
        try:
            task = _task(data, number, path)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}", hint=f"a line is such as {EXAMPLE}") from None
        if task.id in tasks:
            raise UsageError(f"{path}, line {number}: the id {task.id!r} is that of an earlier line too")
        tasks[task.id] = task
    if not tasks:
        raise UsageError(f"there is no task in {path}", hint=f"a line is such as {EXAMPLE}")
    return tuple(tasks.values())


def write_suite(path: Path, tasks: Sequence[BenchTask]) -> None:
    """Write tasks as `read_suite` reads them. Raises MachineError."""
    try:
        path.write_text("".join(task.line() for task in tasks), encoding="utf-8", errors="replace")
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON objects of a JSONL file with their lines' numbers; raises what `read_suite` raises."""
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise UsageError(f"{path} is larger than {FILE_LIMIT >> 20} MiB")
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_LIMIT), b""), 1):
                if len(line) == LINE_LIMIT and not line.endswith(b"\n"):
                    raise UsageError(f"{path}, line {number}: longer than {LINE_LIMIT >> 20} MiB")
                if line.strip():
                    yield number, _object(line, number, path)
    except OSError as error:
        hint = "--suite takes a JSONL file, or NAME:PATH; miyabi bench codegen --help names the suites"
        raise MachineError(f"can't read {path}: {error.strerror}", hint=hint) from None


def plain_paths(paths: Sequence[str]) -> bool:
    """Say whether all are paths within a repository, none of them git's own."""
    return all(_is_plain(path) for path in paths)


def visible_as(task: BenchTask, *, visible: bool | None) -> BenchTask:
    """Return the task with its tests shown or hidden, as it says itself for None."""
    return task if visible is None else replace(task, visible=visible)


def _object(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: not JSON: {getattr(error, 'msg', error)!s:.100}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}, line {number}: not a JSON object")
    return data


def _is_plain(path: str) -> bool:
    parts = PurePosixPath(path).parts
    is_relative = bool(parts) and not path.startswith("/") and str(PurePosixPath(path)) == path
    is_odd = any(part in ("..", ".") or part.lower().rstrip(" .") == ".git" for part in parts)
    return is_relative and not is_odd and path.isprintable() and "\\" not in path and len(path) < 1000


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and value == value.encode("utf-8", "replace").decode("utf-8")


def _is_words(value: Any) -> bool:
    return _is_text(value) and bool(value.strip()) and len(value) <= TEXT_LIMIT


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and 0 < len(str(value)) <= ID_LIMIT


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and _fit(tuple(value)) and all(map(_is_text, value.values()))


def _fit(paths: Sequence[str]) -> bool:
    """Say whether all are plain paths, and none is a folder of another."""
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    return plain_paths(paths) and folders.isdisjoint(paths)


def _is_tests(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and _is_files({k: v or "" for k, v in value.items()})


def _is_path_list(value: Any) -> bool:
    return _is_name_list(value) and plain_paths(value)


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= NAMES_LIMIT and all(map(_is_text, value))


def _is_commit(value: Any) -> bool:
    return isinstance(value, str) and bool(_COMMIT.fullmatch(value))


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS


FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "id": ("a short text or a number", _is_short),
    "task": (f"words, at most {TEXT_LIMIT:,} characters", _is_words),
    "files": ("an object of paths within the repository and texts", _is_files),
    "repository": ("a folder", _is_words),
    "base": ("the whole id of a commit", _is_commit),
    "tests": ("an object of paths within the repository, and texts or null", _is_tests),
    "gold": ("the whole id of a commit", _is_commit),
    "test_paths": ("a list of paths within the repository", _is_path_list),
    "test_command": ("a command", _is_words),
    "must_pass": ("a list of names", _is_name_list),
    "solution": ("an object of paths within the repository and texts", _is_files),
    "editable": ("a list of paths within the repository", _is_path_list),
    "visible": ("true or false", lambda value: isinstance(value, bool)),
    "timeout": ("seconds, up to an hour", _is_seconds),
    "language": ("a short text", _is_short),
    "source": ("words", _is_words),
}


def _task(data: dict[str, Any], number: int, path: Path) -> BenchTask:
    """Return the task of a line's object; raises ValueError that says what is wrong."""
    if unknown := next((key for key in data if key not in FIELDS), None):
        near = difflib.get_close_matches(unknown[:50], FIELDS, 1, 0.5)
        raise ValueError(f"unknown key {unknown[:50]!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    given = {key: value for key, value in data.items() if value is not None}
    for key, value in given.items():
        wanted, is_right = FIELDS[key]
        if not is_right(value):
            raise ValueError(f"{key} is to be {wanted}")
    _check_whole(given)
    where = given.pop("repository", "")
    lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    folder = path.parent.absolute()
    repository = str((folder / Path(where).expanduser()).resolve()) if where else ""
    own = {**given, **lists, "id": str(given.get("id", number)), "repository": repository}
    return BenchTask(**own, dependencies=repository or str(folder))


def _check_whole(given: Mapping[str, Any]) -> None:
    if "task" not in given:
        raise ValueError("it has no task")
    if ("files" in given) == ("repository" in given):
        raise ValueError("it needs files, or a repository, and not both")
    if ("repository" in given) != ("base" in given):
        raise ValueError("repository and base go together")
    if ("tests" in given) == ("gold" in given):
        raise ValueError("it needs tests, or gold, and not both")
    if ("gold" in given) != ("test_paths" in given) or ("gold" in given and "repository" not in given):
        raise ValueError("gold, test_paths and repository go together")
