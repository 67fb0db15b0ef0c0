"""`codegen --resume`: several attempts, flags given anew, limits, what is gone, what is refused, each delivery."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.runs import RESULT, read_log
from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support.careful import asking, assert_whole, careful_model
from tests.support.dying import codegen_until, log_of
from tests.support.schemas import validate
from tests.support.server import ChatServer, call, chat_server, say, send_error, stream
from tests.test_codegen import FIX, TASK, model, state

Git = Callable[..., str]
FIXED = call("apply_patch", {"patch": FIX})
CHECK = ("--check", "grep -q 'a + b' calc.py")


@dataclass(frozen=True)
class Project:
    """A repository, and a miyabi that dies there on order."""

    root: Path
    home: Path
    environment: Mapping[str, str]
    miyabi: Miyabi

    def codegen(self, *arguments: str, **more: Any) -> Ran:
        return self.miyabi("codegen", *arguments, **{"cwd": self.root, **more})

    def resume(self, *arguments: str, **more: Any) -> Ran:
        return self.codegen("--resume", "last", *arguments, **more)

    def killed_at(self, kind: str, number: int, *arguments: str) -> Ran:
        return codegen_until(kind, number, *arguments, environment=self.environment, repository=self.root)

    @property
    def log(self) -> Path:
        return log_of(self.home)

    @property
    def run_id(self) -> str:
        return self.log.parent.name

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in read_log(self.log.parent) if event["type"] == kind]

    def trees(self) -> list[Path]:
        return sorted((self.home / "cache/worktrees").rglob("tree"))


@pytest.fixture
def project(repository: Path, home: Path, environment: dict[str, str], miyabi: Miyabi) -> Project:
    return Project(repository, home, environment, miyabi)


def by_seed(**turns: tuple[Any, ...]) -> Callable[..., None]:
    """Play each attempt's own turns, as many as the model has said before being over; the first attempt has no seed."""

    def play(handler: Any, request: Any) -> None:
        said = sum(message["role"] == "assistant" for message in request.json["messages"])
        own = turns[f"attempt{request.json.get('seed', 1)}"]
        turn = own[min(said, len(own) - 1)]
        turn(handler, request) if callable(turn) else stream(handler, turn)

    return play


def result_of(ran: Ran, code: int = 0) -> dict[str, Any]:
    assert ran.code == code, ran.stderr
    data: dict[str, Any] = json.loads(ran.stdout)
    validate(data, "codegen")
    return data


# Killed with the sandbox, and several attempts


def test_a_run_killed_again_and_again_goes_on_to_the_same_result(project: Project, git: Git) -> None:
    """Here the sandbox is on, the checks are pytest's, and each process is killed a little further on."""
    before = state(project.root, git)
    looks = [call("exec", {"cmd": f"cat calc.py; echo {number}"}) for number in range(3)]
    with chat_server(by_seed(attempt1=(*looks, FIXED, say("It adds now.")))) as server:
        project.killed_at("check_started", 1, TASK, *model(server))
        for kind, number in (("tool_ended", 1), ("reply", 2), ("check_ended", 2)):
            project.killed_at(kind, number, "--resume", "last")
            assert state(project.root, git) == before
        result = result_of(project.resume("--format", "json"))
    assert (result["status"], result["summary"], result["attempts"][0]["steps"]) == ("verified", "It adds now.", 5)
    assert len(result["checks"][0]["tests"]["fixed"]) == 1
    started = [event["call"]["id"] for event in project.events("tool_started")]
    assert len(set(started)) == len(started) == 4
    assert state(project.root, git) == before


def test_attempts_that_have_ended_are_not_made_again(project: Project) -> None:
    turns = by_seed(
        attempt1=(say("I can't."),), attempt2=(call("exec", {"cmd": "ls"}), FIXED, say("It adds now.")), attempt3=()
    )
    with chat_server(turns) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK, "--attempts", "3")
        asked = len(server.requests)
        result = result_of(project.resume("--format", "json"))
        assert [request.json.get("seed") for request in server.requests[asked:]] == [2, 2]
    assert [attempt["status"] for attempt in result["attempts"]] == ["failed", "verified"]
    assert [attempt["steps"] for attempt in result["attempts"]] == [2, 3]
    assert result["usage"]["requests"] == 5
    assert result["usage"]["input_tokens"] == 500
    assert [attempt["usage"]["requests"] for attempt in result["attempts"]] == [2, 3]


def test_attempts_side_by_side_go_on_side_by_side(project: Project, tmp_path: Path) -> None:
    marks = tmp_path / "marks"

    def mark(name: str) -> dict[str, Any]:
        return call("exec", {"cmd": f"echo {name} >> {marks}"})

    def own(name: str) -> tuple[Any, ...]:
        return (mark(f"{name}-a"), mark(f"{name}-b"), say("I can't."))

    turns = by_seed(attempt1=own("one"), attempt2=own("two"), attempt3=(FIXED, say("It adds now.")))
    arguments = ["--sandbox", "off", *CHECK, "--attempts", "3", "--jobs", "2"]
    with chat_server(turns) as server:
        project.killed_at("tool_ended", 2, TASK, *model(server), *arguments)
        result = result_of(project.resume("--format", "json"))
    assert [attempt["status"] for attempt in result["attempts"]] == ["failed", "failed", "verified"]
    done = marks.read_text().split()
    assert len(set(done)) == len(done)  # one that was killed in the middle may be missing, none is there twice


# Flags and limits


def test_flags_given_anew_count_more(project: Project) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("reply", 1, TASK, *model(server), *CHECK, "--effort", "low", "--max-steps", "1")
        other = ["--model", "gpt-oss-120b", "--effort", "medium", "--max-steps", "9", "--check", "true"]
        result = result_of(project.resume(*other, "--format", "json"))
        first, last = server.requests[0].json, server.requests[-1].json
    assert (first["model"], last["model"], result["model"]) == ("gpt-oss-20b", "gpt-oss-120b", "gpt-oss-120b")
    assert (first["reasoning_effort"], last["reasoning_effort"], result["effort"]) == ("low", "medium", "medium")
    assert [check["command"] for check in result["checks"]] == ["true"]


@pytest.mark.parametrize("kind", ["tool_ended", "attempt_ended"])
def test_a_limit_of_steps_holds_over_processes_and_a_larger_one_lifts_it(project: Project, kind: str) -> None:
    turns = by_seed(attempt1=(call("exec", {"cmd": "ls"}), FIXED, say("It adds now.")))
    with chat_server(turns) as server:
        project.killed_at(kind, 1, TASK, *model(server), *CHECK, "--max-steps", "1")
        shutil.copytree(project.home, project.home.parent / "copy")
        result = result_of(project.resume("--format", "json"), code=5)
        assert (result["status"], result["attempts"][0]["steps"], len(server.requests)) == ("limit", 1, 1)
        shutil.rmtree(project.home)
        (project.home.parent / "copy").rename(project.home)
        result = result_of(project.resume("--max-steps", "3", "--format", "json"))
    assert (result["status"], result["attempts"][0]["steps"]) == ("verified", 3)


def test_the_seconds_of_earlier_processes_count(project: Project) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK)
        first, *others = project.log.read_text().splitlines()
        begun = json.loads(first)
        hour_before = (datetime.fromisoformat(begun["time"]) - timedelta(hours=1)).isoformat()
        project.log.write_text("\n".join([json.dumps({**begun, "time": hour_before}), *others]) + "\n")
        result = result_of(project.resume("--max-time", "3600", "--format", "json"))
        assert len(server.requests) == 1  # there is no time for another question, but for the verdict
    assert (result["status"], result["seconds"] > 3600) == ("verified", True)


# What is gone, or damaged


def test_a_worktree_that_is_gone_is_made_anew_and_that_is_said(project: Project) -> None:
    with chat_server(by_seed(attempt1=(call("exec", {"cmd": "ls"}), FIXED, say("It adds now.")))) as server:
        project.killed_at("tool_ended", 2, TASK, *model(server), *CHECK)
        assert project.miyabi("worktrees", "clean").code == 0
        result = result_of(project.resume("--format", "json"))
        assert len(server.requests) == 5
    assert [warning["message"] for warning in result["warnings"] if warning["kind"] == "resume"] == [
        "attempt 1 begins anew from the base: its worktree is gone"
    ]
    assert result["usage"]["requests"] == 5
    replayed = project.miyabi("runs", "replay", "last", cwd=project.root)
    assert (replayed.code, replayed.stdout) == (0, result["patch"]), replayed.stderr


def test_a_verified_patch_that_is_gone_is_made_anew(project: Project) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("attempt_ended", 1, TASK, *model(server), *CHECK)
        shutil.rmtree(project.home / "cache/worktrees")
        result = result_of(project.resume("--format", "json"))
    assert (result["status"], len(result["attempts"])) == ("verified", 1)
    assert "begins anew" in str(result["warnings"])


def test_a_base_that_is_gone_is_an_error(project: Project, git: Git) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK)
        git("commit", "-q", "--amend", "-m", "another", cwd=project.root)
        git("reflog", "expire", "--expire=now", "--all", cwd=project.root)
        git("gc", "-q", "--prune=now", cwd=project.root)
        ran = project.resume()
    assert (ran.code, "is gone" in ran.stderr, "hint: begin the task anew\n" in ran.stderr) == (4, True, True)


def test_a_run_that_warns_of_uncommitted_changes_has_begun_before(project: Project, git: Git) -> None:
    (project.root / "calc.py").write_text("def add(a, b):\n    return a - b\n\n\nMINE = 1\n")
    before = state(project.root, git)
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("warning|run_started", 1, TASK, *model(server), *CHECK)
        result = result_of(project.resume("--format", "json"))
    assert result["status"] == "verified"
    assert state(project.root, git) == before


def test_a_branch_that_was_made_meanwhile_is_given_another_name(project: Project, git: Git) -> None:
    branch = git("rev-parse", "--abbrev-ref", "HEAD", cwd=project.root)

    def occupied(handler: Any, request: Any) -> None:
        git("branch", "--no-track", "mine", branch, cwd=project.root)
        stream(handler, say("It adds now."))

    with chat_server(by_seed(attempt1=(FIXED, occupied))) as server:
        ran = project.codegen(TASK, *model(server), *CHECK, "--branch", "mine")
        assert (ran.code, "the branch mine exists already" in ran.stderr) == (4, True), ran.stderr
        assert f"name another one with --branch (then: miyabi codegen --resume {project.run_id})" in ran.stderr
        assert len(project.trees()) == 1
        again = project.resume()
        assert (again.code, "name another one with --branch" in again.stderr) == (4, True), again.stderr
        result = result_of(project.resume("--branch", "yours", "--format", "json"))
    assert (result["status"], result["branch"], len(server.requests)) == ("verified", "yours", 2)
    assert "a + b" in git("show", "yours:calc.py", cwd=project.root)
    assert project.trees() == []


def test_a_damaged_log_is_an_error(project: Project, git: Git) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"base": "--output=/tmp/x"}, "names no commit"),
        ({"base": "HEAD"}, "names no commit"),
        ({"base": 5}, "is damaged"),
        ({"repository": "/nowhere"}, "is gone: /nowhere"),
        ({"options": {}}, "it has no flags"),
        ({"options": {"flags": {"attempts": "many"}}}, "--attempts is 'many'"),
        ({"options": {"flags": {"attempts": 1000}}}, "--attempts is 1000"),
        ({"options": {"flags": {"max_time": "soon"}}}, "--max-time is 'soon'"),
        ({"options": {"flags": {"sandbox": "none"}}}, "--sandbox is 'none'"),
        ({"time": "yesterday"}, "is damaged"),
        ({"time": "0001-01-01T00:00:00"}, "is damaged"),
        ({"model": None}, "is damaged"),
    ]
    before = state(project.root, git)
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("reply", 1, TASK, *model(server), *CHECK)
        first, *others = project.log.read_text().splitlines()
        for change, words in changes:
            project.log.write_text("\n".join([json.dumps({**json.loads(first), **change}), *others]) + "\n")
            ran = project.resume()
            assert (ran.code, words in ran.stderr) == (4, True), ran.stderr
        assert len(project.trees()) == 1  # nothing of it is lost by an error
    assert state(project.root, git) == before


def test_a_damaged_line_in_the_middle_is_an_error(project: Project) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK)
        lines = project.log.read_bytes().splitlines(keepends=True)
        for damaged in (b"[" * 100_000 + b"\n", b"\xff\n", lines[-2][:20] + b"\n", b'{"type":"reply","reply":5}\n'):
            project.log.write_bytes(b"".join([*lines[:-2], damaged, lines[-1]]))
            ran = project.resume()
            assert (ran.code, "is damaged" in ran.stderr) == (4, True), ran.stderr


# What is refused


def test_what_can_not_go_on_is_refused(project: Project) -> None:
    with chat_server(FIXED, say("It adds now.")) as server:
        ran = project.codegen(TASK, *model(server), "--no-checks")
    assert ran.code == 0, ran.stderr
    finished = project.resume()
    assert (finished.code, "has come to its end: unverified" in finished.stderr) == (2, True)
    (project.log.parent / RESULT).unlink()
    for flags, words in (
        (["another task"], "the run's own task"),
        (["--base", "HEAD"], "--base and --resume"),
        (["--repo", "."], "--repo and --resume"),
        (["--include-uncommitted"], "--include-uncommitted and --resume"),
        (["--dry-run"], "--dry-run and --resume"),
        (["--provider", "replay"], "recorded replies"),
    ):
        refused = project.resume(*flags)
        assert (refused.code, words in refused.stderr) == (2, True), refused.stderr
    project.log.write_bytes(b'{"type": "run_st')
    headless = project.resume()
    assert (headless.code, "no beginning" in headless.stderr) == (2, True)
    unknown = project.codegen("--resume", "nothing")
    assert (unknown.code, "is no run" in unknown.stderr) == (2, True)


def test_the_second_of_two_resumes_is_refused_and_does_no_harm(project: Project) -> None:
    asked, go = threading.Event(), threading.Event()

    def wait(handler: Any, _: Any) -> None:
        asked.set()
        assert go.wait(60)
        stream(handler, say("It adds now."))

    with chat_server(by_seed(attempt1=(FIXED, wait))) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK)
        first = subprocess.Popen(
            [PYTHON, "-m", "miyabi_cli", "codegen", "--resume", "last", "--format", "json"],
            cwd=project.root,
            env={**project.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(60)
        log = project.log.read_bytes()
        second = project.resume("--format", "jsonl")
        listed = project.miyabi("runs", "list", "--format", "json")
        cleaned = project.miyabi("worktrees", "clean", "--all")
        forgotten = project.miyabi("runs", "clean", "--keep", "0")
        assert project.log.read_bytes() == log
        go.set()
        stdout, stderr = first.communicate(timeout=60)
    assert (second.code, "is at work in another process" in second.stderr) == (4, True)
    error = json.loads(second.stdout)
    validate(error, "event")
    assert error["error"]["hint"] == "wait until it has ended"
    assert [run["status"] for run in json.loads(listed.stdout)] == ["running"]
    assert (cleaned.code, cleaned.stdout, forgotten.code, forgotten.stdout) == (0, "", 0, "")
    assert result_of(Ran(first.returncode, stdout, stderr))["status"] == "verified"


# From elsewhere, and to each delivery


def test_it_goes_on_from_any_folder_and_each_line_of_jsonl_has_time_and_run(
    project: Project, tmp_path: Path, git: Git
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git("init", "-q", cwd=other)
    with careful_model(tmp_path / "marks") as server:
        project.killed_at("tool_ended", 2, TASK, *asking(server))
        ran = project.resume("--format", "jsonl", cwd=other)
    assert ran.code == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    for line in lines:
        validate(line, "event")
    assert {line["run_id"] for line in lines} == {project.run_id}
    assert lines[0]["type"] == "run_resumed"
    assert_whole(lines[-1]["result"], project.log, tmp_path / "marks")


def test_apply_refuses_a_conflict_and_is_tried_again(project: Project, git: Git) -> None:
    calc = project.root / "calc.py"
    text = calc.read_text()
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("attempt_ended", 1, TASK, *model(server), *CHECK, "--apply")
        calc.write_text(text.replace("a - b", "a - 2 * b"))
        before = state(project.root, git)
        conflict = project.resume("--format", "json")
        assert (conflict.code, state(project.root, git)) == (4, before)
        error = json.loads(conflict.stdout)["error"]
        assert error["kind"] == "patch_conflict"
        assert error["hint"].endswith(f"(then: miyabi codegen --resume {project.run_id})")
        calc.write_text(text)
        result = result_of(project.resume("--format", "json"))
        assert len(server.requests) == 2
    assert (result["status"], result["branch"], "a + b" in calc.read_text()) == ("verified", None, True)
    assert git("branch", "--list", "miyabi/*", cwd=project.root) == ""


def test_a_patch_goes_to_the_file_that_was_named(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "fix.patch"
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("attempt_ended", 1, TASK, *model(server), *CHECK, "--patch", "../fix.patch")
        assert not file.exists()
        result = result_of(project.resume("--format", "json", cwd=tmp_path))
    assert file.read_text() == result["patch"]


def test_uncommitted_changes_are_those_of_the_beginning(project: Project, git: Git) -> None:
    calc = project.root / "calc.py"
    at_first, later = calc.read_text() + "\n\nFIRST = 1\n", calc.read_text().replace("a - b", "b - a")
    calc.write_text(at_first)
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        project.killed_at("tool_ended", 1, TASK, *model(server), *CHECK, "--include-uncommitted", "--apply")
        calc.write_text(later)
        refused = project.resume()
        assert (refused.code, calc.read_text()) == (4, later)
        calc.write_text(at_first)
        assert result_of(project.resume("--format", "json"))["status"] == "verified"
    assert calc.read_text() == at_first.replace("a - b", "a + b")


# Runs that were stopped in order


def stopped_by_provider(project: Project, server: ChatServer) -> Ran:
    ran = project.codegen(TASK, *model(server), *CHECK, "--format", "json")
    assert ran.code == 3, ran.stderr
    return ran


def failing(*turns: Any) -> Callable[..., None]:
    """Refuse the second question of all, and else play the turns that the conversation has come to."""
    asked: list[int] = []
    play = by_seed(attempt1=turns)

    def one(handler: Any, request: Any) -> None:
        asked.append(1)
        send_error(401, {"error": "Unauthorized"})(handler, request) if len(asked) == 2 else play(handler, request)

    return one


def test_a_run_that_its_provider_has_failed_goes_on_where_it_was(project: Project, home: Path) -> None:
    with chat_server(failing(FIXED, say("It adds now."))) as server:
        ran = stopped_by_provider(project, server)
        going_on = f"miyabi codegen --resume {project.run_id}"
        assert json.loads(ran.stdout)["error"]["hint"].endswith(f"(then: {going_on})")
        assert f"(then: {going_on})\n" in ran.stderr
        listed = json.loads(project.miyabi("runs", "list", "--format", "json").stdout)
        validate(listed, "runs")
        assert [run["status"] for run in listed] == ["stopped"]
        assert f"{going_on} goes on with it" in project.miyabi("runs", "show", "last").stdout
        worktrees = json.loads(project.miyabi("worktrees", "list", "--format", "json").stdout)
        validate(worktrees, "worktrees")
        assert [(one["name"], one["state"]) for one in worktrees] == [("attempt-1", "stopped")]
        assert project.miyabi("worktrees", "clean").stdout == ""
        result = result_of(project.resume("--format", "json"))
        assert len(server.requests) == 3
    assert (result["status"], result["warnings"]) == ("verified", [])
    assert len(project.events("attempt_started")) == 1
    assert project.trees() == []


def test_a_signal_leaves_what_it_takes_to_go_on(project: Project, tmp_path: Path) -> None:
    asked = threading.Event()
    questions: list[int] = []

    def second(handler: Any, request: Any) -> None:
        questions.append(1)
        if len(questions) > 1:
            stream(handler, say("It adds now."))
            return
        asked.set()
        handler.connection.settimeout(60)
        handler.close_connection = True
        handler.rfile.read(1)

    with chat_server(by_seed(attempt1=(FIXED, second))) as server:
        process = subprocess.Popen(
            [PYTHON, "-m", "miyabi_cli", "codegen", TASK, *model(server), *CHECK],
            cwd=project.root,
            env={**project.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert f"hint: miyabi codegen --resume {project.run_id} goes on with the run" in stderr
        result = result_of(project.resume("--format", "json"))
    assert (result["status"], len(project.events("attempt_started"))) == ("verified", 1)


def test_a_run_stopped_before_the_model_said_anything_leaves_no_worktree_and_no_hint(project: Project) -> None:
    with chat_server(send_error(401, {"error": "Unauthorized"})) as server:
        ran = stopped_by_provider(project, server)
    assert (project.trees(), "--resume" in ran.stderr) == ([], False)


def test_what_nobody_goes_on_with_is_removed_in_the_end(project: Project) -> None:
    with chat_server(failing(FIXED)) as server:
        stopped_by_provider(project, server)
    (tree,) = project.trees()
    next_run = (*CHECK, "--max-steps", "5")
    with chat_server(say("I can't.")) as server:
        project.codegen(TASK, *model(server), *next_run)
        assert project.trees() == [tree]
        for path in (tree.parent / "worktree.json", tree.parent / "stopped"):
            os.utime(path, (0, 0))
        project.codegen(TASK, *model(server), *next_run)
    assert project.trees() == []


def test_all_that_can_be_resumed_is_removed_on_request(project: Project) -> None:
    with chat_server(failing(FIXED)) as server:
        stopped_by_provider(project, server)
    assert "attempt-1" in project.miyabi("worktrees", "clean", "--all").stdout
    assert project.trees() == []


# Ended by a limit


def test_a_run_that_a_limit_has_ended_goes_on_where_it_was(project: Project, git: Git) -> None:
    """The first process leaves a branch that is not verified, the second makes it what it should be."""
    wrong = call("apply_patch", {"patch": FIX.replace("a + b", "a * b")})
    mend = call("apply_patch", {"patch": FIX.replace("a - b", "a * b")})
    before = state(project.root, git)
    with chat_server(by_seed(attempt1=(wrong, mend, say("It adds now.")))) as server:
        first = result_of(project.codegen(TASK, *model(server), *CHECK, "--max-steps", "1", "--format", "json"), 5)
        assert (first["status"], first["checks"][0]["after"]) == ("limit", "fail")
        assert "a * b" in git("show", f"{first['branch']}:calc.py", cwd=project.root)
        goes_on = f"--resume {project.run_id} with a larger --max-steps goes on with it"
        assert [goes_on in warning["message"] for warning in first["warnings"]] == [True]
        assert f"{goes_on}" in project.miyabi("runs", "show", "last").stdout
        same = result_of(project.resume("--format", "json"), 5)
        assert (same["branch"], same["commit"], len(server.requests)) == (first["branch"], first["commit"], 1)
        result = result_of(project.resume("--max-steps", "5", "--format", "json"))
    assert (result["status"], result["branch"], result["warnings"]) == ("verified", first["branch"], [])
    assert (result["attempts"][0]["steps"], len(server.requests)) == (3, 3)
    assert "a + b" in git("show", f"{result['branch']}:calc.py", cwd=project.root)
    assert (state(project.root, git), project.trees()) == (before, [])
    ended = project.resume()
    assert (ended.code, "has come to its end: verified" in ended.stderr) == (2, True)


def test_a_branch_that_somebody_is_on_stays_as_it_was(project: Project, git: Git) -> None:
    with chat_server(by_seed(attempt1=(FIXED, say("It adds now.")))) as server:
        limited = [TASK, *model(server), "--check", "grep -q 'a + b' calc.py && ! test -e calc.pyc", "--check", "false"]
        first = result_of(project.codegen(*limited, "--max-steps", "1", "--format", "json"), 5)
        git("checkout", "-q", first["branch"], cwd=project.root)
        (project.root / "more.txt").write_text("mine")
        git("add", ".", cwd=project.root)
        git("commit", "-qm", "mine", cwd=project.root)
        mine = git("rev-parse", "HEAD", cwd=project.root)
        result = result_of(project.resume(*CHECK, "--max-steps", "5", "--format", "json"))
    assert git("rev-parse", first["branch"], cwd=project.root) == mine
    assert result["status"] == "verified"
    assert result["branch"] != first["branch"] or result["commit"] == first["commit"]


def test_an_earlier_patch_that_is_not_verified_is_no_end_where_a_limit_was_reached(project: Project) -> None:
    wrong = call("apply_patch", {"patch": FIX.replace("a + b", "a * b")})
    turns = by_seed(attempt1=(wrong, say("Done.")), attempt2=(call("exec", {"cmd": "sleep 60"}),))
    limits = ("--max-time", "6", "--attempts", "2", "--sandbox", "off")
    with chat_server(turns) as server:
        ran = project.codegen(TASK, *model(server), *CHECK, *limits, "--format", "json")
    result = result_of(ran, 5)
    assert result["status"] == "limit"
    assert "time limit" in result["summary"]
    assert result["attempts"][1]["status"] == "limit"
    assert (result["lines_added"], bool(result["branch"])) == (1, True)
    assert "--max-time goes on with it" in ran.stderr
