"""What the toolchains know of paths, and what every record must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.toolchains import (
    TOOLCHAINS,
    is_test_configuration,
    is_test_path,
    list_files,
    touches_tests,
)
from miyabi_cli.workspace.toolchains.toolchain import Folders
from tests.support.trees import write_tree


@pytest.mark.parametrize("path", ["test_a.py", "a/b_test.py", "tests/data/x.json", "a/test/x.txt", "app/tests.py"])
def test_tests(path: str) -> None:
    assert is_test_path(path)
    assert touches_tests(["a.py", path])


@pytest.mark.parametrize(
    "path",
    [
        *("conftest.py", "a/conftest.py", "pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml", "sitecustomize.py"),
        *("Makefile", "package.json", "web/package.json", "jest.config.js", "vitest.config.ts"),
        *("pytest/__init__.py", "pytest.pyc", "src/sitecustomize.pyc", "mypy.py", "ruff/__init__.py"),
    ],
)
def test_test_settings(path: str) -> None:
    assert is_test_configuration(path)
    assert touches_tests([path])


@pytest.mark.parametrize(
    "path", ["a.py", "testing.py", "latest.py", "src/contest.py", "attests/a.py", "test", "", "src/_pytest/a.py"]
)
def test_sources(path: str) -> None:
    assert not touches_tests([path])


def test_every_record_is_whole() -> None:
    for chain in TOOLCHAINS:
        assert all((chain.name, chain.recognised, chain.artifacts, chain.tests, chain.configuration))
        patterns = (*chain.recognised, *chain.artifacts, *chain.tests)
        assert all("/" not in pattern[:-1] for pattern in patterns), "a pattern is one name"
    assert len({chain.name for chain in TOOLCHAINS}) == len(TOOLCHAINS)


def test_python_keeps_the_options_that_pytest_was_given() -> None:
    (python,) = (chain for chain in TOOLCHAINS if chain.name == "python")
    check = Check("tests", "make test", environment=(("PYTEST_ADDOPTS", "-k add"),))
    folders = Folders(*map(Path, ("/a b", "/c", "/d", "/e")))
    options = python.environment(check, folders)["PYTEST_ADDOPTS"]
    assert options.startswith("-k add '--junitxml=/a b/pytest.xml' ")


def test_files_are_listed_without_following_links(tmp_path: Path) -> None:
    write_tree(tmp_path, {"b/c.py": "", "a.py": "", ".git/config": "", "__pycache__/x.pyc": "", ".github/x.yml": ""})
    (tmp_path / "link").symlink_to("/")
    assert list_files(tmp_path) == ("a.py", ".github/x.yml", "b/c.py")
