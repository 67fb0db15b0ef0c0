"""The languages that miyabi knows, one record each: a language is added by writing its record here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.workspace.check_records import CheckPlan, Survey, TestReport
from miyabi_cli.workspace.python_checks import find_python_checks, python_variables
from miyabi_cli.workspace.unittest_output import read_unittest

MAXIMUM_FILES = 50_000

_UNSEEN = (".git", ".hg", ".svn", "node_modules", "site-packages", "__pycache__", ".tox", ".nox", ".eggs")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A language and its tools.

    Patterns: `name` is a file's or folder's name (with `*`) anywhere, `name/` a folder with all below, `a/b` a path
    from the top of the tree.

    recognised: files that say that a tree is of this language.
    find: the checks of a surveyed tree. The commands say how they are run, the two below how results are read.
    variables: what every check of the tree is given; `{tree}` in a value is the tree's path as a command sees it.
    environment: variables that make the tools report test by test and leave the tree clean; given a folder for JUnit
      files (`*.xml`, read after the run), a folder for what they leave behind, and the check's own variables.
    read_output: a report from what was printed; an empty one where the text is not of this language's runner.
    artifacts: what the tools leave behind, which never belongs in a patch unless the base tracks such files.
    tests: test files and what lies beside them.
    configuration: what decides which tests run and how.
    """

    name: str
    recognised: tuple[str, ...]
    find: Callable[[Survey], CheckPlan]
    variables: Callable[[Survey], Mapping[str, str]]
    environment: Callable[[Path, Path, Mapping[str, str]], Mapping[str, str]]
    read_output: Callable[[str], TestReport]
    artifacts: tuple[str, ...]
    tests: tuple[str, ...]
    configuration: tuple[str, ...]


def _python_environment(reports: Path, leftovers: Path, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return what makes pytest report and run every test, also where a `make test` calls it."""
    options = [f"--junitxml={reports / 'pytest.xml'}", "-o", "junit_logging=no", "-o", f"cache_dir={leftovers}"]
    # one broken file or an `-x` in the settings must not hide the other tests; short tracebacks are what a model needs
    options += ["--continue-on-collection-errors", "--maxfail=0", "--tb=short", "--color=no"]
    existing = variables.get("PYTEST_ADDOPTS", "")
    return {
        "PYTEST_ADDOPTS": f"{existing} {shlex.join(options)}".strip(),
        # bytecode is matched by the second and the size: an edit in the same second would run the old code
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUFF_NO_CACHE": "true",
        "RUFF_OUTPUT_FORMAT": "concise",
    }


PYTHON = Toolchain(
    name="python",
    recognised=("pyproject.toml", "setup.py", "setup.cfg", "*.py"),
    find=find_python_checks,
    variables=python_variables,
    environment=_python_environment,
    read_output=read_unittest,
    artifacts=(
        *("__pycache__/", "*.py[cod]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".hypothesis/"),
        *(".coverage", ".coverage.*", "htmlcov/", "coverage.xml", "*.egg-info/", ".eggs/", ".tox/", ".nox/"),
        *(".venv/", "venv/", ".benchmarks/", ".testmondata"),
    ),
    tests=("test_*.py", "*_test.py", "tests.py", "tests/", "test/"),
    configuration=(
        *("conftest.py", "pytest.ini", ".pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py"),
        *("pytest.toml", ".pytest.toml", "mypy.ini", ".mypy.ini", "ruff.toml", ".ruff.toml", ".coveragerc"),
        # what Python imports by itself, or in place of a check's tool when it lies at the top of the tree
        *("sitecustomize.*", "usercustomize.*", "pytest.*", "unittest.*", "mypy.*", "ruff.*"),
        *("pytest/__init__.*", "_pytest/__init__.*", "unittest/__init__.*", "mypy/__init__.*", "ruff/__init__.*"),
    ),
)

TOOLCHAINS: tuple[Toolchain, ...] = (PYTHON,)

# of every language, as any of them may be what a `--check` runs
_CONFIGURATION = (
    *("Makefile", "makefile", "GNUmakefile", "*.mk", "justfile", "Justfile", "Taskfile.yml", ".miyabi.yml"),
    *("package.json", "jest.config.*", "vitest.config.*", "vite.config.*", ".mocharc*", "karma.conf.*"),
    *("tsconfig*.json", "playwright.config.*", "cypress.config.*", "CTestTestfile.cmake", "CMakeLists.txt"),
    "nextest.toml",
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
