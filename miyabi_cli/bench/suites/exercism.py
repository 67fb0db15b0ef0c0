"""Exercism's practice exercises, from a checkout of Aider-AI/polyglot-benchmark or a track, or as JSON lines.

A checkout holds `TRACK/exercises/practice/SLUG/` with `.docs/*.md` and `.meta/config.json`, whose `files` say which
are the solution's, the tests' and the examples' (exercism.org/docs/building/tracks/practice-exercises). A line holds
`{"id", "instructions", "files", "solution_files", "test_files", "reference"}`.

As in aider's polyglot benchmark the tests are hidden while the agent works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from miyabi_cli.bench.tasks import BenchTask, plain_paths, read_objects
from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.workspace.regular_files import read_regular

TRACKS = ("python", "rust", "javascript", "go")
DOCUMENTS = ("introduction.md", "instructions.md", "instructions.append.md")
FILE_LIMIT = 1 << 20  # bytes
_LEFT_OUT = (".meta", ".docs", ".approaches", ".articles", "node_modules", "target", "__pycache__")
SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class _Exercise:
    id: str
    instructions: str
    files: Mapping[str, str]
    solution_files: Sequence[str]
    test_files: Sequence[str]
    reference: Mapping[str, str]


def read_exercism(path: Path, track: str) -> tuple[BenchTask, ...]:
    """Return the exercises of a track. Raises UsageError where there are none, or a file is damaged."""
    exercises = list(_exercises_in(path, track) if path.is_dir() else _lines(path))
    tasks = [_task(exercise, track, path) for exercise in exercises]
    if not tasks:
        hint = f"a checkout of Aider-AI/polyglot-benchmark has {track}/exercises/practice"
        raise UsageError(f"there is no exercise of the track {track} in {path}", hint=hint)
    return tuple(tasks)


def _task(exercise: _Exercise, track: str, path: Path) -> BenchTask:
    tests = {name: exercise.files[name] for name in exercise.test_files if name in exercise.files}
    stubs = [name for name in exercise.solution_files if name in exercise.files]
    if not tests or not stubs:
        raise UsageError(f"{path}: {exercise.id!r:.100} has no tests or no stub", hint="the suite is damaged")
    named = ", ".join(stubs)
    words = f"Implement {named}: so far it is a stub. Keep the names of what is there, and use the standard library."
    # what lies beside the tests and begins with their name is theirs too: Go's cases_test.go
    more = {name: text for name, text in exercise.files.items() if track == "go" and name.endswith("_test.go")}
    hidden = {**more, **tests}
    files = {name: text for name, text in exercise.files.items() if name not in hidden}
    return BenchTask(
        id=exercise.id,
        task=f"{words}\n\n{exercise.instructions.strip()}",
        files=files,
        tests={name: _runnable(text, track) for name, text in hidden.items()},
        solution=_solution(exercise, stubs),
        editable=tuple(stubs),
        timeout=SECONDS,
        language=track,
        source=f"exercism {track}",
        dependencies=str((path if path.is_dir() else path.parent).absolute()),
    )


def _runnable(text: str, track: str) -> str:
    """Return tests none of which is switched off for the learner to switch on, as the tracks' own checks do."""
    if track == "rust":
        lines = text.splitlines(keepends=True)
        return "".join(line for line in lines if not line.strip().startswith("#[ignore"))
    return text.replace("xtest(", "test(").replace("xit(", "it(") if track == "javascript" else text


def _solution(exercise: _Exercise, stubs: Sequence[str]) -> dict[str, str]:
    """Return the reference under the names of the stubs; it lies below .meta under names of its own."""
    found: dict[str, str] = {}
    for name, text in exercise.reference.items():
        plain = PurePosixPath(name)
        same = [stub for stub in stubs if PurePosixPath(stub).name == plain.name]
        kind = [stub for stub in stubs if PurePosixPath(stub).suffix == plain.suffix]
        if plain.name.startswith(("example", "exemplar", "proof")) and kind:
            found[kind[0]] = text
        elif plain.name == "Cargo-example.toml" and "Cargo.toml" in exercise.files:
            found["Cargo.toml"] = text
        elif same:
            found[same[0]] = text
    return found


def _lines(path: Path) -> Iterator[_Exercise]:
    for number, data in read_objects(path):
        try:
            files, reference = _texts(data["files"]), _texts(data.get("reference", {}), is_hidden=True)
            lists = [_names(data["solution_files"]), _names(data["test_files"])]
            yield _Exercise(str(data["id"])[:200], str(data["instructions"]), files, lists[0], lists[1], reference)
        except (KeyError, TypeError, ValueError):
            hint = "a line has id, instructions, files, solution_files and test_files"
            raise UsageError(f"{path}, line {number}: no exercise", hint=hint) from None


def _texts(data: Any, *, is_hidden: bool = False) -> dict[str, str]:
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        raise ValueError("not files")
    if not is_hidden and not plain_paths(tuple(data)):
        raise ValueError("not paths within a repository")
    return dict(data)


def _names(data: Any) -> list[str]:
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise ValueError("not names")
    return data


def _exercises_in(path: Path, track: str) -> Iterator[_Exercise]:
    """Yield those of a checkout of all tracks, of one track, or of a folder of exercises."""
    for top in (path / track / "exercises/practice", path / "exercises/practice", path):
        folders = sorted(folder for folder in top.iterdir() if _config_of(folder).is_file()) if top.is_dir() else []
        if folders:
            yield from (_exercise(folder, track) for folder in folders)
            return


def _config_of(folder: Path) -> Path:
    return folder / ".meta/config.json"


def _exercise(folder: Path, track: str) -> _Exercise:
    try:
        named = json.loads(_text(_config_of(folder)))["files"]
        lists = {key: [str(name) for name in named.get(key, [])] for key in ("solution", "test", "example", "exemplar")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{_config_of(folder)} is no configuration of an exercise") from None
    files = dict(_files(folder))
    examples = [name for name in (*lists["example"], *lists["exemplar"]) if plain_paths([name])]
    if track == "rust":
        examples.append(".meta/Cargo-example.toml")
    documents = [_text(folder / ".docs" / name) for name in DOCUMENTS if (folder / ".docs" / name).is_file()]
    reference = {name: _text(folder / name) for name in examples if (folder / name).is_file()}
    return _Exercise(
        f"{track}/{folder.name}", "\n\n".join(documents), files, lists["solution"], lists["test"], reference
    )


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name.split("/")[0] not in _LEFT_OUT and plain_paths([name]) and file.is_file() and not file.is_symlink():
            yield name, _text(file)


def _text(path: Path) -> str:
    data = read_regular(path, FILE_LIMIT)
    if data is None:
        raise MachineError(f"can't read {path}", hint="it is no regular file of at most a MiB")
    return data.decode("utf-8", "replace")
