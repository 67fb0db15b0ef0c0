"""Groq, spoken natively, against a server that refuses what the real one refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    RequestTooLarge,
    SettingsError,
)
from miyabi_cli.llm.calling import last_reply
from miyabi_cli.llm.chat.failed_generation import feedback, is_failed_generation, read_failed
from miyabi_cli.llm.groq import RETRIES, open_groq
from miyabi_cli.llm.pacing import Limiter
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import (
    ChatRequest,
    Delta,
    Function,
    LLMRequest,
    Message,
    Piece,
    Reply,
    Sampling,
    Usage,
    Waiting,
)
from tests.conftest import Miyabi
from tests.support.groq import KEY, PATH, Budget, Clock, Groq, failed, groq_server, send_json
from tests.support.server import call, say, send_error

HELLO = [Message("user", "hello")]
EXEC = Function(
    "exec",
    "Run a command.",
    {
        "type": "object",
        "properties": {"cmd": {"type": "array", "items": {"type": "string"}}},
        "required": ["cmd"],
        "additionalProperties": False,
    },
)
OPEN = Function("open_file", "Open a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
LOOSE = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1}, "note": {"type": "string"}},
    "required": ["city"],
}
INVALID = (
    "Tool call validation failed: tool call validation failed: parameters for tool exec did not match schema: errors"
)
UNPARSED = "Failed to parse tool call arguments as JSON"
NO_TOOL = "Tool choice is none, but model called a tool"
MUST_CALL = "Tool choice is required, but model did not call a tool"
GENERIC = "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details."

Result = TypeVar("Result")
Work = Callable[[Provider], Awaitable[Result]]


class Player:
    """A server, and a client whose clock only sleeping moves."""

    def __init__(self, *turns: Any, tokens_per_minute: int | None = None) -> None:
        self.clock = Clock()
        budget = Budget(tokens_per_minute, self.clock) if tokens_per_minute else None
        self.serving = groq_server(*turns, budget=budget)
        self.limiter = Limiter(clock=self.clock, sleep=self.clock.sleep)
        self.retries = replace(RETRIES, sleep=self.clock.sleep, jitter=lambda: 1.0)

    def __enter__(self) -> Player:
        self.server: Groq = self.serving.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.serving.__exit__(*details)

    def open(self, key: str | None = KEY, **more: Any) -> Provider:
        return open_groq(key, endpoint=self.server.url, retries=self.retries, limiter=self.limiter, **more)

    def run(self, work: Work[Result], **more: Any) -> Result:
        async def main() -> Result:
            async with self.open(**more) as provider:
                return await work(provider)

        return asyncio.run(main())

    def pieces(self, request: ChatRequest, **more: Any) -> list[Piece]:
        async def work(provider: Provider) -> list[Piece]:
            return [piece async for piece in provider.stream(request)]

        return self.run(work, **more)

    def ask(
        self,
        functions: Sequence[Function] = (),
        messages: Sequence[Message] = HELLO,
        *,
        more: Any = None,
        **fields: Any,
    ) -> Reply:
        reply = self.pieces(ChatRequest(messages, functions, **fields), **(more or {}))[-1]
        assert isinstance(reply, Reply)
        return reply

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return self.server.bodies


def test_forcing_that_groq_refuses_is_no_capability() -> None:
    told: list[str] = []

    async def work(provider: Provider) -> None:
        assert provider.capabilities.forced
        [piece async for piece in provider.stream(ChatRequest(HELLO, [EXEC], forced="exec"))]
        assert not provider.capabilities.forced

    body = {"error": {"message": "tool_choice is not supported by this model", "param": "tool_choice"}}
    refusal = send_error(400, body)
    with Player(refusal, refusal, call("exec", {"cmd": ["ls"]})) as player:
        player.run(work, tell=told.append)
    assert told == ["groq refuses to force a function: the model is left to choose"]


def test_a_reply_is_deltas_thought_text_calls_and_usage() -> None:
    with Player(call("exec", {"cmd": ["ls"]}, thought="I look around first.") | {"text": "Looking."}) as player:
        *deltas, reply = player.pieces(ChatRequest(HELLO, [EXEC]))
    assert isinstance(reply, Reply)
    assert (reply.thought, reply.text, reply.finish_reason) == ("I look around first.", "Looking.", "tool_calls")
    assert [(one.name, one.arguments) for one in reply.tool_calls] == [("exec", '{"cmd": ["ls"]}')]
    assert reply.tool_calls[0].id.startswith("fc_")
    assert "".join(delta.thought for delta in deltas if isinstance(delta, Delta)) == reply.thought
    assert (reply.usage.requests, reply.usage.cached_tokens, reply.usage.reasoning_tokens) == (1, 7, 5)
    assert reply.usage.output_tokens == 20
    assert reply.timing.first_token is not None


def test_the_usage_may_be_in_x_groq_alone() -> None:
    with Player(say("hi") | {"usage_in_x_groq_alone": True}) as player:
        reply = player.ask()
    assert (reply.usage.output_tokens, reply.usage.cached_tokens) == (20, 7)


def test_a_whole_turn_is_sent_in_fields_that_groq_takes_and_thought_as_reasoning() -> None:
    turns = call("exec", {"cmd": ["ls"]}, thought="hm"), say("done")
    with Player(*turns) as player:
        sampling = Sampling(temperature=0.5, max_tokens=100, effort="high", seed=3)
        first = player.ask([EXEC, OPEN], sampling=sampling, stop=["END"])
        (made,) = first.tool_calls
        history = [
            Message("system", "Be brief."),
            *HELLO,
            first.message(),
            Message("tool", "a.py", tool_call_id=made.id, tool_name="exec"),
        ]
        assert player.ask([EXEC, OPEN], history, sampling=sampling).text == "done"
        one, two = player.bodies
    assert player.server.requests[0].path == PATH
    assert one["max_completion_tokens"] == 100
    assert (one["reasoning_effort"], one["temperature"], one["seed"], one["stop"]) == ("high", 0.5, 3, ["END"])
    assert one["stream"] is True
    assert two["messages"][2]["reasoning"] == "hm"
    assert two["messages"][2]["tool_calls"][0]["id"] == made.id
    for body in (one, two):
        names = {name for message in body["messages"] for name in message} | body.keys()
        assert not names & {"reasoning_content", "name", "n", "logprobs", "logit_bias", "top_logprobs", "max_tokens"}
        assert len(names & {"include_reasoning", "reasoning_format"}) < 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("logprobs", True), ("logit_bias", {}), ("top_logprobs", 2), ("n", 2), ("reasoning_effort", "extreme")],
)
def test_the_player_refuses_what_groq_refuses(field: str, value: Any) -> None:
    import httpx

    with groq_server(say("hi")) as server:
        body = {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "x"}], field: value}
        response = httpx.post(
            server.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}
        )
    assert response.status_code == 400


@pytest.mark.parametrize(("field", "value"), [("reasoning_content", "hm"), ("name", "bob")])
def test_the_player_refuses_fields_of_messages_that_groq_refuses(field: str, value: Any) -> None:
    import httpx

    with groq_server(say("hi")) as server:
        message = {"role": "assistant", "content": "x", field: value}
        body = {"model": "openai/gpt-oss-20b", "messages": [message]}
        response = httpx.post(
            server.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}
        )
    assert response.status_code == 400
    assert field in response.text


def test_too_many_functions_are_an_error_before_anything_is_sent() -> None:
    with Player(say("hi")) as player:
        with pytest.raises(ProviderRefused, match="at most 128 functions"):
            player.ask([replace(EXEC, name=f"exec{index}") for index in range(129)])
        assert player.bodies == []
        assert player.ask([replace(EXEC, name=f"exec{index}") for index in range(128)]).text == "hi"


def test_the_cap_is_never_more_than_groq_writes() -> None:
    with Player(say("hi")) as player:
        player.ask(sampling=Sampling(max_tokens=500_000))
        assert player.bodies[0]["max_completion_tokens"] == 65_536


def test_a_schema_is_asked_for_strictly_unstreamed_and_answered_in_its_own_form() -> None:
    with Player(say('{"city": "Paris", "note": null}', thought="hm")) as player:
        reply = player.ask(schema=LOOSE)
        (body,) = player.bodies
    assert json.loads(reply.text) == {"city": "Paris"}
    assert reply.thought == "hm"
    assert body["stream"] is False
    assert "tools" not in body
    held = body["response_format"]["json_schema"]
    assert held["strict"] is True
    assert held["schema"]["required"] == ["city", "note"]
    assert held["schema"]["properties"]["note"] == {"type": ["string", "null"]}


def test_a_schema_that_can_t_be_strict_is_a_function_that_has_to_be_called() -> None:
    anything = {"type": "object", "properties": {"files": {"type": "object"}}, "required": ["files"]}
    with Player(call("answer", {"files": {"a.py": 1}})) as player:
        reply = player.ask(schema=anything)
        (body,) = player.bodies
    assert json.loads(reply.text) == {"files": {"a.py": 1}}
    assert reply.tool_calls == ()
    assert body["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert "response_format" not in body


def test_call_function_gives_valid_arguments() -> None:
    async def work(provider: Provider) -> dict[str, Any]:
        return await provider.call_function(Function("place", "Name a place.", LOOSE), HELLO)

    with Player(say('{"city": "Paris", "note": null}')) as player:
        assert player.run(work) == {"city": "Paris"}


def test_a_schema_that_was_not_met_gives_what_was_written_or_is_asked_again_within_bounds() -> None:
    message = "Failed to validate JSON. Please adjust your prompt. See 'failed_generation' for more details."
    with Player(failed(message, '{"city": 1}', code="json_validate_failed")) as player:
        assert player.ask(schema=LOOSE).text == '{"city": 1}'
    empty = failed(message, "", code="json_validate_failed")
    with Player(empty, say('{"city": "Rome", "note": null}')) as player:
        reply = player.ask(schema=LOOSE)
        assert json.loads(reply.text) == {"city": "Rome"}
        assert reply.usage.requests == 2
    with Player(empty) as player:
        with pytest.raises(BrokenReply) as caught:
            player.ask(schema=LOOSE)
        assert len(player.bodies) == 4
        assert caught.value.usage.requests == 4


FENCED = "```python\nx = 1\n```\n"


def ls(arguments: Any = None) -> str:
    return json.dumps({"name": "exec", "arguments": {"cmd": ["ls"]} if arguments is None else arguments})


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("message", "generation", "calls"),
    [
        (INVALID, ls(), [("exec", {"cmd": ["ls"]})]),
        (INVALID, ls({"foo": 1}), [("exec", {"foo": 1})]),
        (INVALID, ls('{"cmd": ["ls"]}'), [("exec", {"cmd": ["ls"]})]),
        (INVALID, f"[{ls()}, {ls({'cmd': ['pwd']})}]", [("exec", {"cmd": ["ls"]}), ("exec", {"cmd": ["pwd"]})]),
        (INVALID, f"{ls()}\n{ls()}", [("exec", {"cmd": ["ls"]})] * 2),
        (INVALID, f"```json\n{ls()}\n```", [("exec", {"cmd": ["ls"]})]),
        (INVALID, f"```json\n{ls({'text': FENCED})}\n```", [("exec", {"text": FENCED})]),
        (GENERIC, json.dumps({"tool_calls": [{"id": "x", "type": "function", "function": json.loads(ls())}]}), [
            ("exec", {"cmd": ["ls"]})
        ]),
        (INVALID, '{"cmd": ["ls"]}', [("exec", {"cmd": ["ls"]})]),
        (INVALID, '{"name": "exec"}', [("exec", {})]),
        (NO_TOOL, '{"name": "repo_browser.open_file", "arguments": {\n "path": "a"\n}}', [
            ("repo_browser.open_file", {"path": "a"})
        ]),
        ("attempted to call tool 'bash' which was not in request.tools", '{"name": "bash", "arguments": {"c": 1}}', [
            ("bash", {"c": 1})
        ]),
        ("attempted to call tool 'exec<|channel|>commentary' which was not in request.tools", '{"cmd": ["ls"]}', [
            ("exec", {"cmd": ["ls"]})
        ]),
        (INVALID, '{"name": "functions.exec<|channel|>commentary", "arguments": {}}', [("exec", {})]),
        (GENERIC, '<function=exec>{"cmd": ["ls"]}</function>', [("exec", {"cmd": ["ls"]})]),
        (GENERIC, '<function=exec={"cmd": ["ls"]}</function>', [("exec", {"cmd": ["ls"]})]),
        (GENERIC, 'exec{"cmd": ["ls"]}</function>', [("exec", {"cmd": ["ls"]})]),
        (GENERIC, f"<tool_call>{ls()}</tool_call>", [("exec", {"cmd": ["ls"]})]),
        (GENERIC, '<|channel|>commentary to=functions.exec <|constrain|>json<|message|>{"cmd": ["ls"]}<|call|>', [
            ("exec", {"cmd": ["ls"]})
        ]),
    ],
)  # fmt: skip
def test_a_call_that_a_person_can_read_is_a_call(
    message: str, generation: str, calls: list[tuple[str, Any]], streamed: bool
) -> None:
    with Player(failed(message, generation, thought="I call it.", streamed=streamed)) as player:
        reply = player.ask([EXEC, OPEN])
        assert len(player.bodies) == 1
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == calls
    assert len({one.id for one in reply.tool_calls}) == len(calls)
    assert (reply.finish_reason, reply.text) == ("tool_calls", "")
    assert reply.thought == ("I call it." if streamed else "")
    assert reply.usage.requests == 1


@pytest.mark.parametrize(
    ("generation", "arguments"),
    [
        ('{"name": "exec", "arguments": {"cmd": ["ls", "-l', '{"cmd": ["ls", "-l'),
        ('{"name": "exec", "arguments": "{\\"cmd\\": [\\"l', '{"cmd": ["l'),
        ('{"name": "exec", "arguments": {"cmd": [ls]}}', '{"cmd": [ls]}'),
        ('{"name": "exec", "arguments": ls -l}', "ls -l"),
    ],
)
def test_broken_arguments_stay_as_they_are_for_the_tools_to_say_what_is_wrong(generation: str, arguments: str) -> None:
    with Player(failed(UNPARSED, generation)) as player:
        (made,) = player.ask([EXEC, OPEN]).tool_calls
    assert (made.name, made.arguments) == ("exec", arguments)


def test_arguments_without_a_name_are_those_of_the_only_function() -> None:
    with Player(failed(UNPARSED, "import os\nprint(1)")) as player:
        (made,) = player.ask([EXEC]).tool_calls
    assert (made.name, made.arguments) == ("exec", "import os\nprint(1)")


def test_a_text_that_is_an_answer_is_one() -> None:
    with Player(failed(MUST_CALL, "maybe")) as player:
        reply = player.ask([EXEC])
        assert (reply.text, reply.tool_calls, reply.finish_reason) == ("maybe", (), "stop")
    with Player(failed(MUST_CALL, "", text="May be.", thought="hm", streamed=True)) as player:
        reply = player.ask([EXEC])
        assert (reply.text, reply.thought, reply.tool_calls) == ("May be.", "hm", ())


def test_a_call_where_there_is_nothing_to_call_is_answered_by_saying_so() -> None:
    called = failed(NO_TOOL, '{"name": "repo_browser.open_file", "arguments": {"path": "a"}}')
    with Player(called, say("Here is my answer.")) as player:
        reply = player.ask()
        assert (reply.text, reply.tool_calls, reply.usage.requests) == ("Here is my answer.", (), 2)
        assert "no functions" in player.bodies[1]["messages"][-1]["content"]
    with Player(called) as player:
        assert player.ask().tool_calls[0].name == "repo_browser.open_file"
        assert len(player.bodies) == 3


def test_what_nobody_can_read_is_told_to_the_model_which_is_asked_again() -> None:
    turns = failed(UNPARSED, "import os", streamed=True, thought="I print."), call("exec", {"cmd": ["ls"]})
    with Player(*turns) as player:
        reply = player.ask([EXEC, OPEN])
        one, two = player.bodies
    assert [made.name for made in reply.tool_calls] == ["exec"]
    assert reply.usage.requests == 2
    assert two["messages"][: len(one["messages"])] == one["messages"]
    assistant, user = two["messages"][len(one["messages"]) :]
    assert assistant == {"role": "assistant", "content": "import os", "reasoning": "I print."}
    assert UNPARSED in user["content"]
    assert "exec, open_file" in user["content"]


def test_the_model_is_asked_again_within_bounds() -> None:
    with Player(failed(GENERIC, "")) as player:
        with pytest.raises(ProviderError, match="refused what the model wrote, 3 times") as caught:
            player.ask([EXEC, OPEN])
        assert len(player.bodies) == 3
    assert caught.value.usage.requests == 3
    assert caught.value.hint


def test_a_failed_call_teaches_nothing_about_the_server() -> None:
    turns = failed(MUST_CALL + " with stop, tools, temperature, seed: not supported", ""), say("ok")
    sampling = Sampling(seed=1, max_tokens=9, effort="low")
    with Player(*turns) as player:
        player.ask([EXEC], forced="exec", stop=["x"], sampling=sampling)
        one, two = player.bodies
    assert one.keys() == two.keys()
    assert one["tool_choice"] == two["tool_choice"]


def test_a_failure_without_a_code_is_known_by_its_words() -> None:
    error = {"message": INVALID, "type": "invalid_request_error", "failed_generation": ls()}
    with Player({"error": error}) as player:
        assert player.ask([EXEC]).tool_calls[0].name == "exec"
    assert is_failed_generation(ProviderError(f"groq answered 400: {INVALID}"))
    assert not is_failed_generation(ProviderError("groq answered 400: property 'n' is unsupported"))
    assert not is_failed_generation(ProviderError("tool choice is no", detail={"code": "rate_limit_exceeded"}))


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from([INVALID, UNPARSED, MUST_CALL, GENERIC, NO_TOOL]))
def test_no_generation_breaks_the_reader(generation: str, text: str, message: str) -> None:
    for written in (generation, '{"name": "exec", "arguments": ' + generation, "<function=exec>" + generation):
        error = ProviderError(message, detail={"code": "tool_use_failed", "failed_generation": written})
        reply = read_failed(error, [EXEC, OPEN], text=text)
        assert reply is None or reply.tool_calls or reply.text.strip()
        assert feedback(error, [EXEC])[-1].role == "user"


@pytest.mark.parametrize(
    "value", [None, 3, ["x"], {"name": "exec", "arguments": {"cmd": ["ls"]}}, "{" * 50_000, "[" * 50_000]
)
def test_a_generation_of_another_shape_is_no_crash(value: Any) -> None:
    error = ProviderError(INVALID, detail={"code": "tool_use_failed", "failed_generation": value})
    reply = read_failed(error, [EXEC, OPEN])
    assert reply is None or isinstance(reply, Reply)


def test_a_413_is_shrunk_to_the_limit_and_sent_again_at_once() -> None:
    request = ChatRequest([Message("user", "word " * 800)], sampling=Sampling(max_tokens=32_000))

    async def work(provider: Provider) -> list[str]:
        return [(await last_reply(provider.stream(request))).finish_reason for _ in range(3)]

    with Player(say("cut", finish="length"), tokens_per_minute=8000) as player:
        assert player.run(work) == ["length"] * 3
        first, second, *later = [body["max_completion_tokens"] for body in player.bodies]
        assert first == 32_000
        assert 6000 < second < 7000
        assert [status for status, _ in player.server.refused] == [413]  # the later ones were bounded in advance
        assert len(later) == 2
        assert all(6000 < cap < 7000 for cap in later)


def test_a_413_without_a_cap_is_met_by_one() -> None:
    with Player(say("hi"), tokens_per_minute=1600) as player:
        assert player.ask(messages=[Message("user", "x" * 3000)]).text == "hi"
        assert "max_completion_tokens" not in player.bodies[0]
        assert 512 <= player.bodies[-1]["max_completion_tokens"] < 1024


def test_a_prompt_that_no_budget_holds_is_too_large_and_says_the_numbers() -> None:
    with Player(say("hi"), tokens_per_minute=2000) as player:
        with pytest.raises(RequestTooLarge, match="2,000 tokens per minute") as caught:
            player.ask(messages=[Message("user", "hello " * 4000)], sampling=Sampling(max_tokens=1000))
        assert caught.value.status == 413
        assert caught.value.detail["prompt_tokens"] > 5000
        assert len(player.bodies) == 1


def test_the_window_is_no_larger_than_what_a_minute_allows() -> None:
    async def work(provider: Provider) -> tuple[int, int]:
        before = provider.max_tokens
        await provider.generate(LLMRequest("hi", max_tokens=100))
        return before, provider.max_tokens

    with Player(say("hi"), tokens_per_minute=8000) as player:
        assert player.run(work) == (131_072, 8000)
    with Player(say("hi"), tokens_per_minute=250_000) as player:
        assert player.run(work) == (131_072, 131_072)


def test_requests_wait_for_the_budget_before_they_are_sent_and_are_never_refused() -> None:
    async def work(provider: Provider) -> list[Waiting]:
        waits: list[Waiting] = []

        async def one(other: Provider) -> None:
            async for piece in other.stream(ChatRequest(HELLO, sampling=Sampling(max_tokens=3000))):
                if isinstance(piece, Waiting):
                    waits.append(piece)

        await one(provider)
        async with player.open() as second:
            await asyncio.gather(*(one(other) for other in (provider, second) * 4))
        return waits

    with Player(say("hi"), tokens_per_minute=8000) as player:
        waits = player.run(work)
        assert player.server.refused == []
        assert len(player.bodies) == 9
    assert waits == [] or all("8,000 tokens per minute" in wait.reason for wait in waits)


def test_many_streams_learn_the_server_s_count_once_and_not_each_on_top_of_the_other() -> None:
    long = [Message("user", "x y " * 600)]  # the player counts this otherwise than the model does

    async def work(provider: Provider) -> list[Reply]:
        async def one() -> Reply:
            return await last_reply(provider.stream(ChatRequest(long, sampling=Sampling(max_tokens=4000))))

        await one()  # the clock runs ahead of the server: the limit is to be known before others wait for it
        return [reply for _ in range(3) for reply in await asyncio.gather(*(one() for _ in range(10)))]

    with Player(say("hi"), tokens_per_minute=8000) as player:
        assert len(player.run(work)) == 30
        # None is too large for a minute. A few may come a moment too soon, for a clock that leaps: they are sent again.
        assert {status for status, _ in player.server.refused} <= {429}
        assert {body["max_completion_tokens"] for body in player.bodies} == {4000}


def test_a_spent_budget_is_waited_for_and_told() -> None:
    thirsty = {"usage": {"prompt_tokens": 100, "completion_tokens": 6900}}
    with Player(say("hi") | thirsty, tokens_per_minute=8000) as player:
        player.ask(sampling=Sampling(max_tokens=7000))
        pieces = player.pieces(ChatRequest(HELLO, sampling=Sampling(max_tokens=7000)))
        assert isinstance(pieces[0], Waiting)
        assert 30 < pieces[0].seconds < 60
        assert 30 < sum(player.clock.naps) < 60
        assert player.server.refused == []


def test_a_429_is_waited_for_as_the_server_asks() -> None:
    error = {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}
    turns = {"error": error, "status": 429, "headers": {"retry-after": "40"}}, say("ok")
    with Player(*turns) as player:
        pieces = player.pieces(ChatRequest(HELLO))
        assert isinstance(pieces[0], Waiting)
        assert pieces[0].seconds == 40
        assert 40 <= sum(player.clock.naps) < 42


def test_a_day_s_budget_is_not_waited_for() -> None:
    error = {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}
    with Player({"error": error, "status": 429, "headers": {"retry-after": "3600"}}) as player:
        with pytest.raises(ProviderOverloaded):
            player.ask()
        with pytest.raises(ProviderOverloaded, match="asked to wait") as caught:
            player.ask()
        assert len(player.bodies) == 1
        assert "free again in 1 h" in str(caught.value.hint)
        assert player.clock.naps == []


def test_no_capacity_is_retried_with_jitter() -> None:
    busy = {"error": {"message": "flex capacity exceeded", "code": "capacity_exceeded"}, "status": 498}
    with Player(busy, busy, say("ok")) as player:
        assert player.ask().text == "ok"
        assert player.clock.naps == [0.5, 1.0]
    with Player(busy) as player, pytest.raises(ProviderOverloaded):
        player.ask()
    assert len(player.bodies) == 4


def test_an_overflow_is_too_large() -> None:
    error = {
        "message": "Please reduce the length of the messages or completion.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
        "param": "messages",
    }
    with Player({"error": error}) as player, pytest.raises(RequestTooLarge):
        player.ask(sampling=Sampling(max_tokens=100))
    assert len(player.bodies) == 1


@pytest.mark.parametrize("key", [None, "gsk_wrong"])
def test_a_wrong_key_is_said_with_what_to_do_and_not_retried(key: str | None) -> None:
    with Player(say("hi")) as player:
        with pytest.raises(ProviderRefused, match="Invalid API Key") as caught:
            player.ask(more={"key": key})
        assert len(player.server.refused) == 1
    assert "llm.groq.api_key" in str(caught.value.hint)


def test_an_unknown_model_is_refused() -> None:
    with Player(say("hi")) as player, pytest.raises(ProviderRefused, match="does not exist"):
        player.ask(more={"model": "openai/gpt-oss-7b"})


def test_an_error_in_x_groq_is_an_error() -> None:
    def turn(handler: Any, _: Any) -> None:
        send_json(handler, 200, {"id": "x", "choices": [], "x_groq": {"id": "req", "error": "over capacity"}}, {})

    with Player(turn, say("ok")) as player:
        assert player.ask().text == "ok"
        assert len(player.bodies) == 2


def test_a_failed_call_in_x_groq_is_read_too() -> None:
    error = {"message": INVALID, "code": "tool_use_failed", "failed_generation": ls(), "status_code": 400}

    def turn(handler: Any, _: Any) -> None:
        send_json(handler, 200, {"id": "x", "choices": [], "x_groq": {"id": "req", "error": error}}, {})

    with Player(turn) as player:
        assert player.ask([EXEC]).tool_calls[0].name == "exec"


def test_a_reader_that_stops_gives_its_reservation_back_to_nobody_but_leaves_no_trace() -> None:
    async def work(provider: Provider) -> None:
        async for _ in provider.stream(ChatRequest(HELLO)):
            break

    with Player(say("a long text " * 20)) as player:
        player.run(work)
        assert player.limiter._flying == []


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_endpoint_is_taken_with_or_without_v1(suffix: str) -> None:
    with Player(say("hi")) as player:
        player.server.url += suffix
        assert player.ask().text == "hi"


def test_a_wrong_endpoint_is_said() -> None:
    with pytest.raises(SettingsError, match="endpoint of groq"):
        open_groq(KEY, endpoint="ftp://x")


def test_tokens_are_counted_as_the_model_does() -> None:
    async def work(provider: Provider) -> tuple[int, int]:
        short = await provider.count_tokens(HELLO)
        return short, await provider.count_tokens([*HELLO, Message("user", "word " * 1000)], [EXEC])

    with Player(say("hi")) as player:
        short, long = player.run(work)
    assert 50 < short < 200
    assert 1000 < long - short < 1300


def test_a_hundred_requests_cost_no_wait_where_nothing_is_limited() -> None:
    async def work(provider: Provider) -> Usage:
        spent = Usage()
        for _ in range(100):
            async for piece in provider.stream(ChatRequest(HELLO)):
                spent += piece.usage if isinstance(piece, Reply) else Usage()
        return spent

    with Player(say("hi")) as player:
        assert player.run(work).requests == 100
        assert player.clock.naps == []


def test_a_bug_is_fixed_over_groq_though_calls_fail(repository: Path, miyabi: Miyabi) -> None:
    patch = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
    look = json.dumps({"name": "repo_browser.cat", "arguments": {"path": "calc.py"}})
    change = json.dumps({"name": "apply_patch", "arguments": {"input": patch}})
    turns = (
        failed("attempted to call tool 'repo_browser.cat' which was not in request.tools", look),
        failed(UNPARSED, "patch it", streamed=True, thought="I patch."),
        failed(INVALID, change, streamed=True, thought="I patch it."),
        say("It adds now."),
    )
    with groq_server(*turns) as server:
        command = ("codegen", "Fix the failing test", "-p", "groq", "--endpoint", server.url, "--format", "json")
        ran = miyabi(*command, cwd=repository, env={"GROQ_API_KEY": KEY})
    assert ran.code == 0, ran.stderr + ran.stdout
    result = json.loads(ran.stdout)
    assert (result["status"], result["summary"], result["provider"]) == ("verified", "It adds now.", "groq")
    assert result["usage"]["requests"] == 4
    assert server.refused == []
    assert server.bodies[-1]["messages"][-2]["reasoning"] == "I patch it."


def test_calls_that_fail_for_ever_end_the_run_with_the_provider_s_exit_code(repository: Path, miyabi: Miyabi) -> None:
    with groq_server(failed(GENERIC, "")) as server:
        ran = miyabi(
            "codegen", "Fix it", "-p", "groq", "--endpoint", server.url, cwd=repository, env={"GROQ_API_KEY": KEY}
        )
    assert ran.code == 3
    assert "error:" in ran.stderr
    assert len(server.bodies) < 20
