"""Models that do not stop: faults F11 and F12, through the real CLI."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.scripts import FIXING, arguments, marking
from tests.support.server import call, chat_server, say
from tests.support.users import User, changes

LOOK = call("exec", {"cmd": "true"})


def run(user: User, *turns: Any, options: tuple[str, ...] = (), **more: str) -> tuple[int, dict[str, Any], int]:
    """Let a model take these turns, the last one for ever; return exit code, result and the number of requests."""
    before = user.snapshot()
    with chat_server(*turns) as server:
        ran = user.miyabi(*arguments(server, *options), **more)
    assert changes(before, user.snapshot()) == set()
    assert len(user.worktrees()) == (ran.code == 5), "a run that met a limit can go on"
    return ran.code, json.loads(ran.stdout), len(server.requests)


def test_f11_the_same_call_with_the_same_result_is_noted_and_then_ended(user: User) -> None:
    before = user.snapshot()
    with chat_server(LOOK) as server:
        ran = user.miyabi(*arguments(server))
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], result["branch"], len(server.requests)) == (1, "failed", None, 5)
    assert "the same call of exec, 5 times" in result["summary"]
    told = [message["content"] for message in server.requests[-1].json["messages"] if message["role"] == "tool"]
    assert ["Do something else" in text for text in told] == [False, False, True, True]
    assert (changes(before, user.snapshot()), user.branches()) == (set(), [])


def test_f11_calls_that_get_somewhere_are_no_loop(user: User) -> None:
    """That the guard looks at what comes of a call: this one, six times, changes something each time."""
    code, result, requests = run(user, *[marking("again")] * 6, say("Six marks."))
    assert (code, result["lines_added"], requests) == (0, 6, 7)


@pytest.mark.parametrize(
    ("options", "variables", "words", "requests"),
    [
        (("--max-steps", "2"), {}, "the limit of 2 steps", 2),
        (("--max-time", "3"), {}, "the time limit of 3 s", 2),
        ((), {"MIYABI_LIMITS__TOKENS": "230"}, "the limit of 230 tokens", 2),
    ],
    ids=["steps", "time", "tokens"],
)
def test_f12_a_cap_is_exit_5_and_the_work_is_kept(
    user: User, options: tuple[str, ...], variables: dict[str, str], words: str, requests: int
) -> None:
    endless = call("exec", {"cmd": "sleep 60"}) if "--max-time" in options else LOOK
    code, result, asked = run(user, FIXING[0], endless, options=options, **variables)
    assert (code, result["status"], asked) == (5, "limit", requests)
    assert words in result["summary"]
    assert "return a + b" in user.git("show", f"{result['branch']}:calc.py")


def test_f12_a_cap_on_cost_that_can_not_be_held_is_said(user: User) -> None:
    code, result, _ = run(user, *FIXING, options=("--max-cost", "0.01"))
    assert (code, [warning["kind"] for warning in result["warnings"] if warning["kind"] != "sandbox"]) == (0, ["cost"])
