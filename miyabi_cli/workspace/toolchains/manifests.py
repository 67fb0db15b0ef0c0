"""The files that say what a project is (Cargo.toml, package.json, go.mod, CMakeLists.txt), and where in a tree."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from miyabi_cli.workspace.check_records import Check, Survey
from miyabi_cli.workspace.interpreters import stamp

_FIXTURES = {"tests", "test", "fixtures", "testdata", "examples", "example", "vendor", "third_party"}


def folders_with(survey: Survey, name: str) -> tuple[str, ...]:
    """Return the folders that hold a file of that name, "" for the top, the highest first; fixtures are left out."""
    parents = [PurePosixPath(path).parent for path in survey.files if PurePosixPath(path).name == name]
    real = [parent for parent in parents if not _FIXTURES & set(parent.parts)]
    return tuple("" if str(parent) == "." else str(parent) for parent in sorted(real, key=_depth_first))


def left_out(kind: str, folder: str, others: Sequence[str]) -> tuple[str, ...]:
    """Return the note on projects beside the one in `folder`, and not below it, that no check covers."""
    apart = [other for other in others if other != folder and not is_below(other, folder)]
    if not apart:
        return ()
    named = ", ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")
    return (f"not covered: the {kind} in {named}; name their command by --check",)


def is_below(folder: str, other: str) -> bool:
    """Say whether a folder lies below another, as everything does below the top, ""."""
    return not other or folder.startswith(f"{other}/")


def in_folder(folder: str, name: str) -> str:
    """Return the path of a file of a project's."""
    return f"{folder}/{name}" if folder else name


def check_in(folder: str, name: str, command: str) -> Check:
    """Return a check that is run in a folder of the tree."""
    return Check(name, f"cd {shlex.quote(folder)} && {command}" if folder else command)


def program_stamps(environ: Mapping[str, str], *names: str) -> Iterator[str]:
    """Yield texts that change with programs on the caller's PATH."""
    for name in names:
        if found := shutil.which(name, path=environ.get("PATH")):
            yield stamp(Path(found).resolve())


def has_program(survey: Survey, name: str) -> bool:
    """Say whether the caller's PATH leads to a program."""
    return shutil.which(name, path=survey.environ.get("PATH")) is not None


def read_toml(text: str) -> dict[str, Any]:
    """Return a TOML document, {} for what is none."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def read_json_object(text: str) -> dict[str, Any]:
    """Return a JSON object, {} for what is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _depth_first(parent: PurePosixPath) -> tuple[int, str]:
    return len(parent.parts), str(parent)
