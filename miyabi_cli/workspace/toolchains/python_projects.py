"""What the files of a Python project say of it: its tests, their runner and the tools it configures."""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Any

from miyabi_cli.workspace.check_records import Survey

_MARKERS = ("pyproject.toml", "setup.py", "setup.cfg")
_MAXIMUM_READ = 300  # test files that are looked into
_IMPORTS_PYTEST = re.compile(r"^\s*(?:import|from) pytest\b", re.MULTILINE)
_PYTEST_FUNCTION = re.compile(r"^(?:async )?def test_", re.MULTILINE)
_UNITTEST = re.compile(r"\bTestCase\b|\bunittest\b")


@dataclass(frozen=True)
class Project:
    """A Python project in a folder ("" is the top) of a surveyed tree; `files` are relative to that folder."""

    survey: Survey
    folder: str
    files: tuple[str, ...]

    def has(self, path: str) -> bool:
        """Say whether it has a file at a path relative to its folder."""
        return path in self._paths

    @cached_property
    def pytest_files(self) -> tuple[str, ...]:
        """The files that pytest collects by default."""
        return tuple(path for path in self.files if _named(path, "test_*.py", "*_test.py"))

    @cached_property
    def unittest_files(self) -> tuple[str, ...]:
        """The test files that use unittest."""
        files = [path for path in self.files if _named(path, "test*.py", "*_test.py")]
        texts = [(path, self._test_texts.get(path, "")) for path in files]
        # what is in few texts is looked for literally first, which is ten times as quick
        return tuple(
            path for path, text in texts if ("unittest" in text or "TestCase" in text) and _UNITTEST.search(text)
        )

    @property
    def tests(self) -> tuple[str, ...]:
        """All test files, of either kind; those that a pytest `python_files` setting names are taken as given."""
        named = _words(self.pytest_settings.get("python_files"))
        own = tuple(path for path in self.files if named and _named(path, *named))
        return tuple(dict.fromkeys((*self.pytest_files, *self.unittest_files, *own)))

    @cached_property
    def pytest_settings(self) -> Mapping[str, Any]:
        """The settings of pytest, {} where there are none."""
        for name in ("pytest.ini", ".pytest.ini"):
            if self.has(name):
                return self._section(name, "pytest") or {"configured": "yes"}
        if self.has("pytest.toml") or self.has(".pytest.toml"):
            return {"configured": "yes"}
        tool = self._tool("pytest") or {}
        found = tool.get("ini_options", tool) or self._section("tox.ini", "pytest")
        return found or self._section("setup.cfg", "tool:pytest") or {}

    @cached_property
    def imports_pytest(self) -> bool:
        return any("pytest" in text and _IMPORTS_PYTEST.search(text) for text in self._test_texts.values())

    @cached_property
    def needs_pytest(self) -> bool:
        """Whether pytest is configured or unittest would miss tests."""
        configured = self.pytest_settings or any(_named(path, "conftest.py") for path in self.files)
        written = self.imports_pytest or any(_PYTEST_FUNCTION.search(text) for text in self._test_texts.values())
        return bool(configured or written)

    @property
    def is_django(self) -> bool:
        return self.has("manage.py") and "DJANGO_SETTINGS_MODULE" in self._text("manage.py")

    @property
    def configures_ruff(self) -> bool:
        return self._tool("ruff") is not None or any(self.has(name) for name in ("ruff.toml", ".ruff.toml"))

    @property
    def mypy_settings(self) -> Mapping[str, Any] | None:
        """The settings of mypy, None where it is not configured."""
        for name in ("mypy.ini", ".mypy.ini"):
            if self.has(name):
                return self._section(name, "mypy") or {}
        tool = self._tool("mypy")
        return tool if tool is not None else self._section("setup.cfg", "mypy")

    @cached_property
    def has_source_folder(self) -> bool:
        """Whether it has the src layout."""
        return any(path.startswith("src/") and path.endswith(".py") for path in self.files)

    @property
    def packages(self) -> tuple[str, ...]:
        """The folders of the code itself: `src`, or the packages at the top but for tests and documentation."""
        if self.has_source_folder:
            return ("src",)
        tops = {path.split("/")[0] for path in self.files if path.count("/") == 1 and path.endswith("/__init__.py")}
        return tuple(sorted(tops - {"tests", "test", "docs", "doc"}))

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def _test_texts(self) -> Mapping[str, str]:
        files = [path for path in self.files if _named(path, "test*.py", "*_test.py")]
        return {path: self._text(path) for path in files[:_MAXIMUM_READ]}

    def _text(self, path: str) -> str:
        return self.survey.text(str(PurePosixPath(self.folder, path)))

    def _tool(self, name: str) -> dict[str, Any] | None:
        tool = _toml(self._text("pyproject.toml")).get("tool")
        section = tool.get(name) if isinstance(tool, dict) else None
        return section if isinstance(section, dict) else None

    def _section(self, path: str, name: str) -> dict[str, Any] | None:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(self._text(path) if self.has(path) else "")
        except configparser.Error:
            return None
        return dict(parser[name]) if parser.has_section(name) else None


@lru_cache(maxsize=4)  # a survey is of one moment, and several ask
def choose_project(survey: Survey) -> tuple[Project, tuple[str, ...]]:
    """Return the project nearest to the top that has tests (the top itself where none has), and what it leaves out."""
    folders = _folders(survey.files)
    top = _project(survey, "", folders)
    nested = [project for folder in folders if folder and (project := _project(survey, folder, folders)).tests]
    chosen = top if top.tests or top.pytest_settings or not nested else nested[0]
    if chosen is top and top.pytest_settings:
        chosen = Project(survey, "", survey.files)  # its pytest collects what lies in nested projects too
    left = [project.folder for project in nested if project.folder != chosen.folder]
    collects_all = not chosen.folder and chosen.needs_pytest and "testpaths" not in chosen.pytest_settings
    if not left or collects_all:
        return chosen, ()
    return chosen, (f"not covered: the tests of {', '.join(left)}; name their command by --check",)


def _folders(files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders of projects, the highest first; what lies in a tests folder is a fixture."""
    marked = {str(PurePosixPath(path).parent) for path in files if _named(path, *_MARKERS)}
    real = [path for path in marked if path != "." and not {"tests", "test", "fixtures"} & set(path.split("/"))]
    return ("", *sorted(real, key=lambda path: (path.count("/"), path)))


def _project(survey: Survey, folder: str, folders: tuple[str, ...]) -> Project:
    """Return a project with the files in its folder that are in no project nested in it."""
    prefix = f"{folder}/" if folder else ""
    nested = tuple(f"{other}/" for other in folders if other.startswith(prefix) and other != folder)
    own = [path for path in survey.files if path.startswith(prefix) and not path.startswith(nested)]
    return Project(survey, folder, tuple(path.removeprefix(prefix) for path in own))


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _words(value: object) -> tuple[str, ...]:
    """Return a setting that is a list, or words in a string, as a tuple."""
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _named(path: str, *patterns: str) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) for pattern in patterns)
