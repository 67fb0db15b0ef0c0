"""`miyabi codegen` from end to end: the real CLI, git, sandbox and tests; a server that plays the model."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.runs import read_log
from tests.conftest import Miyabi, Ran
from tests.support.schemas import validate
from tests.support.server import (
    ChatServer,
    call,
    chat_server,
    chunk,
    say,
    send_error,
    send_event,
    start_events,
    stream,
)

TASK = "Fix the failing test"
FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
BREAK = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a * 2\n+    return a * 3\n*** End Patch"
FIXING = (call("apply_patch", {"patch": FIX}), say("add subtracted; it adds now."))

Git = Callable[..., str]


def model(server: ChatServer) -> list[str]:
    return ["--endpoint", server.url, "--model", "gpt-oss-20b"]


def result_of(ran: Ran) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(ran.stdout)
    validate(result, "codegen")
    return result


def state(repository: Path, git: Git) -> tuple[str, ...]:
    """All of a repository that a run must leave alone."""
    return (
        git("status", "--porcelain=v2", "--branch", "--ignored", cwd=repository),
        (repository / ".git/config").read_text(),
        (repository / ".git/HEAD").read_text(),
        (repository / ".git/index").read_bytes().hex(),
        git("stash", "list", cwd=repository),
        git("worktree", "list", cwd=repository),
    )


def test_a_bug_is_fixed_on_a_branch_and_the_user_s_files_stay(repository: Path, miyabi: Miyabi, git: Git) -> None:
    before = state(repository, git)
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
    assert (ran.code, ran.stderr.count("error")) == (0, 0), ran.stderr
    result = result_of(ran)
    assert (result["status"], result["summary"]) == ("verified", "add subtracted; it adds now.")
    assert result["files_modified"] == ["calc.py"]
    assert (result["files_created"], result["files_deleted"], result["warnings"]) == ([], [], [])
    assert (result["lines_added"], result["lines_removed"]) == (1, 1)
    (check,) = result["checks"]
    assert (check["before"], check["after"]) == ("fail", "pass")
    assert len(check["tests"]["fixed"]) == 1
    assert "test_add" in check["tests"]["fixed"][0]
    assert result["usage"] | {"cost_usd": None} == {
        "requests": 2,
        "input_tokens": 200,
        "cached_tokens": 100,
        "output_tokens": 40,
        "reasoning_tokens": 0,
        "cost_usd": None,
    }
    assert state(repository, git) == before
    assert result["branch"].startswith("miyabi/fix-the-failing-test-")
    assert git("rev-parse", result["branch"], cwd=repository) == result["commit"]
    log = git("log", "-1", "--format=%an <%ae>%n%cn%n%P%n%B", result["branch"], cwd=repository)
    assert log.splitlines()[:3] == ["Ada <ada@example.org>", "Ada", git("rev-parse", "HEAD", cwd=repository)]
    assert log.endswith("Assisted-by: miyabi (gpt-oss-20b)")
    assert git("diff", "--full-index", "HEAD", result["branch"], cwd=repository).strip() == result["patch"].strip()
    assert result["base"] == git("rev-parse", "HEAD", cwd=repository)


def test_text_is_for_people(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
    assert ran.code == 0, ran.stderr
    assert "+    return a + b" in ran.stdout
    assert "verified: add subtracted; it adds now." in ran.stdout
    assert "fail before, pass after; 1 fixed" in ran.stdout
    assert "branch miyabi/fix-the-failing-test-" in ran.stdout
    assert "sandbox bubblewrap" in ran.stderr
    assert "apply_patch" in ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr


def test_quiet_says_nothing_on_stderr(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--quiet", cwd=repository)
    assert (ran.code, ran.stderr) == (0, "")


def test_jsonl_is_an_event_a_line_and_the_result_at_last(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "jsonl", cwd=repository)
    assert ran.code == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    for event in events:
        validate(event, "event")
    kinds = [event["type"] for event in events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "result"
    assert kinds.index("tool_started") < kinds.index("tool_ended")
    assert events[-1]["result"]["status"] == "verified"
    assert len({event["run_id"] for event in events}) == 1


def test_apply_changes_the_working_tree_and_makes_no_branch(repository: Path, miyabi: Miyabi, git: Git) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--apply", "--format", "json", cwd=repository)
    assert ran.code == 0, ran.stderr
    assert result_of(ran)["branch"] is None
    assert git("status", "--porcelain", cwd=repository) == "M calc.py"
    assert git("branch", "--format=%(refname:short)", cwd=repository) == "main"
    assert "return a + b" in (repository / "calc.py").read_text()


def test_apply_refuses_a_conflict_and_keeps_the_patch(repository: Path, miyabi: Miyabi, home: Path) -> None:
    mine = (repository / "calc.py").read_text().replace("a - b", "a - b - 0")
    (repository / "calc.py").write_text(mine)
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--apply", cwd=repository)
    assert ran.code == 4
    assert "error: the patch does not fit your files" in ran.stderr
    assert (repository / "calc.py").read_text() == mine
    (kept,) = (home / "data/runs").glob("*/patch.diff")
    assert "+    return a + b" in kept.read_text()


def test_apply_leaves_the_tree_alone_where_it_is_not_verified(repository: Path, miyabi: Miyabi, git: Git) -> None:
    with chat_server(call("apply_patch", {"patch": BREAK}), say("Tripled.")) as server:
        ran = miyabi("codegen", "Triple it", *model(server), "--apply", "--format", "json", cwd=repository)
    assert ran.code == 1
    result = result_of(ran)
    assert result["status"] == "unverified"
    assert "test_double" in result["checks"][0]["tests"]["broken"][0]
    assert git("status", "--porcelain", cwd=repository) == ""


def test_patch_is_what_git_applies(repository: Path, miyabi: Miyabi, git: Git, tmp_path: Path) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--patch", "-", cwd=repository)
        assert ran.code == 0, ran.stderr
        server.requests.clear()
        to_file = miyabi("codegen", TASK, *model(server), "--patch", str(tmp_path / "p.diff"), cwd=repository)
    assert to_file.code == 0
    assert ran.stdout.startswith("diff --git a/calc.py b/calc.py\n")
    assert (tmp_path / "p.diff").read_text() == ran.stdout
    git("apply", str(tmp_path / "p.diff"), cwd=repository)
    assert "return a + b" in (repository / "calc.py").read_text()


def test_a_failing_check_goes_back_to_the_model_which_mends_it(repository: Path, miyabi: Miyabi) -> None:
    wrong = FIX.replace("a + b", "b - a")
    mend = FIX.replace("a - b", "b - a")
    with chat_server(
        call("apply_patch", {"patch": wrong}), say("Turned."), call("apply_patch", {"patch": mend}), say("Adds.")
    ) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        told = server.requests[2].json["messages"][-1]
    assert result_of(ran)["status"] == "verified"
    assert told["role"] == "user"
    assert "test_add" in told["content"]


def test_no_change_is_nudged_once_and_then_failed(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(say("It is fine as it is.")) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        assert len(server.requests) == 2
        assert "Nothing has changed" in server.requests[1].json["messages"][-1]["content"]
    assert ran.code == 1
    result = result_of(ran)
    assert (result["status"], result["patch"], result["branch"]) == ("failed", "", None)


def test_no_checks_asks_for_no_proof(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(call("apply_patch", {"patch": BREAK}), say("Tripled.")) as server:
        ran = miyabi("codegen", "Triple it", *model(server), "--no-checks", "--format", "json", cwd=repository)
    assert ran.code == 0
    result = result_of(ran)
    assert (result["status"], result["checks"]) == ("unverified", [])


def test_a_given_check_replaces_those_found_and_must_pass(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        passes = miyabi(
            "codegen", TASK, *model(server), "--check", "grep -q 'a + b' calc.py", "-f", "json", cwd=repository
        )
        server.requests.clear()
        fails = miyabi(
            "codegen", TASK, *model(server), "--check", "false", "-f", "json", "--max-steps", "3", cwd=repository
        )
    assert passes.code == 0
    assert [(check["command"], check["before"], check["after"]) for check in result_of(passes)["checks"]] == [
        ("grep -q 'a + b' calc.py", "fail", "pass")
    ]
    assert fails.code in (1, 5)
    assert result_of(fails)["status"] in ("unverified", "limit")


def test_a_limit_is_exit_5_and_the_work_is_kept(repository: Path, miyabi: Miyabi, git: Git) -> None:
    with chat_server(call("apply_patch", {"patch": BREAK}), call("exec", {"cmd": "true"})) as server:
        ran = miyabi("codegen", TASK, *model(server), "--max-steps", "2", "--format", "json", cwd=repository)
    assert ran.code == 5, ran.stderr
    result = result_of(ran)
    assert result["status"] == "limit"
    assert "limit of 2 steps" in result["summary"]
    assert git("rev-parse", result["branch"], cwd=repository) == result["commit"]


def test_a_limit_with_a_verified_patch_in_hand_is_verified(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(call("apply_patch", {"patch": FIX})) as server:
        ran = miyabi("codegen", TASK, *model(server), "--max-steps", "1", "--format", "json", cwd=repository)
    assert (ran.code, result_of(ran)["status"]) == (0, "verified")


def test_a_cost_that_is_not_known_is_said_where_a_cap_was_named(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--max-cost", "0.5", "--format", "json", cwd=repository)
    result = result_of(ran)
    assert [warning["kind"] for warning in result["warnings"]] == ["cost"]
    assert result["usage"]["cost_usd"] is None


def test_the_time_limit_ends_a_tool_that_hangs(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(call("exec", {"cmd": "sleep 60"})) as server:
        ran = miyabi("codegen", TASK, *model(server), "--max-time", "4", "--format", "json", cwd=repository, timeout=40)
    assert ran.code == 5, ran.stderr
    assert "time limit" in result_of(ran)["summary"]


def test_a_patch_that_weakens_the_tests_is_not_verified(repository: Path, miyabi: Miyabi) -> None:
    weaker = (
        "*** Begin Patch\n*** Update File: test_calc.py\n@@\n-    assert add(2, 3) == 5\n+    assert add(2, 3) == -1\n"
        "*** End Patch"
    )
    with chat_server(call("apply_patch", {"patch": weaker}), say("Passes now.")) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", "--check", "pytest -q", cwd=repository)
    assert ran.code == 1, ran.stdout
    assert result_of(ran)["status"] == "unverified"


def test_attempts_start_anew_and_the_first_verified_one_is_taken(repository: Path, miyabi: Miyabi, git: Git) -> None:
    script = [call("apply_patch", {"patch": BREAK}), *[say("Tripled.")] * 4, *FIXING]
    with chat_server(*script) as server:
        ran = miyabi("codegen", TASK, *model(server), "--attempts", "3", "--format", "json", cwd=repository)
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert [attempt["status"] for attempt in result["attempts"]] == ["unverified", "verified"]
    assert "a * 3" not in git("show", f"{result['branch']}:calc.py", cwd=repository)


def test_all_attempts_are_made_where_that_is_asked_for_and_the_smallest_is_taken(
    repository: Path, miyabi: Miyabi, git: Git
) -> None:
    longer = FIX.replace("+    return a + b", "+    total = a + b\n+    return total")
    script = [call("apply_patch", {"patch": longer}), say("It adds."), *FIXING]
    with chat_server(*script) as server:
        more = ("--attempts", "2", "--all-attempts", "--no-tests", "--format", "json")
        ran = miyabi("codegen", TASK, *model(server), *more, cwd=repository)
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert [(attempt["status"], attempt["lines_added"]) for attempt in result["attempts"]] == [
        ("verified", 2),
        ("verified", 1),
    ]
    assert "total" not in git("show", f"{result['branch']}:calc.py", cwd=repository)


def test_uncommitted_changes_are_left_out_or_taken_along(repository: Path, miyabi: Miyabi, git: Git) -> None:
    with (repository / "calc.py").open("a") as file:
        file.write("\n\ndef half(a):\n    return a / 2\n")
    (repository / "new.py").write_text("x = 1\n")
    before = state(repository, git)
    with chat_server(*FIXING) as server:
        out = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        server.requests.clear()
        along = miyabi("codegen", TASK, *model(server), "--include-uncommitted", "--format", "json", cwd=repository)
    assert state(repository, git) == before
    left_out, taken = result_of(out), result_of(along)
    assert [warning["kind"] for warning in left_out["warnings"]] == ["uncommitted"]
    assert "half" not in git("show", f"{left_out['branch']}:calc.py", cwd=repository)
    assert taken["warnings"] == []
    assert taken["files_modified"] == ["calc.py"]
    assert (taken["lines_added"], taken["lines_removed"]) == (1, 1)
    assert "half" in git("show", f"{taken['branch']}:calc.py", cwd=repository)
    assert git("show", f"{taken['branch']}:new.py", cwd=repository) == "x = 1"


def test_what_checks_leave_behind_is_no_part_of_the_patch(repository: Path, miyabi: Miyabi) -> None:
    dirty = "python -m pytest -q; mkdir -p __pycache__ .pytest_cache; touch __pycache__/a.pyc .pytest_cache/b x.pyc"
    with chat_server(call("exec", {"cmd": dirty}), *FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
    result = result_of(ran)
    assert (result["files_created"], result["files_modified"]) == ([], ["calc.py"])


def test_the_request_is_small_and_each_head_is_the_last_request(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(call("exec", {"cmd": "echo hi"}), *FIXING) as server:
        miyabi("codegen", TASK, *model(server), cwd=repository)
        bodies = [request.body for request in server.requests]
    assert len(bodies[0]) < 5_000
    for one, two in itertools.pairwise(bodies):
        assert two.startswith(one[: one.index(b'],"temperature"')])


def test_a_run_can_be_shown_and_played_again_without_a_model(repository: Path, miyabi: Miyabi, git: Git) -> None:
    with chat_server(*FIXING) as server:
        first = result_of(miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository))
    listed = miyabi("runs", "list")
    assert listed.stdout.split()[:2] == [first["run_id"], "verified"]
    shown = miyabi("runs", "show", "last", "--events")
    assert shown.code == 0
    assert "→ apply_patch" in shown.stdout
    assert "+    return a + b" in shown.stdout
    as_json = json.loads(miyabi("runs", "show", first["run_id"], "--format", "json", "--events").stdout)
    assert as_json["result"] == first
    again = miyabi("runs", "replay", "last")
    assert (again.code, again.stdout) == (0, first["patch"]), again.stderr
    assert "verified" in again.stderr
    assert len(git("branch", "--list", "miyabi/*", cwd=repository).splitlines()) == 1


def test_events_are_on_the_disk_before_the_tool_runs(repository: Path, miyabi: Miyabi, home: Path) -> None:
    seen: list[list[str]] = []

    def second(handler: Any, request: Any) -> None:
        (folder,) = (home / "data/runs").iterdir()
        seen.append([event["type"] for event in read_log(folder)])
        stream(handler, say("Nothing to do."))

    with chat_server(call("exec", {"cmd": "true"}), second) as server:
        miyabi("codegen", TASK, *model(server), "--no-checks", cwd=repository)
    assert seen[0][-3:] == ["reply", "tool_started", "tool_ended"]


def test_dry_run_asks_no_model(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(send_error(500, b"{}")) as server:
        ran = miyabi("codegen", TASK, *model(server), "--dry-run", cwd=repository)
        as_json = miyabi("codegen", TASK, *model(server), "--dry-run", "--format", "json", cwd=repository)
        assert server.requests == []
    assert ran.code == 0, ran.stderr
    assert "fail now" in ran.stdout
    assert "# EXECUTION_CONTEXT" in ran.stdout
    preview = json.loads(as_json.stdout)
    assert preview["checks"][0][2] == "fail"
    assert 0 < preview["request_bytes"] < 5_000


def test_an_execution_context_that_git_does_not_track_is_read_too(repository: Path, miyabi: Miyabi) -> None:
    (repository / "EXECUTION_CONTEXT.md").write_text("Priority: P1")
    with chat_server(*FIXING) as server:
        miyabi("codegen", TASK, *model(server), cwd=repository)
        assert "Priority: P1" in server.requests[0].json["messages"][1]["content"]


def test_instructions_that_can_not_be_read_are_warned_of(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "AGENTS.md").symlink_to("/etc/hostname")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "a link that leads out", cwd=repository)
    with chat_server(*FIXING) as server:
        result = result_of(miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository))
    assert [(warning["kind"], warning["path"]) for warning in result["warnings"]] == [("instructions", "AGENTS.md")]


def test_instructions_of_the_repository_reach_the_model(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "AGENTS.md").write_text("Always be kind.")
    (repository / "sub").mkdir()
    (repository / "sub/CLAUDE.md").write_text("Here be dragons.")
    (repository / "EXECUTION_CONTEXT.md").write_text("Severity: Sev.2")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "instructions", cwd=repository)
    with chat_server(*FIXING) as server:
        miyabi("codegen", TASK, *model(server), cwd=repository / "sub")
        first = server.requests[0].json["messages"][1]["content"]
    assert "Always be kind.\n\nHere be dragons." in first
    assert "Severity: Sev.2" in first
    assert TASK in first
    assert "test_add" in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no task"),
        (["  "], "the task is empty"),
        (["x", "--apply", "--branch", "b"], "--branch and --apply exclude each other"),
        (["x", "--patch", "-", "--format", "json"], "--patch - and --format json both want stdout"),
        (["x", "--check", "true", "--no-checks"], "exclude each other"),
        (["x", "--bogus"], "No such option: --bogus"),
        (["x", "--attempts", "0"], "--attempts"),
        (["x", "--provider", "openai"], "needs a model's name"),
        (["x", "--provider", "embedded", "--endpoint", "http://x"], "--endpoint means nothing"),
        (["x", "--endpoint", "ftp://x", "--model", "m"], "--endpoint"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_hint(repository: Path, miyabi: Miyabi, arguments: list[str], words: str) -> None:
    ran = miyabi("codegen", *arguments, cwd=repository)
    assert ran.code == 2, ran.stderr
    assert ran.stderr.startswith("error: ")
    assert words in ran.stderr
    assert (ran.stdout == "") == ("json" not in arguments)


def test_an_error_is_json_where_json_was_asked_for(repository: Path, miyabi: Miyabi) -> None:
    ran = miyabi(
        "codegen",
        TASK,
        "--endpoint",
        "http://127.0.0.1:9",
        "-m",
        "m",
        "--format",
        "json",
        "--no-checks",
        cwd=repository,
    )
    assert ran.code == 3
    data = json.loads(ran.stdout)
    validate(data, "error")
    assert data["error"]["kind"] == "provider_unreachable"
    assert data["error"]["exit_code"] == 3
    assert data["error"]["hint"]


def test_a_refusing_server_is_exit_3_and_nothing_is_left(
    repository: Path, miyabi: Miyabi, home: Path, git: Git
) -> None:
    before = state(repository, git)
    with chat_server(send_error(401, {"error": "Unauthorized"})) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
    assert ran.code == 3
    assert "error: openai answered 401: Unauthorized" in ran.stderr
    assert "llm.openai.api_key" in ran.stderr
    assert state(repository, git) == before
    assert [path for path in (home / "cache/worktrees").rglob("tree")] == []


def test_a_provider_that_fails_in_the_middle_leaves_the_patch_so_far(
    repository: Path, miyabi: Miyabi, home: Path
) -> None:
    with chat_server(call("apply_patch", {"patch": FIX}), send_error(401, {"error": "Unauthorized"})) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
    assert ran.code == 3, ran.stderr
    assert "the patch so far is kept" in ran.stderr
    (kept,) = (home / "data/runs").glob("*/patch.diff")
    assert "+    return a + b" in kept.read_text()
    assert f"the patch so far: {kept}" in miyabi("runs", "show", "last").stdout


REFUSAL = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'


def without_tools(*turns: dict[str, Any]) -> Any:
    """Play turns, the last one again and again, by a server that takes no tools after the first turn."""
    played: list[dict[str, Any]] = []

    def play(handler: Any, request: Any) -> None:
        if played and "tools" in request.json:
            error = {"message": REFUSAL, "type": "BadRequestError", "param": None, "code": 400}
            send_error(400, {"error": error})(handler, None)
            return
        played.append(turns[min(len(played), len(turns) - 1)])
        stream(handler, played[-1])

    return play


def test_a_server_that_refuses_tools_in_the_middle_is_asked_for_objects(repository: Path, miyabi: Miyabi) -> None:
    look = call("exec", {"cmd": "cat calc.py"}, thought="First I look.")
    patch = say(json.dumps({"tool": "apply_patch", "arguments": {"patch": FIX}}))
    finish = say(json.dumps({"tool": "finish", "arguments": {"summary": "Adds now."}}))
    with chat_server(without_tools(look, patch, finish)) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "jsonl", cwd=repository)
        bodies = [request.json for request in server.requests]
    assert ran.code == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    for event in events:
        validate(event, "event")
    assert events[-1]["result"]["summary"] == "Adds now."
    assert [(warning["kind"], REFUSAL in warning["message"]) for warning in events[-1]["result"]["warnings"]] == [
        ("tools", True)
    ]
    assert ["tools" in body for body in bodies] == [True, True, False, False]
    told = bodies[2]["messages"]
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert told[0]["content"].startswith(bodies[0]["messages"][0]["content"])
    assert "- apply_patch(patch)" in told[0]["content"]
    assert json.loads(told[2]["content"]) == {"tool": "exec", "arguments": {"cmd": "cat calc.py"}}
    assert "return a - b" in told[3]["content"]
    _, again = [event for event in events if event["type"] == "conversation_opened"]
    assert [message["content"] for message in again["messages"]] == [message["content"] for message in told]
    replayed = miyabi("runs", "replay", "last")
    assert (replayed.code, replayed.stdout) == (0, events[-1]["result"]["patch"]), replayed.stderr


def test_a_thought_that_goes_round_in_a_circle_is_left_early(repository: Path, miyabi: Miyabi) -> None:
    left = threading.Event()

    def circle(handler: Any, _: Any) -> None:
        start_events(handler)
        piece = chunk({"delta": {"reasoning": "Wait, I look at the file again, and then at its tests. "}, "index": 0})
        try:
            while True:
                send_event(handler, piece)
        except OSError:
            left.set()

    with chat_server(circle, *FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        second = server.requests[1].json
        assert left.wait(20)
    assert ran.code == 0, ran.stderr
    assert second["reasoning_effort"] == "medium"
    assert "while you thought" in second["messages"][-1]["content"]
    assert len(second["messages"][-2]["reasoning"]) < 3_000
    assert result_of(ran)["usage"]["requests"] == 3
    assert result_of(ran)["usage"]["output_tokens"] > 4_000


@pytest.mark.parametrize("turn", [say(""), say("", thought="I am done thinking.")])
def test_an_empty_reply_is_asked_for_once_more(repository: Path, miyabi: Miyabi, turn: dict[str, Any]) -> None:
    with chat_server(turn, *FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        assert "Your reply was empty" in server.requests[1].json["messages"][-1]["content"]
    assert (ran.code, result_of(ran)["status"]) == (0, "verified")


def test_a_tool_that_is_not_there_is_answered_with_those_that_are(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(call("browser.search", {"q": "x"}), call("teleport", {}), *FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        told = server.requests[2].json["messages"][-1]
    assert (ran.code, told["role"]) == (0, "tool")
    assert "there is no tool 'teleport'\nthe tools are exec, open_file," in told["content"]


@pytest.mark.parametrize(
    ("flags", "has_run", "code"),
    [
        (["--endpoint", "http://127.0.0.1:9", "-m", "m", "--no-checks"], True, 3),
        (["--provider", "openai"], False, 2),
        (["--bogus"], False, 2),
    ],
)
def test_an_error_is_a_last_line_of_jsonl_with_time_and_run(
    repository: Path, miyabi: Miyabi, flags: list[str], has_run: bool, code: int
) -> None:
    ran = miyabi("codegen", TASK, *flags, "--format", "jsonl", cwd=repository)
    assert ran.code == code
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    for line in lines:
        validate(line, "event")
    assert (lines[-1]["type"], lines[-1]["error"]["exit_code"]) == ("error", code)
    assert len({line["run_id"] for line in lines}) == 1
    assert (lines[-1]["run_id"] is not None, len(lines) > 1) == (has_run, has_run)


def test_the_task_is_read_from_stdin_on_request(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", "-", *model(server), cwd=repository, stdin="Fix it, please\n\nIt adds wrongly.\n")
        assert "It adds wrongly." in server.requests[0].json["messages"][1]["content"]
    assert "miyabi/fix-it-please-" in ran.stdout


def test_the_time_of_the_run_bounds_the_checks_on_the_base_too(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        flags = ("--check", "sleep 6", "--max-time", "2", "--format", "json")
        ran = miyabi("codegen", TASK, *model(server), *flags, cwd=repository)
    result = result_of(ran)
    assert (ran.code, result["status"]) == (5, "limit")
    assert [check["before"] for check in result["checks"]] == ["fail"], "it was ended before it could pass"
    assert server.requests == []
