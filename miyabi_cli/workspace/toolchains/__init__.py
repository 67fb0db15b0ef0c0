"""The languages that miyabi knows, one record each: a language is added by writing its record here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.workspace.check_records import Survey
from miyabi_cli.workspace.toolchains.c import C
from miyabi_cli.workspace.toolchains.go import GO
from miyabi_cli.workspace.toolchains.javascript import JAVASCRIPT
from miyabi_cli.workspace.toolchains.python import PYTHON
from miyabi_cli.workspace.toolchains.rust import RUST
from miyabi_cli.workspace.toolchains.toolchain import Toolchain

MAXIMUM_FILES = 50_000

_UNSEEN = (".git", ".hg", ".svn", "node_modules", "site-packages", "__pycache__", ".tox", ".nox", ".eggs")

TOOLCHAINS: tuple[Toolchain, ...] = (PYTHON, RUST, JAVASCRIPT, GO, C)

# of no language: any check may be started by them
_CONFIGURATION = (
    *("Makefile", "makefile", "GNUmakefile", "*.mk", "justfile", "Justfile", "Taskfile.yml", ".miyabi.yml"),
)


def survey(tree: Path, *, repository: Path, environ: Mapping[str, str]) -> Survey:
    """Look at a tree's files, at most 50,000 of them; links are not followed and installed packages left out."""
    return Survey(tree, list_files(tree), repository, environ)


def list_files(tree: Path) -> tuple[str, ...]:
    """Return the paths of a tree's files relative to it, folders sorted, without version control and packages."""
    found: list[str] = []
    for folder, folders, files in os.walk(tree):
        if "pyvenv.cfg" in files:  # a virtual environment, whatever its name
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name not in _UNSEEN)
        relative = os.path.relpath(folder, tree)
        prefix = "" if relative == "." else f"{relative}/"
        found += [prefix + name for name in sorted(files)]
        if len(found) >= MAXIMUM_FILES:
            break
    return tuple(found[:MAXIMUM_FILES])


def recognised_toolchains(files: Iterable[str]) -> tuple[Toolchain, ...]:
    """Return the toolchains whose files are among these paths."""
    paths = tuple(files)
    return tuple(chain for chain in TOOLCHAINS if any(_matches(path, chain.recognised) for path in paths))


def is_test_path(path: str) -> bool:
    """Say whether a path, relative to the tree, is a test or lies beside tests."""
    return any(_matches(path, chain.tests) for chain in TOOLCHAINS)


def is_test_configuration(path: str) -> bool:
    """Say whether a path decides which tests run and how: conftest.py, pytest.ini, package.json, Makefile…"""
    return _matches(path, _CONFIGURATION) or any(_matches(path, chain.configuration) for chain in TOOLCHAINS)


def with_base_inline_tests(path: str, base: str, patched: str) -> str | None:
    """Return a patched source with the tests that the base's has in it; None where there is nothing to change."""
    texts = (chain.with_base_tests(base, patched) for chain in TOOLCHAINS if _matches(path, chain.inline_tests))
    return next((text for text in texts if text is not None), None)


def may_hold_tests(path: str) -> bool:
    """Say whether a source of this name may have tests beside its code."""
    return any(_matches(path, chain.inline_tests) for chain in TOOLCHAINS)


def touches_tests(paths: Iterable[str]) -> bool:
    """Say whether any of the paths is a test or decides how tests run."""
    return any(is_test_path(path) or is_test_configuration(path) for path in paths)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(_matches_one(path, pattern) for pattern in patterns)


def _matches_one(path: str, pattern: str) -> bool:
    *folders, name = path.split("/")
    if pattern.endswith("/"):
        return any(fnmatchcase(folder, pattern[:-1]) for folder in folders)
    return fnmatchcase(path if "/" in pattern else name, pattern)
