"""A real vLLM and a real gpt-oss as they were recorded, and whole runs over Harmony."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderRefused,
    RequestTooLarge,
)
from miyabi_cli.llm.harmony.tokens import decode
from miyabi_cli.messages import Function
from tests.conftest import Miyabi
from tests.support.server import send_error
from tests.support.vllm import MODEL, called, final, vllm_server
from tests.support.vllm_requests import EXEC, OPEN, PATH, ask, prompts, question
from tests.test_codegen import FIX, TASK, result_of

# Recorded replies of a real gpt-oss, and a whole run


RECORDINGS = Path(__file__).parent / "fixtures/vllm"
READ = Function("open_file", "Read.", PATH, "repo_browser")
RUN = Function("exec", "Run.", {"type": "object", "properties": {"cmd": {}}, "required": ["cmd"]}, "container")
SAID = "It is 4 — héé 🙂."
# Text, thought, the call's name and arguments, finish reason; or the error.
PLAYED: Mapping[str, tuple[str, str, tuple[str, Any] | None, str] | type[ProviderError]] = {
    "completions-answer": (SAID, "I add 2 and 2.", None, "stop"),
    "completions-call": ("", "I look.", ("open_file", {"path": "calc.py"}), "tool_calls"),
    "completions-preamble": ("I will list.", "", ("exec", {"cmd": ["ls"]}), "tool_calls"),
    "completions-length": ("", "I add", None, "length"),
    "completions-unknown-token": ProviderRefused,
    "completions-too-long": RequestTooLarge,
    "completions-full": RequestTooLarge,
    "completions-no-model": ProviderRefused,
    "chat-answer": (SAID, "I add 2 and 2.", None, "stop"),
    "chat-call": ("", "I look.", ("open_file", {"path": "calc.py"}), "tool_calls"),
    "chat-lost-container": BrokenReply,
    "chat-lost-doubled-recipient": BrokenReply,
    "chat-lost-recipient": ("", "I look.", ("open_file", {"path": "calc.py"}), "tool_calls"),
    "chat-too-long": RequestTooLarge,
    "chat-bad-effort": ProviderRefused,
    "chat-no-tools": ProviderRefused,
}


@pytest.mark.parametrize("name", PLAYED)
def test_recordings_of_a_real_vllm_are_read_without_loss(name: str) -> None:
    (file,) = RECORDINGS.glob(f"{name}.*")
    status = int(file.name.split(".")[1]) if file.suffix == ".json" else 200
    kind = "application/json" if file.suffix == ".json" else "text/event-stream; charset=utf-8"
    wire: Any = "harmony" if name.startswith("completions") else "chat"
    expected = PLAYED[name]
    with vllm_server(send_error(status, file.read_bytes(), kind=kind)) as server:
        if isinstance(expected, type):
            with pytest.raises(expected):
                ask(server, question(READ, RUN), wire=wire)
            return
        (reply,) = ask(server, question(READ, RUN), wire=wire)
    calls = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    text, thought, call, finish = expected
    assert (reply.text, reply.thought, reply.finish_reason) == (text, thought, finish)
    assert calls == ([call] if call else [])
    assert reply.usage.output_tokens > 0
    assert reply.usage.reasoning_tokens > 0 or not thought


def test_a_recorded_answer_that_was_held_to_its_schema_is_read() -> None:
    held = send_error(200, (RECORDINGS / "completions-schema.sse").read_bytes(), kind="text/event-stream")
    schema = {"type": "object", "required": ["name", "count"]}
    with vllm_server(final("No JSON.", "Hm."), held) as server:
        (reply,) = ask(server, question(schema=schema))
    assert (json.loads(reply.text), reply.finish_reason) == ({"name": "calc", "count": 3}, "stop")
    as_call = send_error(200, (RECORDINGS / "chat-lost-schema.sse").read_bytes(), kind="text/event-stream")
    with vllm_server(as_call) as server:
        (reply,) = ask(server, question(schema=schema), wire="chat")
    assert (json.loads(reply.text), reply.tool_calls) == ({"name": "calc", "count": 3}, ())


RECORDED = Path(__file__).parents[2] / "shared/fixtures/gpt-oss-20b-raw-harmony/responses.json"


@pytest.mark.skipif(not RECORDED.exists(), reason="the recordings of a real gpt-oss are not here")
@pytest.mark.parametrize("sends_token_ids", [True, False])
def test_no_call_of_a_real_run_is_lost(sends_token_ids: bool) -> None:
    *calls, answer = (entry["response"] for entry in json.loads(RECORDED.read_text()))
    turns = [*(call + "<|call|>" for call in calls), answer + "<|return|>"]
    patch = Function(
        "apply_patch", "Patch.", {"type": "object", "properties": {"patch": {"type": "string"}}}, "repo_browser"
    )
    search = Function(
        "search", "Search.", {"type": "object", "properties": {"query": {"type": "string"}}}, "repo_browser"
    )
    with vllm_server(*turns, sends_token_ids=sends_token_ids) as server:
        replies = ask(server, *[question(EXEC, OPEN, patch, search)] * len(turns))
    assert [len(reply.tool_calls) for reply in replies] == [1] * 60 + [0]
    assert replies[-1].text


def test_codegen_speaks_harmony_from_end_to_end(repository: Path, miyabi: Miyabi) -> None:
    turns = (
        called("repo_browser.open_file", {"path": "calc.py"}, "First I read the code."),
        called("repo_browser.apply_patch", {"patch": FIX}, "It subtracts: I patch it."),
        final("add subtracted; it adds now.", "All is done."),
    )
    with vllm_server(*turns) as server:
        settings = ["--provider", "vllm", "--endpoint", server.url, "--effort", "high", "--format", "json"]
        ran = miyabi("codegen", TASK, *settings, cwd=repository)
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert (result["status"], result["provider"], result["summary"]) == (
        "verified",
        "vllm",
        "add subtracted; it adds now.",
    )
    ids = [request.json["prompt"] for request in server.requests]
    assert len(ids) == 3
    assert set(server.asked) == {"/v1/completions", "/v1/models"}
    for before, after in pairwise(ids):
        assert after[: len(before)] == before
    last = decode(ids[2])
    assert "Reasoning: high" in last
    assert "<|channel|>analysis<|message|>First I read the code.<|end|>" in last
    assert "<|channel|>analysis<|message|>It subtracts: I patch it.<|end|>" in last
    assert "<|start|>repo_browser.open_file to=assistant<|channel|>" in last
    assert "return a - b" in last
    assert result["usage"]["input_tokens"] == sum(len(prompt) for prompt in ids)
    assert result["usage"]["cached_tokens"] > 0
    assert result["usage"]["reasoning_tokens"] > 0


def test_codegen_drops_the_thought_after_an_answer_that_its_checks_refuse(repository: Path, miyabi: Miyabi) -> None:
    turns = (
        called("repo_browser.apply_patch", {"patch": FIX.replace("a + b", "a * b")}, "I multiply."),
        final("It multiplies now.", "Sure of it."),
        called("repo_browser.apply_patch", {"patch": FIX.replace("a - b", "a * b")}, "I add instead."),
        final("It adds now."),
    )
    with vllm_server(*turns) as server:
        settings = ["--provider", "vllm", "--endpoint", server.url, "--format", "json"]
        ran = miyabi("codegen", TASK, *settings, cwd=repository)
    assert ran.code == 0, ran.stderr
    sent = prompts(server)
    assert "I multiply." in sent[1]
    assert "I multiply." not in sent[2]
    assert "Sure of it." not in sent[2]
    assert "<|channel|>final<|message|>It multiplies now.<|end|>" in sent[2]
    assert "I add instead." in sent[3]


def test_the_player_refuses_what_vllm_refuses() -> None:
    """The fixture is only worth something while it is as strict as the server."""
    import httpx

    with vllm_server(final("Hi."), window=64) as server:

        def post(path: str, body: Any) -> tuple[int, Any]:
            response = httpx.post(f"{server.url}{path}", json=body)
            return response.status_code, response.json()

        assert post("/v1/nothing", {}) == (404, {"detail": "Not Found"})
        assert httpx.get(f"{server.url}/v1/completions").status_code == 405
        assert (httpx.get(f"{server.url}/health").status_code, httpx.get(f"{server.url}/health").content) == (200, b"")
        assert "vllm:num_requests_running" in httpx.get(f"{server.url}/metrics").text
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
        refused = (
            ("/v1/chat/completions", {**chat, "tools": []}),
            ("/v1/chat/completions", {**chat, "reasoning_effort": "none"}),
            ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": "x y " * 99}]}),
            ("/v1/completions", {"model": MODEL, "prompt": []}),
            ("/v1/completions", {"model": MODEL, "prompt": [1] * 64}),
            ("/v1/completions", {"model": MODEL, "prompt": [1] * 65}),
            ("/v1/completions", {"model": MODEL, "prompt": [1], "stream_options": {}, "max_tokens": 0}),
            ("/v1/completions", {"model": MODEL, "prompt": [1], "temperature": 3}),
        )
        assert [post(*request)[0] for request in refused] == [400] * len(refused)
    assert server.requests == []
