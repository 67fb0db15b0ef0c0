"""The JSON document of `miyabi bench`: made of results, and read back as something that a stranger may have written."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from miyabi_cli.errors import MachineError, UsageError

VERSION = 1
LARGEST = 64 * 2**20  # bytes of a document
_LONGEST_NUMBER = 40  # digits and signs of one number
_LONGEST_REASON = 200

Kind = Literal["serve", "codegen", "review", "triage"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_HINT = "expected a file that `miyabi bench … --output FILE` wrote"


@dataclass(frozen=True, slots=True)
class Document:
    """What one benchmark has measured, as schemas/bench.json describes it.

    `environment` is that of `bench.environment`, `settings` what was asked for. `results` has one object for each
    level of load (serve) or for each trial of a task (the other kinds); `summary` says what they come to.
    """

    kind: Kind
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """Return the object that the document is in JSON."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "results": [dict(result) for result in self.results],
            "summary": dict(self.summary),
        }


def read_document(path: Path) -> Document:
    """Return the document in a file.

    Raises MachineError where the file can't be read, and UsageError where it is damaged, no document of a benchmark,
    of a newer miyabi, or not as schemas/bench.json has it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise MachineError(f"can't read {path}: {error.strerror}", hint=_HINT) from None
    if len(content) > LARGEST:
        raise UsageError(f"{path} is larger than a benchmark's document: {LARGEST >> 20} MiB", hint=_HINT)
    return parse_document(content, str(path))


def parse_document(content: bytes, name: str) -> Document:
    """Return the document that is in a file called `name`. Raises UsageError as `read_document` does."""
    try:
        data = json.loads(content, parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UsageError(f"{name} is damaged: it is no JSON", hint=_HINT) from None
    if not isinstance(data, dict) or "version" not in data or "kind" not in data:
        raise UsageError(f"{name} is no document of a benchmark", hint=_HINT)
    _check_version(data["version"], name)
    if data["kind"] not in KINDS:
        raise UsageError(f"{name} is of no kind that is known: {_cut(data['kind'])}", hint=f"known: {', '.join(KINDS)}")
    if problem := _problem(data):
        raise UsageError(f"{name} is damaged: {problem}", hint=_HINT)
    return Document(data["kind"], data["environment"], data["settings"], data["results"], data["summary"])


def _check_version(version: Any, name: str) -> None:
    if type(version) is not int or version < 1:
        raise UsageError(f"{name} is no document of a benchmark", hint=_HINT)
    if version > VERSION:
        message = f"{name} is of version {version}, and this miyabi reads {VERSION}"
        raise UsageError(message, hint="update miyabi: pip install --upgrade miyabi")


def _problem(data: Mapping[str, Any]) -> str:
    import fastjsonschema

    try:
        _validator()(data)
    except fastjsonschema.JsonSchemaValueException as error:
        return _cut(error.message)
    except RecursionError:
        return "it is nested too deeply"
    return ""


@functools.cache
def _validator() -> Callable[[Any], Any]:
    import fastjsonschema

    text = resources.files("miyabi_cli").joinpath("schemas", "bench.json").read_text("utf-8")
    compiled: Callable[[Any], Any] = fastjsonschema.compile(json.loads(text))
    return compiled


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number too large")
    return number


def _int(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number too large")
    return int(text)
