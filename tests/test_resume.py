"""A run that is killed goes on by `--resume`: no tool runs twice, and the result is what it would have been."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.locks import take_lock
from miyabi_cli.runs import EVENTS, read_log
from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.schemas import validate
from tests.support.server import ChatServer, call, chat_server, say, stream
from tests.test_codegen import BREAK, FIX, TASK, model, state

Git = Callable[..., str]

# What a tool does leaves a mark in a file that git ignores, so that it can be counted and is no part of the patch.
IGNORED = "__pycache__/marks"
SLOW = "sleep 0.15"


def marking(name: str) -> dict[str, Any]:
    return call("exec", {"cmd": f"mkdir -p __pycache__; echo {name} >> {IGNORED}; {SLOW}; cat {IGNORED}"})


def two(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A turn that calls two tools."""
    return {**one, "calls": [*one["calls"], *other["calls"]]}


# A cut-off reply, two calls in one, a wrong patch that the checks find, the right one.
CUT = say("I shall now do a great many things. " * 100, finish="length")
TURNS = (
    marking("one"),
    CUT,
    two(marking("two"), marking("three")),
    call("apply_patch", {"patch": BREAK}),
    say("Done."),
    call("apply_patch", {"patch": BREAK.replace("a * 3", "a * 9").replace("a * 2", "a * 3").replace("a * 9", "a * 2")}),
    call("apply_patch", {"patch": FIX}),
    say("It adds now."),
)


def by_history(*turns: dict[str, Any]) -> Callable[..., None]:
    """Play the turn that the conversation has come to: as many as the model has said before are over."""

    def play(handler: Any, request: Any) -> None:
        said = sum(message["role"] == "assistant" for message in request.json["messages"])
        stream(handler, turns[min(said, len(turns) - 1)])

    return play


def start(
    environment: dict[str, str], repository: Path, server: ChatServer, *more: str, task: str | None = TASK
) -> subprocess.Popen[str]:
    arguments = [*([task] if task else []), *model(server), *more, "--format", "json"]
    return subprocess.Popen(
        [PYTHON, "-m", "miyabi_cli", "codegen", *arguments],
        cwd=repository,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def logs(home: Path) -> list[Path]:
    return sorted((home / "data/runs").glob(f"*/{EVENTS}"))


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def kill_at(process: subprocess.Popen[str], home: Path, count: int, known: int = 1) -> Path:
    """Kill a run, the first after those that are `known`, as soon as its log has so many events; return the log."""
    end = time.monotonic() + 60
    while len(logs(home)) <= known or lines_of(logs(home)[-1]) < count:
        assert time.monotonic() < end, "the run came to no such event"
        if process.poll() is not None:
            break
        time.sleep(0.001)
    process.kill()
    process.wait()
    return logs(home)[-1]


def marks_in(log: Path) -> list[str]:
    """Return the marks that the last look of the model has shown."""
    shown = [event["output"] for event in read_log(log.parent) if event["type"] == "tool_ended"]
    last = [output for output in shown if "one\n" in output or "two" in output or "three" in output]
    return [word for word in (last[-1].split() if last else []) if word in ("one", "two", "three")]


def essence(result: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on whether a run was killed."""
    names = ("status", "summary", "patch", "base", "files_modified", "lines_added", "tests_added", "warnings")
    checks = [(check["name"], check["before"], check["after"], check["tests"]) for check in result["checks"]]
    return {name: result[name] for name in names} | {"checks": checks, "attempts": len(result["attempts"])}


@pytest.fixture
def unkilled(repository: Path, miyabi: Miyabi) -> tuple[dict[str, Any], int]:
    """Return the result of the run that nobody kills, and how many events it has; the base's checks are known then."""
    with chat_server(by_history(*TURNS)) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "jsonl", cwd=repository)
    assert ran.code == 0, ran.stderr
    events = ran.stdout.splitlines()
    return json.loads(events[-1])["result"], len(events)


def test_a_run_killed_again_and_again_goes_on_to_the_same_result(
    repository: Path,
    environment: dict[str, str],
    home: Path,
    miyabi: Miyabi,
    git: Git,
    unkilled: tuple[dict[str, Any], int],
) -> None:
    """One run is killed again and again, a few events further each time."""
    expected, count = unkilled
    before, branches = state(repository, git), git("branch", "--list", cwd=repository)
    with chat_server(by_history(*TURNS)) as server:
        log = kill_at(start(environment, repository, server), home, 4)
        assert lines_of(log) < count
        for number in range(count):
            assert state(repository, git) == before
            seen = lines_of(log)
            process = start(environment, repository, server, "--resume", log.parent.name, task=None)
            kill_at(process, home, seen + 3 + number % 5)  # a check that is killed is run again
            if process.returncode == 0:
                break
            assert git("branch", "--list", cwd=repository) == branches or (log.parent / "patch.diff").exists()
        else:  # on a busy machine the kills come late, and more of them are in a check
            ran = miyabi("codegen", "--resume", log.parent.name, *model(server), cwd=repository)
            assert ran.code == 0, ran.stderr
    shown = json.loads(miyabi("runs", "show", log.parent.name, "--format", "json").stdout)
    result = shown["result"]
    assert essence(result) | {"warnings": []} == essence(expected)
    assert len(git("branch", "--list", "miyabi/*", cwd=repository).splitlines()) == 2
    for event in read_log(log.parent):
        validate(event, "event")
    assert_no_tool_ran_twice(log)


def assert_no_tool_ran_twice(log: Path) -> None:
    started = [event["call"]["id"] for event in read_log(log.parent) if event["type"] == "tool_started"]
    assert len(set(started)) == len(started)
    marks = marks_in(log)
    assert len(set(marks)) == len(marks)


def test_what_can_not_go_on_is_refused(repository: Path, miyabi: Miyabi, home: Path) -> None:
    with chat_server(call("apply_patch", {"patch": FIX}), say("It adds now.")) as server:
        ran = miyabi("codegen", TASK, *model(server), "--no-checks", cwd=repository)
    assert ran.code == 0, ran.stderr
    finished = miyabi("codegen", "--resume", "last", cwd=repository)
    assert (finished.code, "has come to its end" in finished.stderr) == (2, True)
    (log,) = logs(home)
    (log.parent / "result.json").unlink()
    other = miyabi("codegen", "another task", "--resume", "last", cwd=repository)
    assert (other.code, "the run's own task" in other.stderr) == (2, True)
    own = miyabi("codegen", "--resume", "last", "--base", "HEAD", cwd=repository)
    assert (own.code, "--base and --resume" in own.stderr) == (2, True)
    lock = take_lock(log.parent / "lock")
    assert lock
    live = miyabi("codegen", "--resume", "last", cwd=repository)
    lock.release()
    assert (live.code, "in another process" in live.stderr) == (4, True)
    log.write_bytes(b'{"type": "run_st')
    headless = miyabi("codegen", "--resume", "last", cwd=repository)
    assert (headless.code, "no beginning" in headless.stderr) == (2, True)
    unknown = miyabi("codegen", "--resume", "nothing", cwd=repository)
    assert (unknown.code, "is no run" in unknown.stderr) == (2, True)
