"""The suites that others have made, one loader each: from where the user has them to tasks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from miyabi_cli.bench.suites.exercism import TRACKS, read_exercism
from miyabi_cli.bench.suites.humaneval import read_humaneval
from miyabi_cli.bench.suites.humanevalfix import LANGUAGES, read_humanevalfix
from miyabi_cli.bench.suites.quixbugs import read_quixbugs
from miyabi_cli.bench.tasks import BenchTask, read_suite
from miyabi_cli.errors import MachineError, UsageError

Loader = Callable[[Path], tuple[BenchTask, ...]]

WITHOUT_PATH = "humaneval"  # it may be installed


def _exercism(track: str) -> Loader:
    return lambda path: read_exercism(path, track)


def _humanevalfix(language: str) -> Loader:
    return lambda path: read_humanevalfix(path, language)


LOADERS: Mapping[str, Loader] = {
    **{f"exercism-{track}": _exercism(track) for track in TRACKS},
    **{f"humanevalfix-{language}": _humanevalfix(language) for language in LANGUAGES},
    "quixbugs": read_quixbugs,
    "humaneval": read_humaneval,
}


def load_suite(name: str) -> tuple[BenchTask, ...]:
    """Return the tasks of `FILE` or `NAME:PATH`.

    Raises UsageError for a suite that is not known or is damaged, MachineError for a path that can't be read.
    """
    return tuple(replace(task, id=_sound(task.id), task=_sound(task.task)) for task in _loaded(name))


def _sound(text: str) -> str:
    """Return text that every encoding and program takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def _loaded(name: str) -> tuple[BenchTask, ...]:
    suite, separator, place = name.partition(":")
    if suite == WITHOUT_PATH and not place:
        return read_humaneval(None)
    if suite in LOADERS and place:
        path = Path(place).expanduser()
        if not path.exists():
            raise MachineError(f"{path} is not there", hint=f"--suite {suite}:PATH names where you have the suite")
        return LOADERS[suite](path)
    if suite in LOADERS:
        raise UsageError(f"where is {suite}?", hint=f"--suite {suite}:PATH names where you have it")
    path = Path(name).expanduser()
    if not path.exists() and (separator or not path.suffix):
        near = difflib.get_close_matches(suite, LOADERS, 1, 0.5)
        known = f"did you mean {near[0]}:PATH?" if near else f"known are {', '.join(LOADERS)}"
        raise UsageError(f"no suite is named {suite!r:.100}", hint=f"{known}; or a JSONL file")
    return read_suite(path)
