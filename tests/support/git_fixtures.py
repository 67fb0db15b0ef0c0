"""Fixtures of the tests that use git in this process; a module takes them by `pytest_plugins`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from miyabi_cli.workspace.repository import Repository, open_repository
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from tests.support.git_repositories import make_repository


@pytest.fixture
def user(home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of this process with a home and a git identity; no variable of git's is inherited."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    for name in ("HOME", "MIYABI_DATA_DIR", "MIYABI_CACHE_DIR", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    Path(environment["GIT_CONFIG_GLOBAL"]).write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return home


@pytest.fixture
def project(user: Path, tmp_path: Path) -> Path:
    """A repository with one commit."""
    return make_repository(tmp_path / "project")


@pytest.fixture
def opened(project: Path) -> Repository:
    return open_repository(project)


@pytest.fixture
def workspace(opened: Repository, tmp_path: Path) -> Iterator[Workspace]:
    """The workspace of a run, closed at the end."""
    with open_workspace(opened, "run-1", tmp_path / "worktrees") as workspace:
        yield workspace
