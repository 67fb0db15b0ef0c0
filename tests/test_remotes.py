"""Remotes of a repository, and pushing to them by real git: only a new branch, and nothing asked of anybody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.remotes import Header, PushFailed, Remote, push_branch, read_remotes, unpushed
from miyabi_cli.workspace.repository import Repository, open_repository
from tests.support.git_repositories import commit_files, run_git
from tests.support.serving import serving

pytest_plugins = ("tests.support.git_fixtures",)


@pytest.fixture
def bare(project: Path, tmp_path: Path) -> Path:
    """An empty repository that is the project's origin."""
    path = tmp_path / "origin.git"
    run_git("init", "-q", "--bare", str(path), cwd=tmp_path)
    run_git("remote", "add", "origin", f"file://{path}", cwd=project)
    return path


def push(repository: Repository, destination: str = "origin", branch: str = "miyabi/fix", commit: str = "") -> None:
    asyncio.run(push_branch(repository, commit or repository.head, branch, destination))


def branches(bare: Path) -> dict[str, str]:
    lines = run_git("for-each-ref", "--format=%(refname) %(objectname)", cwd=bare).splitlines()
    return dict(line.split(" ") for line in lines)


def test_remotes_are_read_as_git_takes_them(project: Path, opened: Repository) -> None:
    assert read_remotes(opened) == ()
    for name, url in {"zeta": "gh:acme/calc", "upstream": "../up", "origin": "https://github.com/acme/calc"}.items():
        run_git("remote", "add", name, url, cwd=project)
    run_git("config", "url.https://github.com/.insteadOf", "gh:", cwd=project)
    run_git("config", "remote.origin.pushurl", "git@github.com:acme/calc", cwd=project)
    run_git("config", "remote.-x.url", "/srv/x", cwd=project)
    https = "https://github.com/acme/calc"
    assert read_remotes(opened) == (
        Remote("origin", https, https, "git@github.com:acme/calc"),
        Remote("upstream", "../up", "../up", "../up"),
        Remote("zeta", "gh:acme/calc", https, https),
    )


def test_a_branch_is_made_once(opened: Repository, bare: Path, project: Path) -> None:
    push(opened)
    push(opened)
    assert branches(bare) == {"refs/heads/miyabi/fix": opened.head}
    # A fast-forward of a branch that is there would be no new branch either.
    commit = commit_files(project, {"more.txt": "x\n"})
    with pytest.raises(PushFailed, match="it has a branch miyabi/fix already, of another commit") as caught:
        push(opened, commit=commit)
    assert caught.value.reached
    assert branches(bare) == {"refs/heads/miyabi/fix": opened.head}


@pytest.mark.parametrize("config", [("push.gpgSign", "true"), ("remote.origin.push", "+refs/heads/*:refs/heads/*")])
def test_what_is_set_for_pushes_does_not_count(
    opened: Repository, bare: Path, project: Path, config: tuple[str, str]
) -> None:
    run_git("config", *config, cwd=project)
    push(opened)
    assert list(branches(bare)) == ["refs/heads/miyabi/fix"]


def test_a_hook_of_the_server_s_refuses(opened: Repository, bare: Path) -> None:
    hook = bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'not on a Sunday' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PushFailed, match="pre-receive hook declined") as caught:
        push(opened)
    assert caught.value.reached


@pytest.mark.parametrize("destination", ["nowhere", "file:///nowhere", "http://127.0.0.1:9/x.git", "ext::sh -c true"])
def test_a_server_that_is_not_reached(opened: Repository, destination: str) -> None:
    with pytest.raises(PushFailed) as caught:
        push(opened, destination)
    assert caught.value.reason
    assert not caught.value.reached


@pytest.mark.parametrize(("destination", "branch"), [("--all", "fix"), ("origin", "--force"), ("origin", "a\nb")])
def test_no_name_becomes_an_option(opened: Repository, bare: Path, destination: str, branch: str) -> None:
    with pytest.raises(RepositoryError, match="not a "):
        push(opened, destination, branch)
    assert branches(bare) == {}


def test_commits_that_go_along_are_counted(opened: Repository, bare: Path, project: Path) -> None:
    assert unpushed(opened, opened.head, "origin") == 0
    run_git("push", "-q", "origin", "main", cwd=project)
    commit_files(project, {"a": "a"})
    commit_files(project, {"b": "b"})
    work = commit_files(project, {"c": "c"})
    assert unpushed(open_repository(project), work, "origin") == 2
    assert unpushed(open_repository(project), work, "or*") == 0


@pytest.mark.parametrize("turns", [1, 20])  # of the event loop, until the task is cancelled: as git starts, and later
def test_a_push_ends_with_its_task(opened: Repository, turns: int) -> None:
    seen: list[str] = []

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["authorization"])
            asked.set()
            self.rfile.read(1)  # until git is gone

        def log_message(self, *_: Any) -> None:
            return

    asked = threading.Event()

    async def main(url: str) -> None:
        header = Header.of_token(url, "t0ken")
        task = asyncio.create_task(push_branch(opened, opened.head, "fix", f"{url}/acme/calc.git", header))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert asked.wait(60)  # the loop stands still
        lines = command_lines()
        assert lines
        assert not [line for line in lines if "t0ken" in line or "eC1hY2Nlc3M" in line]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not command_lines()

    def command_lines() -> list[str]:
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                lines.append(path.read_text(errors="replace"))
        return [line for line in lines if address in line]

    with serving(Silent) as address:
        asyncio.run(main(address))
    assert seen == ["Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="]
