"""A run that is stopped by a signal leaves no child, no worktree, and the right exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import PYTHON, ROOT
from tests.support.schemas import schema, validate
from tests.support.server import call, chat_server, chunk, send_event, start_events

MARK = "miyabi-signal-test"


def running(mark: str) -> list[str]:
    """Return the command lines of all processes of this machine that hold a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if mark in line and "pytest" not in line:
            found.append(line)
    return found


def wait_until(true: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_a_signal_in_the_middle_of_a_tool(
    repository: Path, environment: dict[str, str], home: Path, number: signal.Signals, code: int, sandbox: str
) -> None:
    mark = f"{MARK}-{os.getpid()}-{number}-{sandbox}"
    with chat_server(call("exec", {"cmd": f"sh -c 'sleep 600; echo {mark}'"})) as server:
        process = start(environment, repository, server.url, "--sandbox", sandbox)
        wait_until(lambda: running(mark))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == code, stderr
    assert "interrupted" in stderr
    assert running(mark) == []
    assert len(list((home / "cache/worktrees").rglob("tree"))) == 1  # that of the attempt, which can go on


def test_a_signal_while_the_model_answers(repository: Path, environment: dict[str, str], home: Path) -> None:
    asked = threading.Event()

    def hang(handler: Any, _: Any) -> None:
        start_events(handler)
        send_event(handler, chunk({"delta": {"content": "ha"}}))
        asked.set()
        handler.connection.settimeout(20)
        handler.close_connection = True
        handler.rfile.read(1)

    with chat_server(hang) as server:
        process = start(environment, repository, server.url)
        assert asked.wait(30)
        process.terminate()
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 143, stderr
    assert list((home / "cache/worktrees").rglob("tree")) == []


def test_a_signal_while_a_thread_of_a_review_checks_files_out(
    repository: Path, environment: dict[str, str], home: Path
) -> None:
    (repository / "pyproject.toml").write_text("[tool.ruff]\n")
    begun, bereft, programs = home / "begun", home / "bereft", home / "programs"
    programs.mkdir()
    real = shutil.which("git", path=environment["PATH"])
    slow = f'case "$*" in *"read-tree --reset"*) touch {begun}; sleep 1; [ -d "$GIT_DIR" ] || touch {bereft};; esac'
    (programs / "git").write_text(f'#!/bin/sh\n{slow}\nexec {real} "$@"\n')
    (programs / "git").chmod(0o755)
    variables = {**environment, "PATH": f"{programs}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-m", "miyabi_cli", "review", "--no-llm"]
    with subprocess.Popen(command, cwd=repository, env=variables, stderr=subprocess.PIPE, text=True) as process:
        wait_until(begun.exists)
        process.terminate()
        _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (143, "error: interrupted\n")  # and no traceback of the thread's
    assert list((home / "cache/worktrees").iterdir()) == []
    assert not bereft.exists()  # what is removed while git writes there comes back


def test_an_interruption_is_json_too_and_the_run_says_what_ended_it(
    repository: Path, environment: dict[str, str], miyabi: Any
) -> None:
    mark = f"{MARK}-{os.getpid()}-json"
    with chat_server(call("exec", {"cmd": f"sh -c 'sleep 600; echo {mark}'"})) as server:
        process = start(environment, repository, server.url, "--format", "json")
        wait_until(lambda: running(mark))
        process.send_signal(signal.SIGHUP)
        stdout, _ = process.communicate(timeout=20)
    error = json.loads(stdout)
    jsonschema.validate(error, schema("error"))
    shown = json.loads(miyabi("runs", "show", "--format", "json").stdout)
    assert (shown["status"], shown["error"]) == ("stopped", "interrupted")
    hint = f"miyabi codegen --resume {shown['run_id']} goes on with the run"
    assert error["error"] == {"kind": "interrupted", "message": "interrupted", "hint": hint, "exit_code": 129}


def test_an_interrupted_run_of_jsonl_ends_with_a_line_of_its_own(repository: Path, environment: dict[str, str]) -> None:
    mark = f"{MARK}-{os.getpid()}-jsonl"
    with chat_server(call("exec", {"cmd": f"sh -c 'sleep 600; echo {mark}'"})) as server:
        process = start(environment, repository, server.url, "--format", "jsonl")
        wait_until(lambda: running(mark))
        process.terminate()
        stdout, _ = process.communicate(timeout=20)
    first, *_, last = [json.loads(line) for line in stdout.splitlines()]
    validate(last, "event")
    assert (last["type"], last["run_id"], last["error"]["exit_code"]) == ("error", first["run_id"], 143)


def test_what_a_killed_run_leaves_is_listed_cleaned_and_in_nobody_s_way(
    repository: Path, environment: dict[str, str], home: Path, miyabi: Any
) -> None:
    mark = f"{MARK}-{os.getpid()}-kill"
    with chat_server(call("exec", {"cmd": f"sh -c 'sleep 600; echo {mark}'"})) as server:
        process = start(environment, repository, server.url)
        wait_until(lambda: running(mark))
        process.kill()
        process.communicate(timeout=20)
    wait_until(lambda: not running(mark))  # the sandbox ends with its parent, however that ended
    listed = miyabi("worktrees", "list", cwd=repository)
    assert "left over" in listed.stdout
    cleaned = miyabi("worktrees", "clean", cwd=repository)
    assert cleaned.code == 0
    assert list((home / "cache/worktrees").rglob("tree")) == []
    shown = miyabi("runs", "show", "last")
    assert (shown.code, "stopped: " in shown.stdout) == (0, True)
    assert "sleep 600" in shown.stdout


def start(environment: dict[str, str], repository: Path, url: str, *more: str) -> subprocess.Popen[str]:
    arguments = ["codegen", "wait", "--endpoint", url, "--model", "m", "--no-checks", *more]
    return subprocess.Popen(
        [PYTHON, "-m", "miyabi_cli", *arguments],
        cwd=repository,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
