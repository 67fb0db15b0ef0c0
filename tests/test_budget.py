"""Caps on money, through the real CLI: what is spent, what is kept, and who is asked when one is reached."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.ledger.store import FILE, Ledger
from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support.groq import Groq, groq_server
from tests.support.schemas import validate
from tests.support.scripts import FIX, closed
from tests.support.server import ChatServer, call, chat_server, chunk, say, send_event, start_events

Git = Callable[..., str]

USAGE = {"prompt_tokens": 3_000, "completion_tokens": 60_000, "total_tokens": 63_000}
USD = (3_000 * 0.075 + 60_000 * 0.30) / 1_000_000  # at Groq's prices
FIXED = {**call("apply_patch", {"patch": FIX}), "usage": USAGE}
LOOK = {**call("exec", {"cmd": "cat calc.py"}), "usage": USAGE}
DONE = say("It adds now.")
CHECK = ("--check", "grep -q 'a + b' calc.py")
KEY = {"GROQ_API_KEY": "gsk_test"}


def ask(miyabi: Miyabi, repository: Path, server: Groq, *more: str, **variables: str) -> Ran:
    given = ["codegen", "Fix add", "-p", "groq", "--endpoint", server.url, "--format", "json", *more]
    return miyabi(*given, cwd=repository, env={**KEY, **variables})


def falling_back(local: ChatServer, name: str = "openai") -> dict[str, str]:
    prefix = f"MIYABI_LLM__{name.upper()}"
    return {
        "MIYABI_LLM__FALLBACK": json.dumps([name]),
        f"{prefix}__ENDPOINT": local.url,
        f"{prefix}__MODEL": "gpt-oss-20b",
    }


def events(home: Path, kind: str) -> list[dict[str, Any]]:
    (log,) = (home / "data/runs").glob("*/events.jsonl")
    return [event for line in log.read_text().splitlines() if (event := json.loads(line))["type"] == kind]


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (("--max-cost", "0.04"), {}, "the run's budget of 0.04 USD"),
        ((), {"MIYABI_BUDGET__PER_RUN_USD": "0.04"}, "the run's budget of 0.04 USD"),
        ((), {"MIYABI_BUDGET__MONTHLY_USD": "0.04"}, "the month's budget of 0.04 USD"),
    ],
    ids=["flag", "run", "month"],
)
def test_nothing_is_sent_past_a_cap_and_the_work_is_kept(
    repository: Path, miyabi: Miyabi, git: Git, options: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    """Two of these replies fit; the most that a third one can cost does not."""
    with groq_server(FIXED, LOOK) as server:
        ran = ask(miyabi, repository, server, "--check", "false", *options, **variables)
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], len(server.requests)) == (5, "limit", 2), ran.stderr
    assert f"{words} is used up" in ran.stderr
    assert result["usage"]["cost_usd"] == pytest.approx(2 * USD)
    assert result["usage"]["cost_usd"] <= 0.04
    assert "a + b" in git("show", f"{result['branch']}:calc.py", cwd=repository)


def test_a_cap_that_no_request_fits_sends_none(repository: Path, miyabi: Miyabi) -> None:
    with groq_server(FIXED) as server:
        ran = ask(miyabi, repository, server, "--no-checks", "--max-cost", "0.0001")
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], result["branch"], server.requests) == (5, "limit", None, [])
    assert result["usage"]["cost_usd"] == 0


def test_a_verified_patch_in_hand_is_verified_at_the_cap(repository: Path, miyabi: Miyabi) -> None:
    with groq_server(FIXED, LOOK) as server:
        ran = ask(miyabi, repository, server, *CHECK, "--max-cost", "0.04")
    assert (ran.code, json.loads(ran.stdout)["status"], len(server.requests)) == (0, "verified", 2), ran.stderr


def test_the_month_s_cap_holds_for_the_next_run_too(repository: Path, miyabi: Miyabi) -> None:
    month = {"MIYABI_BUDGET__MONTHLY_USD": "0.04"}
    with groq_server(FIXED, {**DONE, "usage": USAGE}) as server:
        assert ask(miyabi, repository, server, *CHECK, **month).code == 0
        asked = len(server.requests)
        ran = ask(miyabi, repository, server, *CHECK, **month)
        assert (ran.code, len(server.requests)) == (5, asked)
        used = json.loads(miyabi("usage", "--format", "json").stdout)
    assert used["total"]["requests"] == asked
    assert used["month"]["spent_usd"] == pytest.approx(asked * USD)


def test_attempts_side_by_side_hold_the_cap_together(repository: Path, miyabi: Miyabi) -> None:
    with groq_server(LOOK) as server:
        ran = ask(miyabi, repository, server, "--no-checks", "--max-cost", "0.04", "--attempts", "3", "--jobs", "3")
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], len(server.requests)) == (5, "limit", 2), ran.stderr
    assert result["usage"]["cost_usd"] == pytest.approx(2 * USD)


@pytest.mark.parametrize("name", ["openai", "vllm"])
def test_at_the_cap_it_goes_on_with_the_local_server(repository: Path, miyabi: Miyabi, home: Path, name: str) -> None:
    more = {"MIYABI_LLM__VLLM__WIRE": "chat"}
    with groq_server(LOOK) as server, chat_server(call("apply_patch", {"patch": FIX}), DONE) as other:
        ran = ask(miyabi, repository, server, *CHECK, "--max-cost", "0.04", **falling_back(other, name), **more)
        assert len(server.requests) == 2
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], result["provider"]) == (0, "verified", name), ran.stderr
    (switched,) = events(home, "provider_switched")
    validate(switched, "event")
    assert (switched["failed"], switched["provider"]) == ("groq", name)
    assert "the run's budget of 0.04 USD is used up" in switched["reason"]
    assert [warning["message"] for warning in result["warnings"] if "groq is given up" in warning["message"]]
    assert "groq is given up" in ran.stderr


def test_on_exceed_stop_asks_nobody_else(repository: Path, miyabi: Miyabi) -> None:
    stop = {"MIYABI_BUDGET__ON_EXCEED": "stop"}
    with groq_server(LOOK) as server, chat_server(DONE) as other:
        ran = ask(miyabi, repository, server, "--no-checks", "--max-cost", "0.0001", **falling_back(other), **stop)
        assert (ran.code, server.requests, other.requests) == (5, [], [])
    hint = "raise --max-cost, or set budget.on_exceed to fallback and name a local provider in llm.fallback"
    assert hint in ran.stderr


def test_a_provider_that_dies_between_two_calls_is_gone_on_from(repository: Path, miyabi: Miyabi, home: Path) -> None:
    """The other one is asked with the same conversation, and no tool runs twice."""
    marking = call("exec", {"cmd": "echo one >>marks.txt; cat marks.txt"})
    with groq_server(marking, closed) as server, chat_server(call("apply_patch", {"patch": FIX}), DONE) as other:
        ran = ask(miyabi, repository, server, *CHECK, **falling_back(other))
        before, after = server.requests[-1].json["messages"], other.requests[0].json["messages"]
    result = json.loads(ran.stdout)
    assert (ran.code, result["provider"]) == (0, "openai"), ran.stderr
    assert [message["role"] for message in after] == [message["role"] for message in before]
    assert [message.get("content") for message in after] == [message.get("content") for message in before]
    assert "one" in after[-1]["content"]
    assert "+one\n" in result["patch"]
    assert result["patch"].count("+one\n") == 1
    assert [event["failed"] for event in events(home, "provider_switched")] == ["groq"]


@pytest.mark.parametrize(
    ("number", "code", "error"), [(signal.SIGINT, 130, "left"), (signal.SIGKILL, -9, "lost")], ids=["INT", "KILL"]
)
def test_a_run_that_is_stopped_in_the_middle_of_a_reply_leaves_nothing_reserved(
    repository: Path, environment: dict[str, str], home: Path, miyabi: Miyabi, number: int, code: int, error: str
) -> None:
    """By Ctrl-C it is settled by what came; what a killed one has cost nobody knows: all that it might."""
    asked, gone = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler, _: Any) -> None:
        start_events(handler)
        send_event(handler, chunk({"delta": {"content": "I look"}, "finish_reason": None, "index": 0}))
        asked.set()
        gone.wait(60)

    with groq_server(hang) as server:
        command = [PYTHON, "-m", "miyabi_cli", "codegen", "Fix add", "-p", "groq", "--endpoint", server.url]
        process = subprocess.Popen(
            [*command, "--no-checks", "-q"],
            cwd=repository,
            env={**environment, **KEY, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert asked.wait(60)
        process.send_signal(number)
        assert process.wait(60) == code
        gone.set()
    total = json.loads(miyabi("usage", "--format", "json").stdout)["total"]
    assert (total["requests"], total["failed"], total["open"]) == (1, 1, 0)
    ledger = Ledger(home / "data" / FILE)
    (row,) = ledger.rows("SELECT * FROM requests")
    ledger.close()
    assert row["error"] == error
    assert (row["cost_nano"] < row["reserved_nano"]) is (error == "left")
