"""Many runs in one repository, and locks that others left there: faults F17 and F19, through the real CLI."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miyabi_cli.codegen.means import Means
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.codegen.run import run_codegen
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.delivery import apply_to_working_tree, applying
from miyabi_cli.workspace.repository import open_repository
from miyabi_cli.workspace.sandbox import open_sandbox
from tests.faults.test_deaths import has_mark, kill_when, resumed
from tests.support.scripts import FIXING, MARKS, arguments, by_history, marking
from tests.support.server import chat_server
from tests.support.users import User, changes, make_user


def test_f17_locks_that_others_left_in_the_repository_stay_and_are_in_nobody_s_way(user: User) -> None:
    """The index and HEAD of the user's are none of miyabi's business, so it needs no lock on them."""
    user.shell("cd .git && touch index.lock HEAD.lock config.lock")
    assert "index.lock" in user.run("git", "add", "calc.py").stderr, "the user's own git does need one"
    before = user.snapshot()
    with chat_server(*FIXING) as server:
        branch = user.miyabi(*arguments(server))
        assert (branch.code, changes(before, user.snapshot())) == (0, set()), branch.stderr
        server.requests.clear()
        applied = user.miyabi(*arguments(server, "--apply"))
    assert (applied.code, changes(before, user.snapshot())) == (0, {"project/calc.py"}), applied.stderr
    assert "a + b" in (user.repository / "calc.py").read_text()
    assert "a + b" in user.git("show", f"{user.branches()[0]}:calc.py")


def test_f17_a_lock_on_the_branch_is_told_and_the_patch_is_kept(user: User) -> None:
    user.shell("touch .git/refs/heads/mine.lock")
    before = user.snapshot()
    with chat_server(*FIXING) as server:
        ran = user.miyabi(*arguments(server, "--branch", "mine"))
    assert (ran.code, changes(before, user.snapshot())) == (4, set())
    assert "can't make the branch mine" in json.loads(ran.stdout)["error"]["message"]
    assert "+    return a + b" in (user.run_folders()[0] / "patch.diff").read_text()


def test_f17_a_dead_run_s_lock_on_its_own_index_is_reclaimed_and_a_live_run_s_is_not(user: User) -> None:
    with chat_server(by_history(marking("one", seconds=5), *FIXING)) as server:
        kill_when(user, server, lambda: has_mark(user, "one"))
        (tree,) = user.worktrees()
        (tree.parent / "index.lock").write_text("")
        with server.lock:
            server.turns = [by_history(marking("one"), marking("two", seconds=60), *FIXING)]
        live = user.start_miyabi(*arguments(server, "--resume", "last", task=None))
        try:
            while live.poll() is None and not has_mark(user, "two"):
                time.sleep(0.01)
            refused = user.miyabi(*arguments(server, "--resume", "last", task=None))
            cleaned = user.miyabi("worktrees", "clean", "--all")
            assert (cleaned.code, (tree / MARKS).exists()) == (0, True)
        finally:
            live.kill()
            live.communicate()
        error = json.loads(refused.stdout)["error"]
        assert (refused.code, "in another process" in error["message"]) == (4, True)
        resumed(user, server)


def test_f19_fifty_runs_at_once_in_one_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user(tmp_path)
    before = user.snapshot()
    for name in ("HOME", "MIYABI_DATA_DIR", "MIYABI_CACHE_DIR", "MIYABI_CONFIG_DIR"):
        monkeypatch.setenv(name, user.environment[name])

    def ignore(_: object) -> None:
        return

    async def main(url: str) -> list[str | None]:
        request = CodegenRequest("Fix add", checks_wanted=False, folder=user.repository)
        repository = open_repository(user.repository)
        sandbox = open_sandbox("off", repository=repository.root, environ=os.environ)
        async with open_openai(url, "gpt-oss-20b") as provider:
            means = Means(Settings(), repository, provider, sandbox, os.environ)
            runs = [
                run_codegen(request, means, run_id=f"run-{number}", emit=ignore, keep=ignore, conclude=ignore)
                for number in range(50)
            ]
            return [result.branch for result in await asyncio.gather(*runs)]

    with chat_server(by_history(*FIXING)) as server:
        made = asyncio.run(main(server.url))
    assert len(set(made)) == 50
    assert sorted(filter(None, made)) == sorted(user.branches())
    assert (changes(before, user.snapshot()), user.worktrees()) == (set(), [])
    user.git("fsck", "--strict", "--no-dangling")


def test_f19_several_processes_at_once_in_one_repository(user: User) -> None:
    before = user.snapshot()
    options = [(), (), (), ("--branch", "miyabi/mine"), ("--branch", "miyabi/mine")]
    with chat_server(by_history(marking("one"), *FIXING)) as server, ThreadPoolExecutor(len(options)) as threads:
        ran = list(threads.map(lambda more: user.miyabi(*arguments(server, *more)), options))
    codes = [one.code for one in ran]
    assert (codes[:3], sorted(codes[3:])) == ([0, 0, 0], [0, 4])  # of two with one name, one is told
    made = {json.loads(one.stdout)["branch"] for one in ran if one.code == 0}
    assert (set(user.branches()), len(made)) == (made, 4)
    assert changes(before, user.snapshot()) == set()
    assert len(user.worktrees()) <= 1  # it can go on, once it has a name, unless it was told before it began


def test_f19_git_s_own_worktrees_get_in_each_other_s_way(user: User) -> None:
    """What fifty of git's worktrees at once would meet: a configuration that is locked, and a branch left behind."""
    user.shell("git update-ref refs/remotes/origin/main HEAD; git config remote.origin.url .")
    user.shell("git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'; touch .git/config.lock")
    ran = user.run("git", "worktree", "add", "-b", "mine", "../linked", "origin/main")
    assert (ran.code != 0, "could not lock config file" in ran.stderr) == (True, True)
    assert user.git("branch", "--list", "--format=%(refname:short)", "mine") == "mine"


def test_f19_two_runs_change_the_working_tree_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user(tmp_path)
    monkeypatch.setenv("HOME", str(user.home))
    for name in ("MIYABI_DATA_DIR", "MIYABI_CACHE_DIR"):
        monkeypatch.setenv(name, user.environment[name])
    repository = open_repository(user.repository)
    patch = b"--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+x\n"
    thread = threading.Thread(target=apply_to_working_tree, args=(repository, patch))
    with applying(repository):
        thread.start()
        thread.join(0.5)
        assert (thread.is_alive(), (user.repository / "new.txt").exists()) == (True, False)
    thread.join(20)
    assert (user.repository / "new.txt").read_text() == "x\n"
