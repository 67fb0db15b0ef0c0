"""The faults of docs/safety.md through the real CLI: what a run leaves when servers, disks and processes fail."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.runs import EVENTS, read_log
from tests.conftest import Ran
from tests.support.faults import KillingGit, run_on_small_disk
from tests.support.hostile import Victim, make_victim, shell
from tests.support.sandboxes import skip_without_bubblewrap
from tests.support.server import ChatServer, call, chat_server, say, send_error, stream

FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
FIXING = (call("apply_patch", {"patch": FIX}), say("It adds now."))


STEP = int(os.environ.get("MIYABI_TEST_EVERY", "4"))  # of the calls of git, how many to kill a run at


@pytest.fixture
def user(tmp_path: Path) -> Victim:
    return make_victim(tmp_path)


def arguments(server: ChatServer, *more: str) -> list[str]:
    given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--no-checks", "--format", "json"]
    return ["codegen", "Fix add", *given, *more]


def miyabi(user: Victim, *given: str, **more: str) -> Ran:
    return user.run(user.python, "-m", "miyabi_cli", *given, **more)


def state(user: Victim) -> tuple[str, ...]:
    """All of a repository that a run leaves alone, but for the new branch."""
    return (
        user.git("status", "--porcelain=v2", "--branch", "--ignored"),
        (user.repository / ".git/config").read_text(),
        (user.repository / ".git/HEAD").read_text(),
        (user.repository / ".git/index").read_bytes().hex(),
        user.git("worktree", "list"),
        user.git("stash", "list"),
    )


def branches(user: Victim) -> list[str]:
    return user.git("branch", "--list", "--format=%(refname:short)", "miyabi/*", "miyabi-*").split()


def worktrees(user: Victim) -> list[Path]:
    return list((user.home / "cache/worktrees").rglob("tree"))


def to_each(first: dict[str, Any], then: dict[str, Any]) -> Any:
    """Play a tool's call and an answer to any number of runs at once: their requests show how far they are."""

    def play(handler: Any, request: Any) -> None:
        is_done = any(message["role"] == "tool" for message in request.json["messages"])
        stream(handler, then if is_done else first)

    return play


# Servers: faults F1 and F2


def test_f1_a_wait_that_the_server_asks_for_is_kept(user: Victim) -> None:
    at: list[float] = []

    def noted(turn: Any) -> Any:
        def play(handler: Any, request: Any) -> None:
            at.append(time.monotonic())
            turn(handler, request)

        return play

    busy = send_error(429, {"error": {"message": "slow down"}}, {"Retry-After": "2"})
    with chat_server(noted(busy), *FIXING) as server:
        ran = miyabi(user, *arguments(server))
        assert len(server.requests) == 3
    ended = time.monotonic()
    assert (ran.code, ended - at[0] >= 2) == (0, True), ran.stderr


def test_f2_a_wait_that_is_too_long_is_the_provider_s_exit_code(user: Victim) -> None:
    before = state(user)
    with chat_server(send_error(429, {"error": {"message": "come back"}}, {"Retry-After": "3600"})) as server:
        ran = miyabi(user, *arguments(server))
        assert len(server.requests) == 1
    assert ran.code == 3
    message = json.loads(ran.stdout)["error"]["message"]
    assert "429" in message
    assert "come back" in message
    assert (state(user), branches(user), worktrees(user)) == (before, [], [])


# Processes that die: faults F13, F15, F17 and F18


def test_f18_killed_at_any_call_of_git_a_run_leaves_nothing_in_the_way(user: Victim, tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    git = KillingGit(tmp_path / "bin")
    before = state(user)
    with chat_server(*FIXING) as server:

        def run(kill_at: int = 0) -> Ran:
            server.requests.clear()
            return git.run(user, *arguments(server), kill_at=kill_at)

        assert run().code == 0
        calls = git.calls
        assert calls > 10
        for number in range(1, calls + 1, STEP):
            delivered = set(branches(user))
            assert run(number).code == -9
            assert state(user) == before
            for new in set(branches(user)) - delivered:  # a branch is there whole, or not at all
                assert "a + b" in user.git("show", f"{new}:calc.py")
        user.git("fsck", "--strict", "--no-dangling")
        assert run().code == 0
    assert worktrees(user), "it was never killed with a worktree in hand"
    cleaned = miyabi(user, "worktrees", "clean")
    assert (cleaned.code, worktrees(user), state(user)) == (0, [], before), cleaned.stderr


def test_f15_a_log_is_read_wherever_it_is_torn(user: Victim) -> None:
    with chat_server(*FIXING) as server:
        run_id = json.loads(miyabi(user, *arguments(server, "--sandbox", "off")).stdout)["run_id"]
    folder = user.home / "data/runs" / run_id
    log = (folder / EVENTS).read_bytes()
    events = list(read_log(folder))
    for size in range(len(log) - 1, len(log) - 400, -7):
        (folder / EVENTS).write_bytes(log[:size])
        found = list(read_log(folder))
        assert found == events[: len(found)]
        assert len(found) >= log[:size].count(b"\n")
    shown = miyabi(user, "runs", "show", run_id)
    assert (shown.code, "Traceback" in shown.stderr) == (0, False), shown.stderr


def test_f17_locks_that_others_left_in_the_repository_stay_and_are_in_nobody_s_way(user: Victim) -> None:
    """The index and HEAD of the user's are none of miyabi's business, so it needs no lock on them."""
    locks = [user.repository / ".git" / name for name in ("index.lock", "HEAD.lock", "config.lock")]
    for path in locks:
        path.write_text("")
    with pytest.raises(AssertionError, match=r"index\.lock"):
        user.git("add", "calc.py")  # the user's own git does need one
    with chat_server(*FIXING) as server:
        branch = miyabi(user, *arguments(server))
        server.requests.clear()
        applied = miyabi(user, *arguments(server, "--apply"))
    assert (branch.code, applied.code) == (0, 0), branch.stderr + applied.stderr
    assert "a + b" in (user.repository / "calc.py").read_text()
    assert "a + b" in user.git("show", f"{branches(user)[0]}:calc.py")
    assert all(path.read_bytes() == b"" for path in locks)


def test_f17_a_lock_on_the_branch_is_told_and_the_patch_is_kept(user: Victim) -> None:
    (user.repository / ".git/refs/heads/mine.lock").write_text("")
    with chat_server(*FIXING) as server:
        ran = miyabi(user, *arguments(server, "--branch", "mine"))
    assert ran.code == 4
    assert "can't make the branch mine" in json.loads(ran.stdout)["error"]["message"]
    (kept,) = (user.home / "data/runs").glob("*/patch.diff")
    assert "+    return a + b" in kept.read_text()
    assert (user.repository / ".git/refs/heads/mine.lock").exists()


def test_f17_a_dead_run_s_lock_on_its_own_index_is_gone_when_the_worktree_is_taken_up_again(
    user: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from miyabi_cli.workspace.repository import open_repository
    from miyabi_cli.workspace.workspaces import open_workspace
    from miyabi_cli.workspace.worktrees import create_worktree, open_worktree

    monkeypatch.setenv("HOME", str(user.home))
    repository = open_repository(user.repository)
    workspace = open_workspace(repository, "killed", tmp_path / "w")
    worktree = create_worktree(workspace, repository.head, "a")
    (worktree.folder / "index.lock").write_text("")
    workspace.lock.release()  # as the kernel does when the process dies
    with open_workspace(repository, "killed", tmp_path / "w") as again:
        found = open_worktree(again, "a")
        assert found is not None
        found.switch(repository.head)


# Disks: fault F16


def test_f16_a_full_disk_below_the_repository_leaves_every_file_as_it_was(user: Victim, tmp_path: Path) -> None:
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    script = f"""
cp -a {user.repository}/. {small}/ && cd {small} && head -c 100000000 /dev/zero >.git/filler 2>/dev/null
truncate -s -65536 .git/filler
for way in "--apply" "--branch mine"; do
    {user.python} -m miyabi_cli codegen "Fix add" --endpoint $URL --model m --no-checks --sandbox off $way
    echo "exit $?"
done
rm .git/filler; git fsck --strict --no-dangling && git branch && git status --porcelain; cp -a . {saved}
"""
    big = shell("head -c 300000 /dev/urandom >big.bin; head -c 300 /dev/urandom >a.bin")
    turns = [big, *FIXING]
    with chat_server(*turns, *turns) as server:
        ran = run_on_small_disk(user, small, 4_000_000, script, URL=server.url)
    assert [line for line in ran.stdout.splitlines() if line.startswith("exit")] == ["exit 4", "exit 4"], ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout.splitlines()[-1].strip() == "* main", ran.stdout
    assert "a - b" in (saved / "calc.py").read_text()
    assert not (saved / "big.bin").exists()
    kept = list((user.home / "data/runs").glob("*/patch.diff"))
    assert len(kept) == 2
    assert all(b"+    return a + b" in path.read_bytes() for path in kept)


@pytest.mark.parametrize("place", ["data", "cache"])
def test_f16_a_full_disk_below_miyabi_s_own_folders_is_the_machine_s_error(
    user: Victim, tmp_path: Path, place: str
) -> None:
    before = state(user)
    full = user.home / place
    full.mkdir()
    script = f"""
head -c 100000000 /dev/zero >{full}/filler 2>/dev/null; cd {user.repository}
{user.python} -m miyabi_cli codegen "Fix add" --endpoint $URL --model m --no-checks --sandbox off
"""
    with chat_server(*FIXING) as server:
        ran = run_on_small_disk(user, full, 300_000, script, URL=server.url)
    assert (ran.code, "Traceback" in ran.stderr) == (4, False), ran.stderr
    assert "No space left on device" in ran.stderr or "no space left on the disk" in ran.stderr
    assert (state(user), branches(user)) == (before, [])


# Many at once: fault F19


def test_f19_fifty_runs_at_once_in_one_repository(user: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.codegen.run import Means, run_codegen
    from miyabi_cli.llm.openai import open_openai
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.repository import open_repository
    from miyabi_cli.workspace.sandbox import open_sandbox

    before = state(user)
    for name in ("HOME", "MIYABI_DATA_DIR", "MIYABI_CACHE_DIR", "MIYABI_CONFIG_DIR"):
        monkeypatch.setenv(name, user.environment[name])

    async def main(url: str) -> list[str | None]:
        request = CodegenRequest("Fix add", checks_wanted=False, folder=user.repository)
        repository = open_repository(user.repository)
        sandbox = open_sandbox("off", repository=repository.root, environ=os.environ)
        async with open_openai(url, "gpt-oss-20b") as provider:
            means = Means(Settings(), repository, provider, sandbox, os.environ)
            runs = [
                run_codegen(request, means, run_id=f"run-{number}", emit=lambda _: None, keep=lambda _: None)
                for number in range(50)
            ]
            return [result.branch for result in await asyncio.gather(*runs)]

    with chat_server(to_each(*FIXING)) as server:
        made = asyncio.run(main(server.url))
    assert len(set(made)) == 50
    assert sorted(filter(None, made)) == sorted(branches(user))
    assert (state(user), worktrees(user)) == (before, [])
    user.git("fsck", "--strict", "--no-dangling")


def test_f19_several_processes_at_once_in_one_repository(user: Victim, tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    before = state(user)

    def run(server: ChatServer, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [user.python, "-m", "miyabi_cli", *arguments(server, *more)],
            cwd=user.repository,
            env=user.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    making = (call("exec", {"cmd": "echo new >new.txt"}), say("Made."))
    with chat_server(to_each(*FIXING)) as one, chat_server(to_each(*making)) as two:
        processes = [run(one), run(two), run(one, "--branch", "mine"), run(two, "--branch", "mine")]
        codes = [process.wait(60) for process in processes]
    assert (codes[:2], sorted(codes[2:])) == ([0, 0], [0, 4])  # of two with one name, one is told
    assert len(branches(user)) == 2
    assert (state(user), worktrees(user)) == (before, [])


def test_two_patches_are_applied_one_after_the_other(user: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the one that fails would put back the files as they were before the other."""
    from miyabi_cli.workspace.delivery import apply_to_working_tree, applying
    from miyabi_cli.workspace.repository import open_repository

    for name in ("HOME", "MIYABI_CACHE_DIR"):
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


# Hooks: fault F20

WAYS = {
    "plain": ("git add calc.py mine.txt", "git commit -qm mine"),
    "all": ("git add mine.txt", "git commit -qam mine"),
    "one path": ("git add mine.txt", "git commit -qm mine calc.py"),
    "a linked worktree": ("git worktree add -q ../linked -b side && cd ../linked && MINE", "git commit -qam mine"),
}
DATES = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
MINE = "printf 'def add(a, b):\\n    return a - b - 0\\n' >calc.py; echo mine >mine.txt; git add mine.txt"


def commit_with_hook(user: Victim, way: str, hook: str, **more: str) -> str:
    """Commit the user's edit with a pre-commit hook; return the commit and what the index and status are then."""
    path = user.repository / ".git/hooks/pre-commit"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{hook}\n")
    path.chmod(0o755)
    prepare, commit = WAYS[way]
    script = f"set -e\n{MINE if way != 'a linked worktree' else ':'}\n{prepare.replace('MINE', MINE)}\n{commit}\n"
    script += "git cat-file commit HEAD; git ls-tree -r HEAD; git ls-files --stage; git status --porcelain"
    ran = user.run("sh", "-c", script, **DATES, **more)
    assert ran.code == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("delivery", ["branch", "apply"])
def test_f20_inside_pre_commit_the_user_s_commit_is_theirs(
    user: Victim, tmp_path: Path, way: str, delivery: str
) -> None:
    skip_without_bubblewrap(tmp_path)
    (tmp_path / "twin").mkdir()
    expected = commit_with_hook(make_twin(user, tmp_path / "twin"), way, ":")
    new = call("exec", {"cmd": "echo agent >agent.txt; git status --short"})
    with chat_server(new, say("Made.")) as server:
        given = " ".join([*arguments(server)[2:], "--apply" if delivery == "apply" else ""])
        hook = f"{user.python} -m miyabi_cli codegen 'Make it' {given} >{tmp_path}/out 2>{tmp_path}/err || exit 9"
        found = commit_with_hook(user, way, hook)
    result = json.loads((tmp_path / "out").read_text())
    assert result["files_created"] == ["agent.txt"]
    if delivery == "branch":
        assert found == expected
        assert user.git("show", f"{result['branch']}:agent.txt") == "agent"
    else:
        assert found.replace("?? agent.txt", "").strip() == expected.strip()
        top = user.repository if way != "a linked worktree" else user.repository.parent / "linked"
        assert (top / "agent.txt").read_text() == "agent\n"


def make_twin(user: Victim, top: Path) -> Victim:
    """Copy a repository, so that the same commit can be made without a run."""
    twin = replace(user, repository=top / "project")
    assert user.run("cp", "-a", str(user.repository), str(twin.repository)).code == 0
    return twin


def test_f20_a_tool_that_calls_git_as_it_is_spoils_the_commit(user: Victim, tmp_path: Path) -> None:
    """That the variables of a hook do harm: without this the tests above would show nothing."""
    (tmp_path / "twin").mkdir()
    expected = commit_with_hook(make_twin(user, tmp_path / "twin"), "a linked worktree", ":")
    other = tmp_path / "other"
    user.git("clone", "-q", str(user.repository), str(other))
    found = commit_with_hook(user, "a linked worktree", f"cd {other} && echo agent >agent.txt && git add agent.txt")
    assert found != expected
    assert "agent.txt" in found
