"""Runs that are killed, signalled, or find a torn log: faults F13, F14, F15 and F18, through the real CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import KillingGit
from tests.support.orphans import watching_for_orphans
from tests.support.scripts import FIX, FIXING, MARKS, arguments, by_history, marking, marks_in
from tests.support.server import ChatServer, call, chat_server, say
from tests.support.users import User, changes

MARKING = (marking("one"), marking("two", seconds=5), marking("three", seconds=1))
STEP = int(os.environ.get("MIYABI_TEST_EVERY", "12"))  # of the calls of git, how many to kill a run at


def events(user: User) -> Path:
    """Return the log of the newest run."""
    return user.run_folders()[-1] / "events.jsonl"


def types_in(log: bytes) -> list[str]:
    return [json.loads(line)["type"] for line in log.splitlines(keepends=True) if line.endswith(b"\n")]


def wait_for(process: subprocess.Popen[str], true: Callable[[], Any]) -> None:
    """Wait until something is so, or the process has ended."""
    end = time.monotonic() + 60
    while not true() and process.poll() is None:
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def has_event(user: User, kind: str, count: int) -> bool:
    folders = user.run_folders()
    log = folders[-1] / "events.jsonl" if folders else None
    return bool(log and log.exists() and types_in(log.read_bytes()).count(kind) >= count)


def has_mark(user: User, mark: str) -> bool:
    """Say whether the tool that leaves this mark is at work, or was."""
    files = [tree / MARKS for tree in user.worktrees()]
    return any(mark in path.read_text() for path in files if path.exists())


def kill_when(
    user: User, server: ChatServer, true: Callable[[], bool], *more: str, task: str | None = "Fix add"
) -> None:
    """Start a run, and kill it as soon as something is so."""
    process = user.start_miyabi(*arguments(server, *more, task=task))
    wait_for(process, true)
    process.kill()
    process.communicate(timeout=20)


def resumed(user: User, server: ChatServer) -> dict[str, Any]:
    """Resume the last run, to the end; return its result."""
    ran = user.miyabi(*arguments(server, "--resume", "last", task=None))
    assert ran.code == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    assert user.branches() == [result["branch"]]
    assert "return a + b" in user.git("show", f"{result['branch']}:calc.py")
    assert user.worktrees() == []
    return result


def test_f13_killed_again_and_again_it_goes_on_and_no_tool_runs_twice(user: User) -> None:
    before = user.snapshot()
    with chat_server(by_history(*MARKING, *FIXING)) as server:
        kill_when(user, server, lambda: has_mark(user, "two"))
        assert len(user.worktrees()) == 1
        kill_when(user, server, lambda: has_mark(user, "three"), "--resume", "last", task=None)
        assert (changes(before, user.snapshot()), user.branches()) == (set(), [])
        result = resumed(user, server)
    marks = marks_in(result["patch"])
    assert marks == ["one", "two", "three"]
    started = [json.loads(line) for line in events(user).read_bytes().splitlines() if b'"tool_started"' in line]
    assert len(started) == 4
    assert changes(before, user.snapshot()) == set()


def test_f13_without_the_note_that_a_tool_began_it_would_run_twice(user: User) -> None:
    """That it is the event before each tool, on the disk, which keeps it from running again."""
    with chat_server(by_history(marking("one", seconds=20), *FIXING)) as server:
        kill_when(user, server, lambda: has_mark(user, "one"))
        log = events(user)
        lines = log.read_bytes().splitlines(keepends=True)
        assert types_in(log.read_bytes())[-1] == "tool_started"
        log.write_bytes(b"".join(lines[:-1]))
        server.turns = [by_history(marking("one"), *FIXING)]
        log.write_bytes(log.read_bytes().replace(b"sleep 20", b"sleep 0 "))
        assert marks_in(resumed(user, server)["patch"]) == ["one", "one"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_f14_a_signal_leaves_no_child_and_its_exit_code(user: User, number: signal.Signals, code: int) -> None:
    before = user.snapshot()
    stubborn = call("exec", {"cmd": "trap '' INT TERM HUP; setsid sleep 600 & echo >begun; sleep 600"})
    with chat_server(stubborn) as server, watching_for_orphans() as orphans:
        process = user.start_miyabi(*arguments(server))
        wait_for(process, lambda: any((tree / "begun").exists() for tree in user.worktrees()))
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
        assert (process.returncode, orphans.left()) == (code, []), stderr
    assert json.loads(stdout)["error"]["exit_code"] == code
    assert "error: interrupted\n" in stderr
    assert (changes(before, user.snapshot()), user.branches()) == (set(), [])
    assert len(user.worktrees()) == 1, "it can go on"
    assert (user.miyabi("worktrees", "clean", "--all").code, user.worktrees()) == (0, [])


def test_f14_a_program_that_does_not_clear_up_leaves_an_orphan(user: User) -> None:
    """That an orphan is seen where there is one."""
    with watching_for_orphans() as orphans:
        user.shell("setsid sleep 611 >/dev/null 2>&1 &")
        orphans_now = [line for line in orphans.now() if "sleep 611" in line]
        assert len(orphans_now) == 1


def test_f15_a_torn_log_is_read_and_resumed(user: User) -> None:
    before = user.snapshot()
    with chat_server(by_history(marking("one"), marking("two"), marking("three"), *FIXING)) as server:
        kill_when(user, server, lambda: has_event(user, "tool_ended", 2))
        log = events(user)
        whole = log.read_bytes()
        last = whole.rindex(b"\n", 0, -1) + 1
        for size in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
            log.write_bytes(whole[:size])
            shown = user.miyabi("runs", "show", "last")
            assert (shown.code, "Traceback" in shown.stderr) == (0, False), shown.stderr
        marks = marks_in(resumed(user, server)["patch"])
    assert len(marks) == len(set(marks))
    assert {"one", "three"} <= set(marks)
    assert changes(before, user.snapshot()) == set()


def test_f18_killed_at_any_call_of_git_a_run_leaves_nothing_in_the_way(user: User) -> None:
    git = KillingGit(user)
    before = user.snapshot()
    with chat_server(*FIXING) as server:

        def run(kill_at: int = 0) -> int:
            server.requests.clear()
            return git.run(*arguments(server), kill_at=kill_at).code

        assert run() == 0
        assert run() == 0  # what checks gave on the base is known from here on
        calls = git.calls
        assert calls > 10
        for number in sorted({*range(1, calls + 1, STEP), calls}):  # the last is when the work is done
            delivered = set(user.branches())
            assert run(number) == -9
            for new in set(user.branches()) - delivered:  # a branch is there whole, or not at all
                assert "a + b" in user.git("show", f"{new}:calc.py")
        user.git("fsck", "--strict", "--no-dangling")
        assert run() == 0
    assert user.worktrees(), "it was never killed with a worktree in hand"
    cleaned = user.miyabi("worktrees", "clean", "--all")
    assert (cleaned.code, user.worktrees(), changes(before, user.snapshot())) == (0, [], set()), cleaned.stderr


def test_f18_git_s_own_worktree_is_half_made_when_it_is_killed(user: User) -> None:
    """What a run would leave in the user's repository if it were one of git's worktrees."""
    user.shell("mkdir -p .git/hooks; printf '#!/bin/sh\\nkill -9 $PPID\\n' >.git/hooks/post-checkout")
    user.shell("chmod 755 .git/hooks/post-checkout")
    before = user.snapshot()
    user.run("git", "worktree", "add", "-q", "-b", "mine", "../linked")
    left = changes(before, user.snapshot())
    assert {"project/.git/worktrees/linked/gitdir", "project/.git/refs/heads/mine"} <= left


def test_f18_a_half_made_worktree_is_removed_by_the_next_run(user: User) -> None:
    with chat_server(by_history(marking("one", seconds=20))) as server:
        kill_when(user, server, lambda: has_mark(user, "one"))
    (tree,) = user.worktrees()
    (tree.parent / "worktree.json").unlink()  # it comes last
    with chat_server(call("apply_patch", {"patch": FIX}), say("It adds now.")) as server:
        assert user.miyabi(*arguments(server)).code == 0
    assert user.worktrees() == []
