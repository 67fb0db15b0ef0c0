"""`codegen --tasks`: many tasks in one process, a result a line; what is wrong in a file, kills, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.codegen.backlog import read_task
from miyabi_cli.errors import UsageError
from miyabi_cli.runs import read_log
from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support.github import TOKEN, FakeGitHub, github_server, issue
from tests.support.schemas import validate
from tests.support.server import call, chat_server, say, send_error, stream
from tests.test_codegen import FIX, model, state

Git = Callable[..., str]
CHECK = ("--check", "grep -q 'a + b' calc.py")
FIXED = call("apply_patch", {"patch": FIX})
DONE = say("It adds now.")


@dataclass(frozen=True)
class Project:
    root: Path
    home: Path
    environment: Mapping[str, str]
    miyabi: Miyabi

    def tasks(self, *lines: Any, more: tuple[str, ...] = (), **others: Any) -> Ran:
        file = self.root.parent / "backlog.jsonl"
        file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return self.miyabi("codegen", "--tasks", str(file), *CHECK, *more, cwd=self.root, **others)

    def events(self) -> list[dict[str, Any]]:
        runs = sorted((self.home / "data/runs").iterdir())
        return [event for run in runs for event in read_log(run)]


@pytest.fixture
def project(repository: Path, home: Path, environment: dict[str, str], miyabi: Miyabi) -> Project:
    return Project(repository, home, environment, miyabi)


def by_task(**turns: tuple[Any, ...]) -> Callable[..., None]:
    """Play the turns of the task whose first word is the name; any other task is mended at once."""

    def play(handler: Any, request: Any) -> None:
        messages = request.json["messages"]
        said = sum(message["role"] == "assistant" for message in messages)
        word = messages[1]["content"].partition("## Description\n")[2].split()[0]
        own = turns.get(word, (FIXED, DONE))
        turn = own[min(said, len(own) - 1)]
        turn(handler, request) if callable(turn) else stream(handler, turn)

    return play


def lines_of(text: str) -> dict[str, dict[str, Any]]:
    """Return the lines of results by their ids, each held against its schema."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        validate(line, "tasks")
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


def test_each_task_has_a_line_a_run_a_branch_and_an_account_of_its_own(project: Project, git: Git) -> None:
    before = state(project.root, git)
    tasks = (
        {"id": "a", "task": "mend add"},
        {"id": 7, "task": "idle", "attempts": 2},
        "\n",
        {"task": "--base evil; $(touch here)\n\x1b[2J", "branch": "mine", "check": ["true", "test -f calc.py"]},
        {"id": "e", "task": "mend", "base": "nothing-like-it"},
    )
    with chat_server(by_task(idle=(say("I can't."),))) as server:
        summary = project.root.parent / "summary.md"
        more = (*model(server), "--jobs", "3")
        ran = project.tasks(*tasks, more=more, env={"GITHUB_STEP_SUMMARY": str(summary)})
    lines = lines_of(ran.stdout)
    assert ran.code == 4, ran.stderr  # the worst of all
    assert {name: (line["status"], line["exit_code"]) for name, line in lines.items()} == {
        "a": ("verified", 0),
        "7": ("failed", 1),
        "4": ("verified", 0),
        "e": ("error", 4),
    }
    assert (lines["a"]["summary"], lines["a"]["usage"]["requests"], lines["a"]["error"]) == ("It adds now.", 2, None)
    assert lines["e"]["error"]["message"] == "no commit is named nothing-like-it"
    assert lines["4"]["branch"] == "mine"
    assert sorted(line for line in summary.read_text().splitlines() if line.startswith("### ")) == [
        f"### miyabi codegen: {end}" for end in ("failed", "repository error", "verified", "verified")
    ]
    for name in ("a", "4"):
        assert git("rev-parse", lines[name]["branch"], cwd=project.root) == lines[name]["commit"]
    assert state(project.root, git) == before
    progress = ran.stderr.splitlines()
    assert all(line.startswith("task ") for line in progress), ran.stderr
    assert sorted(line.rsplit("(", 1)[1].split(",")[0] for line in progress if line.endswith(" s)")) == [
        f"{number} of 4" for number in (1, 2, 3, 4)
    ]
    ends = [event for event in project.events() if event["type"] == "check_ended" and event["stage"] == "before"]
    run_again = [event for event in ends if event["name"].startswith("grep") and not event["cached"]]
    assert len(run_again) == 1  # the base's checks are run once, also where several begin at the same time
    usage = json.loads(project.miyabi("usage", "--by", "run", "--format", "json").stdout)
    assert {row["key"]: row["requests"] for row in usage["rows"]} == {
        lines[name]["run_id"]: lines[name]["usage"]["requests"] for name in ("a", "7", "4")
    }


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["{\n"], "line 1: not JSON"),
        (['{"task": "x"}\n', "[]\n"], "line 2: not a JSON object"),
        (["[" * 100_000 + "\n"], "line 1: not JSON"),
        ([{"task": "x", "bas": "main"}], "line 1: unknown key 'bas'\nhint: did you mean 'base'?"),
        ([{"id": "a"}], "line 1: a line needs a task or an issue"),
        ([{"task": "x", "issue": 1}], "line 1: a task and an issue"),
        ([{"task": "x", "from": "r", "base": "main"}], "line 1: base and from exclude each other"),
        ([{"task": "x", "from": "last"}], "line 1: from is to be the id of a run"),
        ([{"task": " "}], "line 1: task is to be text"),
        ([{"task": "x\x00"}], "line 1: task is to be text"),
        ([{"task": "\ud800"}], "line 1: task is to be text"),
        ([{"task": "x", "attempts": True}], "line 1: attempts is to be a number"),
        ([{"task": "x", "check": []}], "line 1: check is to be a list of commands"),
        ([{"id": 2, "task": "x"}, {"task": "y"}], "line 2: the id '2' is that of line 1 too"),
        ([{"task": "x", "branch": "b"}, {"task": "y", "branch": "b"}], "line 2: the branch 'b' is that of line 1 too"),
        (["\n"], "there is no task in the file"),
    ],
)
def test_a_file_with_a_mistake_is_refused_before_anything_runs(
    project: Project, lines: list[Any], problem: str
) -> None:
    output = project.root.parent / "results.jsonl"
    ran = project.tasks(*lines, more=("--endpoint", "http://127.0.0.1:9", "--model", "m", "--output", str(output)))
    assert (ran.code, ran.stdout, output.exists()) == (2, "", False)
    assert f"error: {problem}" in ran.stderr
    assert not (project.home / "data/runs").exists()


@pytest.mark.parametrize(
    "flag", ["--apply", "--dry-run", "--branch=b", "--patch=p", "--from=last", "--resume=last", "x"]
)
def test_flags_that_are_one_task_s_are_refused(project: Project, flag: str) -> None:
    ran = project.tasks({"task": "x"}, more=(flag,))
    told = "TASK" if flag == "x" else flag.partition("=")[0]
    assert (ran.code, ran.stderr) == (2, f"error: {told} and --tasks exclude each other\n")


@given(some.binary(max_size=200) | some.from_regex(rb'\{"(id|task|check|base)": .{0,40}\}'))
def test_any_line_is_a_task_or_a_usage_error(line: bytes) -> None:
    try:
        task = read_task(line, 1)
    except UsageError as error:
        problem = error.message
    else:
        problem = "" if (task.task is None) != (task.issue is None) else "neither a task nor an issue"
    assert not problem or problem.startswith("line 1: ")


def test_the_same_output_is_gone_on_with(project: Project) -> None:
    output = project.root.parent / "results.jsonl"
    other = '{"id":"other","status":"verified","exit_code":0}\n'
    output.write_text(other + '{"id":"a","stat')
    tasks = [{"id": "a", "task": "mend"}, {"id": "b", "task": "idle"}, {"id": "c", "task": "away"}]
    with chat_server(by_task(idle=(say("I can't."),), away=(send_error(401, {"error": "who?"}),))) as server:
        more = (*model(server), "--output", str(output))
        first = project.tasks(*tasks, more=more)
        assert (first.code, first.stdout) == (3, ""), first.stderr
        asked = len(server.requests)
        again = project.tasks(*tasks[:2], more=more)
        assert (again.code, len(server.requests)) == (1, asked)
        assert again.stderr == "2 tasks of 2 done before: skipped, 1 of which did not succeed\n"
        server.turns = (by_task(idle=(say("I can't."),)),)
        tasks[1]["task"] = "mend it now"  # another task than before by the same id
        second = project.tasks(*tasks, more=more)
        assert second.code == 0, second.stderr
        third = project.tasks(*tasks, more=more)
        assert (third.code, len(server.requests) - asked) == (0, 4)
    assert "1 task of 3 done before: skipped" in second.stderr
    assert "3 tasks of 3 done before: skipped" in third.stderr
    written = output.read_text()
    assert written.startswith(other)
    found = [json.loads(line) for line in written.removeprefix(other).splitlines()]
    assert [(line["id"], line["status"]) for line in found] == [
        *(("a", "verified"), ("b", "failed"), ("c", "error")),
        *(("b", "verified"), ("c", "verified")),
    ]


def test_a_file_of_something_else_is_left_alone(project: Project) -> None:
    output = project.root.parent / "notes.txt"
    output.write_text("my notes\nwithout an end")
    ran = project.tasks({"task": "x"}, more=("--endpoint", "http://127.0.0.1:9", "--model", "m", "-o", str(output)))
    assert (ran.code, output.read_text()) == (2, "my notes\nwithout an end")


def test_tasks_are_not_their_own_results(project: Project) -> None:
    ran = project.tasks({"id": "a", "task": "x"}, more=("--output", "../backlog.jsonl"))
    assert (ran.code, "are both ../backlog.jsonl" in ran.stderr) == (2, True)


def test_tasks_that_a_cap_left_without_a_question_are_done_by_the_same_command_later(project: Project) -> None:
    output = project.root.parent / "results.jsonl"
    tasks = [{"task": "mend"}] * 5
    with chat_server(by_task()) as server:
        more = (*model(server), "--output", str(output))
        ran = project.tasks(*tasks, more=(*more, "--max-time", "0.001"))
        assert (ran.code, len(server.requests)) == (5, 0), ran.stderr
        assert [json.loads(line)["status"] for line in output.read_text().splitlines()] == ["limit"] * 3
        ran = project.tasks(*tasks, more=more)
    assert (ran.code, output.read_text().count('"status":"verified"')) == (0, 5), ran.stderr


def test_a_killed_one_goes_on_where_its_run_was(project: Project) -> None:
    output = project.root.parent / "results.jsonl"
    killers: list[int] = []

    def kill(handler: Any, request: Any) -> None:
        if killers:
            os.kill(killers.pop(), signal.SIGKILL)
        stream(handler, DONE)

    turns = by_task(slow=(call("exec", {"cmd": "echo once >> marks.txt"}), FIXED, kill))
    (project.root.parent / "backlog.jsonl").write_text(
        '{"id": "quick", "task": "mend"}\n{"id": "slow", "task": "slow"}\n{"id": "next", "task": "mend"}\n'
    )
    with chat_server(turns) as server:
        arguments = ["codegen", "--tasks", "../backlog.jsonl", *CHECK, *model(server), "--output", str(output)]
        begun = subprocess.Popen(
            [PYTHON, "-m", "miyabi_cli", *arguments],
            cwd=project.root,
            env={**project.environment, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        killers.append(begun.pid)
        _, said = begun.communicate(timeout=60)
        assert begun.returncode == -signal.SIGKILL, said
        assert list(lines_of(output.read_text())) == ["quick"]
        ran = project.miyabi(*arguments, cwd=project.root)
    lines = lines_of(output.read_text())
    assert (ran.code, list(lines)) == (0, ["quick", "slow", "next"]), ran.stderr
    assert f"task slow: goes on with run {lines['slow']['run_id']}" in ran.stderr
    assert lines["slow"]["usage"]["requests"] == 3
    patch = (project.home / "data/runs" / lines["slow"]["run_id"] / "patch.diff").read_text()
    assert patch.count("+once") == 1
    assert len(list((project.home / "data/runs").iterdir())) == 3
    assert not list((project.home / "data/tasks").iterdir())


def test_an_interrupt_ends_in_order_and_keeps_what_is_done(project: Project) -> None:
    output = project.root.parent / "results.jsonl"
    running: list[int] = []

    def interrupt(handler: Any, request: Any) -> None:
        os.kill(running.pop(), signal.SIGINT)
        stream(handler, DONE)

    (project.root.parent / "backlog.jsonl").write_text('{"id": "a", "task": "mend"}\n{"id": "b", "task": "stop"}\n')
    with chat_server(by_task(stop=(interrupt,))) as server:
        begun = subprocess.Popen(
            [PYTHON, "-m", "miyabi_cli", "codegen", "--tasks", "-", *CHECK, *model(server), "--output", str(output)],
            cwd=project.root,
            env={**project.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(begun.pid)
        _, said = begun.communicate((project.root.parent / "backlog.jsonl").read_text(), timeout=60)
    assert (begun.returncode, said.splitlines()[-1]) == (130, "error: interrupted")
    assert [line["status"] for line in lines_of(output.read_text()).values()] == ["verified"]


def test_a_server_that_is_away_for_all_ends_it_early(project: Project) -> None:
    with chat_server(send_error(401, {"error": {"message": "no such key"}})) as server:
        ran = project.tasks(*({"task": "mend"} for _ in range(20)), more=model(server))
        assert len(server.requests) == 3
    assert (ran.code, len(lines_of(ran.stdout))) == (3, 3)
    assert "error: 3 tasks in a row: " in ran.stderr


def test_a_limit_counts_more_than_a_failure_and_text_is_a_line_for_people(project: Project) -> None:
    with chat_server(by_task(idle=(say("I can't."),), long=(call("exec", {"cmd": "ls"}),))) as server:
        tasks = ({"id": "one", "task": "idle"}, {"id": "two", "task": "long"}, {"id": "three", "task": "mend"})
        ran = project.tasks(*tasks, more=(*model(server), "--max-steps", "2", "--format", "text", "--quiet"))
    assert (ran.code, ran.stderr) == (5, "")
    first, second, third = ran.stdout.splitlines()
    assert first.startswith("one  failed  ")
    assert second.startswith("two  limit  ")
    assert third.startswith("three  verified  miyabi/mend-")


def test_issues_and_results_are_gone_on_from_line_by_line(project: Project, tmp_path: Path, git: Git) -> None:
    git("clone", "-q", "--bare", str(project.root), str(tmp_path / "calc.git"), cwd=tmp_path)
    plain = FakeGitHub(tmp_path / "calc.git", issues=[issue(12, "add() subtracts", "It gives -1.")])
    note = call("apply_patch", {"patch": "*** Begin Patch\n*** Add File: notes.txt\n+a note\n*** End Patch"})
    with github_server(plain) as github, chat_server(by_task(More=(note, DONE))) as server:
        git("remote", "add", "origin", f"{github.url}/acme/calc.git", cwd=project.root)
        where = {"GITHUB_API_URL": github.url, "GITHUB_TOKEN": TOKEN}
        lines = ({"id": "i", "issue": 12}, {"id": "j", "issue": "#99"})
        first = project.tasks(*lines, more=(*model(server), "--draft-pr"), env=where)
        results = lines_of(first.stdout)
        again = project.tasks({"task": "More", "from": results["i"]["run_id"]}, more=model(server))
    assert first.code == 2, first.stderr  # there is no issue 99
    assert results["i"]["pull_request"]["number"] == 5
    assert github.branches()[results["i"]["branch"]] == results["i"]["commit"]
    (result,) = lines_of(again.stdout).values()
    assert again.code == 0, again.stderr
    files = git("diff", "--name-only", "main", result["branch"], cwd=project.root)
    assert files.split() == ["calc.py", "notes.txt"]


def test_two_hundred_tasks_in_one_process(project: Project) -> None:
    """A model that answers at once, and nothing to check: what is left is what miyabi itself does for a task."""
    with chat_server(say("Nothing is to be done.")) as server:
        file = project.root.parent / "many.jsonl"
        file.write_text("".join(json.dumps({"task": f"look at part {number}"}) + "\n" for number in range(200)))
        arguments = ["--tasks", str(file), "--no-checks", *model(server), "--jobs", "16", "--quiet", "--sandbox", "off"]
        ran = project.miyabi("codegen", *arguments, cwd=project.root, timeout=300)
    lines = lines_of(ran.stdout)
    assert (ran.code, len(lines)) == (1, 200), ran.stderr
    assert {line["status"] for line in lines.values()} == {"failed"}
    assert not list((project.home / "cache/worktrees").glob("*/*"))
