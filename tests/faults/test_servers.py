"""Servers that are busy, break, hang or talk nonsense: faults F1 to F10, through the real CLI."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import LLMRequest
from tests.conftest import Ran
from tests.support.groq import failed, groq_server
from tests.support.scripts import (
    FIXING,
    arguments,
    at_times,
    broken_off,
    closed,
    ended_early,
    garbled,
    hanging,
    marking,
    marks_in,
)
from tests.support.server import ChatServer, chat_server, say, send_error, stream, whole
from tests.support.users import User, changes

BUSY = {"error": {"message": "come back later"}}


def run(user: User, *turns: Any, options: tuple[str, ...] = (), **more: str) -> tuple[Ran, ChatServer]:
    """Let a server play these turns to a run.

    Nothing but a branch of its own may come of it or, where the server fails it, a worktree to go on with.
    """
    before = user.snapshot()
    with chat_server(*turns) as server:
        ran = user.miyabi(*arguments(server, *options), **more)
    assert changes(before, user.snapshot()) == set()
    assert len(user.worktrees()) <= (ran.code == 3)
    assert "Traceback" not in ran.stderr
    return ran, server


def assert_fixed(user: User, ran: Ran) -> dict[str, Any]:
    """The run has done its work, as if nothing had been; return its result."""
    assert ran.code == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    assert user.branches() == [result["branch"]]
    assert "return a + b" in user.git("show", f"{result['branch']}:calc.py")
    return result


def error_of(user: User, ran: Ran) -> dict[str, Any]:
    """The run has ended with the provider's exit code and without a branch; return what it says of that."""
    error: dict[str, Any] = json.loads(ran.stdout)["error"]
    assert (ran.code, error["exit_code"], user.branches()) == (3, 3, [])
    assert f"error: {error['message']}\n" in ran.stderr
    return error


def test_f1_a_wait_that_the_server_asks_for_is_kept(user: User) -> None:
    times: list[float] = []
    busy = at_times(times, send_error(429, BUSY, {"Retry-After": "2"}))
    ran, server = run(user, busy, at_times(times, FIXING[0]), FIXING[1])
    assert_fixed(user, ran)
    assert times[1] - times[0] >= 2
    assert len(server.requests) == 3


def test_f2_a_wait_that_is_too_long_is_the_provider_s_exit_code(user: User) -> None:
    ran, server = run(user, send_error(429, BUSY, {"Retry-After": "3600"}))
    error = error_of(user, ran)
    assert (error["kind"], len(server.requests)) == ("provider_overloaded", 1)
    assert "429: come back later" in error["message"]
    assert "3600 s" in error["hint"]


def test_f3_a_server_that_fails_twice_is_asked_thrice_and_later_each_time(user: User) -> None:
    times: list[float] = []
    broken = at_times(times, send_error(500, BUSY))
    ran, server = run(user, broken, broken, at_times(times, FIXING[0]), FIXING[1])
    assert_fixed(user, ran)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert [waits[0] >= 0.25, waits[1] >= 0.5, len(server.requests)] == [True, True, 4]


def test_f4_a_connection_that_is_reset_is_made_again(user: User) -> None:
    ran, server = run(user, broken_off, FIXING[0], broken_off, FIXING[1])
    assert_fixed(user, ran)
    assert len(server.requests) == 4


@pytest.mark.parametrize("fault", [closed, broken_off])
def test_f4_a_connection_that_was_kept_alive_and_is_closed_costs_no_wait(fault: Any) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask(url: str) -> list[str]:
        async with open_openai(url, "m", retries=Retries(sleep=sleep)) as provider:
            request = LLMRequest("hello")
            return [(await provider.generate(request)).text for _ in range(2)]

    one, two = (send_error(200, whole(say(text))) for text in ("one", "two"))  # read to its end, so it is kept alive
    with chat_server(one, fault, two) as server:
        assert asyncio.run(ask(server.url)) == ["one", "two"]
        assert (waits, len(server.requests)) == ([], 3)
    with chat_server(fault, one) as server:  # a new connection is another matter: there the server fails
        assert asyncio.run(ask(server.url)) == ["one", "one"]
        assert (len(waits), len(server.requests)) == (1, 3)


@pytest.mark.parametrize("status", [400, 401])
def test_f5_what_is_refused_is_not_asked_again(user: User, status: int) -> None:
    ran, server = run(user, send_error(status, {"error": {"message": "not with me"}}))
    error = error_of(user, ran)
    assert (error["kind"], len(server.requests)) == ("provider_refused", 1)
    assert f"answered {status}: not with me" in error["message"]


def test_f6_a_model_whose_calls_the_server_refuses_is_asked_again_within_bounds(user: User) -> None:
    refused = failed("Failed to call a function. Please adjust your prompt.", "")
    before = user.snapshot()
    given = ["codegen", "Fix add", "--provider", "groq", "--no-checks", "--format", "json"]
    for turns, code, requests in (((refused, *FIXING), 0, 3), ((refused,), 3, 3)):
        with groq_server(*turns) as server:
            ran = user.miyabi(*given, "--endpoint", server.url, GROQ_API_KEY="gsk_test")
            asked = len(server.requests)
        assert (ran.code, asked) == (code, requests), ran.stderr
    assert "refused what the model wrote, 3 times" in json.loads(ran.stdout)["error"]["message"]
    assert len(user.branches()) == 1
    assert changes(before, user.snapshot()) == set()


def test_f7_a_call_that_was_cut_off_never_runs_and_its_turn_is_asked_for_again(user: User) -> None:
    """The call's arguments had come whole: only the end of the stream says that the model meant them so."""
    ran, server = run(user, ended_early(marking("half")), marking("whole"), *FIXING)
    result = assert_fixed(user, ran)
    assert marks_in(result["patch"]) == ["whole"]
    assert len(server.requests) == 4
    assert [message["role"] for message in server.requests[1].json["messages"]] == ["system", "user"]


def test_f7_a_call_that_runs_leaves_a_mark(user: User) -> None:
    """That the mark of the test above is one: the same call leaves it, once the stream has come to its end."""
    ran, _ = run(user, marking("half"), *FIXING)
    assert marks_in(assert_fixed(user, ran)["patch"]) == ["half"]


def test_f8_a_stream_without_an_end_is_a_failure_and_the_work_so_far_is_kept(user: User) -> None:
    ran, server = run(user, FIXING[0], ended_early(FIXING[1]))
    error = error_of(user, ran)
    assert (error["kind"], len(server.requests)) == ("broken_reply", 5)
    (folder,) = user.run_folders()
    assert "+    return a + b" in (folder / "patch.diff").read_text()
    before = user.snapshot()
    with chat_server(FIXING[1]) as better:
        assert_fixed(user, user.miyabi(*arguments(better, "--resume", "last", task=None)))
    assert (len(better.requests), user.worktrees(), changes(before, user.snapshot())) == (1, [], set())


def test_f9_a_piece_that_is_no_json_is_asked_for_again(user: User) -> None:
    ran, server = run(user, garbled(FIXING[0]), *FIXING)
    assert_fixed(user, ran)
    assert len(server.requests) == 3


def test_f9_a_web_page_is_a_typed_error(user: User) -> None:
    ran, _ = run(user, send_error(200, b"<html><h1>Welcome</h1></html>", kind="text/html"))
    error = error_of(user, ran)
    assert error["kind"] == "broken_reply"
    assert "a web page" in error["message"]


def test_f10_a_stream_that_hangs_is_ended_by_the_idle_time_and_asked_for_again(user: User) -> None:
    ran, server = run(user, hanging, *FIXING, options=("--timeout", "1"))
    assert_fixed(user, ran)
    assert len(server.requests) == 3


def test_f10_without_an_idle_time_it_hangs_until_the_run_s_own_limit(user: User) -> None:
    """That the fault is one: the idle time alone ends it."""

    def slow(handler: Any, request: Any) -> None:
        hanging(handler, request)
        stream(handler, FIXING[0])

    ran, server = run(user, slow, *FIXING, options=("--timeout", "600", "--max-time", "2"))
    assert (ran.code, len(server.requests)) == (5, 1)
