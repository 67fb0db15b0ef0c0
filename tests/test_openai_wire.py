"""The chat completions wire against a server that speaks it, healthy and broken in each known way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    RequestTooLarge,
)
from miyabi_cli.http import retry_after
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import Delta, Function, LLMRequest, Message, Reply, Sampling, Waiting
from tests.support.server import (
    call,
    chat_server,
    chunk,
    chunks_of,
    say,
    send_error,
    send_event,
    send_events,
    start_events,
)

QUESTION = [Message("user", "hello")]
ADD = Function(
    "add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
)


class Waits:
    """Retries that wait no time, and remember how long they would have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def retries(self, attempts: int = 4) -> Retries:
        return Retries(attempts=attempts, sleep=self.sleep, jitter=lambda: 1.0)


def ask(
    url: str,
    messages: Sequence[Message] = QUESTION,
    functions: Sequence[Function] = (),
    *,
    waits: Waits | None = None,
    idle: float | None = 5,
    model: str = "gpt-oss-20b",
    key: str | None = None,
    **options: Any,
) -> tuple[list[Delta], Reply]:
    async def main() -> tuple[list[Delta], Reply]:
        provider = open_openai(url, model, key=key, idle=idle, retries=(waits or Waits()).retries())
        try:
            stream = provider.chat(messages, functions, **options)
            pieces = [piece async for piece in stream if not isinstance(piece, Waiting)]
        finally:
            await provider.close()
        *deltas, reply = pieces
        assert isinstance(reply, Reply)
        assert all(isinstance(delta, Delta) for delta in deltas)
        return deltas, reply  # type: ignore[return-value]

    return asyncio.run(main())


def test_a_reply_carries_text_thought_calls_usage_and_timing() -> None:
    with chat_server(
        {"thought": "hm", "text": "I add.", "calls": [("add", '{"a": 1}')], "finish": "tool_calls"}
    ) as server:
        deltas, reply = ask(server.url, functions=[ADD])
    assert (reply.text, reply.thought, reply.finish_reason) == ("I add.", "hm", "tool_calls")
    assert [(tool.name, tool.arguments) for tool in reply.tool_calls] == [("add", '{"a": 1}')]
    assert reply.tool_calls[0].id.startswith("call-")
    assert (reply.usage.requests, reply.usage.input_tokens, reply.usage.cached_tokens) == (1, 100, 50)
    assert reply.usage.output_tokens == 20
    assert reply.timing.first_token is not None
    assert 0 < reply.timing.first_token <= reply.timing.total
    assert "".join(delta.text for delta in deltas) == "I add."
    assert "".join(delta.tool_text for delta in deltas) == 'add{"a": 1}'


def test_the_request_is_what_the_servers_document() -> None:
    with chat_server(say("hi")) as server:
        ask(
            server.url,
            functions=[ADD],
            sampling=Sampling(max_tokens=9, effort="low", seed=3),
            key="secret",
            stop=["END"],
        )
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    body = request.json
    assert body["model"] == "gpt-oss-20b"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert (body["temperature"], body["top_p"]) == (1.0, 1.0)
    assert (body["max_tokens"], body["seed"], body["reasoning_effort"], body["stop"]) == (9, 3, "low", ["END"])
    assert body["tools"][0]["function"]["name"] == "add"
    assert "response_format" not in body


def test_an_empty_list_of_tools_is_left_out_and_effort_goes_only_to_models_that_think() -> None:
    with chat_server(say("hi")) as server:
        ask(server.url, model="other", sampling=Sampling(effort="low"))
    body = server.requests[0].json
    assert "tools" not in body
    assert "reasoning_effort" not in body
    assert "temperature" not in body


def test_each_request_begins_with_the_bytes_of_the_one_before() -> None:
    with chat_server(call("add", {"a": 1}, thought="why"), say("done")) as server:
        _, first = ask(server.url, functions=[ADD], sampling=Sampling(seed=1))
        history = [
            *QUESTION,
            first.message(),
            Message("tool", "1", tool_call_id=first.tool_calls[0].id, tool_name="add"),
        ]
        ask(server.url, history, functions=[ADD], sampling=Sampling(seed=2))
    one, two = (request.body for request in server.requests)
    head = one[: one.index(b'],"temperature"')]  # all up to the end of the messages
    assert b'"content":"hello"' in head
    assert two.startswith(head)
    sent = server.requests[1].json["messages"]
    assert sent[1]["reasoning"] == "why"
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == first.tool_calls[0].id


def test_thought_is_read_under_both_names_and_text_from_parts() -> None:
    def turn(handler: Any, _: Any) -> None:
        send_events(
            handler,
            [
                chunk({"delta": {"reasoning_content": "think "}}),
                chunk({"delta": {"reasoning": "more"}}),
                chunk({"delta": {"content": [{"type": "text", "text": "part"}]}, "finish_reason": "stop"}),
                "[DONE]",
            ],
        )

    with chat_server(turn) as server:
        _, reply = ask(server.url)
    assert (reply.thought, reply.text) == ("think more", "part")


def test_calls_without_index_or_id_and_with_object_arguments_are_kept_apart() -> None:
    calls = [{"function": {"name": "add", "arguments": {"a": number}}} for number in (1, 2)]

    def turn(handler: Any, _: Any) -> None:
        send_events(handler, [chunk({"delta": {"tool_calls": calls}, "finish_reason": "stop"})])

    with chat_server(turn) as server:
        _, reply = ask(server.url)
    assert [json.loads(tool.arguments)["a"] for tool in reply.tool_calls] == [1, 2]
    assert len({tool.id for tool in reply.tool_calls}) == 2


def test_a_server_that_streams_nothing_is_understood() -> None:
    whole = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}
    with chat_server(send_error(200, whole)) as server:
        _, reply = ask(server.url)
    assert (reply.text, reply.usage.input_tokens) == ("whole", 7)


def test_characters_that_end_lines_elsewhere_do_not_end_an_event() -> None:
    text = "a\u2028b\u0085c\x1cd"
    with chat_server({"text": text, "finish": "stop"}) as server:

        def raw(handler: Any, _: Any) -> None:
            start_events(handler)
            for piece in chunks_of({"text": text, "finish": "stop"}):
                send_event(handler, json.dumps(piece, ensure_ascii=False))
            handler.wfile.write(b"0\r\n\r\n")

        server.turns = [raw]
        _, reply = ask(server.url)
    assert reply.text == text


@pytest.mark.parametrize("status", [408, 409, 429, 498, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(status: int) -> None:
    waits = Waits()
    with chat_server(send_error(status, {"error": {"message": "busy"}}), say("fine")) as server:
        _, reply = ask(server.url, waits=waits)
    assert reply.text == "fine"
    assert waits.seconds == [0.5]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ProviderRefused),
        (401, ProviderRefused),
        (403, ProviderRefused),
        (404, ProviderRefused),
        (413, RequestTooLarge),
    ],
)
def test_final_refusals_are_not_tried_again(status: int, error: type[ProviderError]) -> None:
    with chat_server(send_error(status, {"error": {"message": "the words of the server"}})) as server:
        with pytest.raises(error, match="the words of the server"):
            ask(server.url)
        assert len(server.requests) == 1


def test_the_window_is_told_from_other_bad_requests() -> None:
    words = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
    with chat_server(send_error(400, {"error": {"message": words}})) as server, pytest.raises(RequestTooLarge):
        ask(server.url)


def test_retry_after_is_obeyed_and_a_long_one_is_an_error_with_its_reason() -> None:
    waits = Waits()
    with chat_server(send_error(429, b"{}", {"retry-after": "2"}), say("fine")) as server:
        ask(server.url, waits=waits)
    assert waits.seconds == [2.0]
    with chat_server(send_error(429, b"{}", {"retry-after": "3600"})) as server:
        with pytest.raises(ProviderOverloaded) as caught:
            ask(server.url, waits=waits)
        assert len(server.requests) == 1
    assert caught.value.hint == "the server asks to wait 3600 s"


def test_it_gives_up_after_the_last_try_and_backs_off_in_between() -> None:
    waits = Waits()
    with chat_server(send_error(500, b"<html><h1>Internal   Server Error</h1></html>")) as server:
        with pytest.raises(ProviderOverloaded, match="500: Internal Server Error"):
            ask(server.url, waits=waits)
        assert len(server.requests) == 4
    assert waits.seconds == [0.5, 1.0, 2.0]


def test_a_stream_without_an_end_is_a_failure_that_is_tried_again_and_its_usage_is_counted() -> None:
    cut = {"text": "half", "usage": {"prompt_tokens": 11, "completion_tokens": 5}}
    with chat_server(cut, say("whole")) as server:
        _, reply = ask(server.url)
    assert reply.text == "whole"
    assert (reply.usage.requests, reply.usage.input_tokens) == (2, 111)
    with chat_server(cut) as server, pytest.raises(BrokenReply, match="cut off") as caught:
        ask(server.url)
    assert (caught.value.usage.requests, caught.value.usage.input_tokens) == (4, 44)


def test_a_reply_without_an_end_is_cut_off_before_it_fills_the_memory() -> None:
    piece = chunk({"index": 0, "delta": {"content": "blah " * 200_000}, "finish_reason": None})

    def endless(handler: Any, _: Any) -> None:
        start_events(handler)
        with contextlib.suppress(OSError):
            while True:
                send_event(handler, piece)

    with chat_server(endless) as server, pytest.raises(BrokenReply, match="does not end"):
        ask(server.url)


def test_a_broken_connection_is_tried_again() -> None:
    def drop(handler: Any, _: Any) -> None:
        start_events(handler)
        send_event(handler, chunk({"delta": {"content": "ha"}}))
        handler.close_connection = True
        handler.connection.close()

    with chat_server(drop, say("whole")) as server:
        _, reply = ask(server.url)
    assert reply.text == "whole"


@pytest.mark.parametrize(
    "event",
    [
        "{not json",
        "[1]",
        {"error": {"message": "engine died", "code": 500}},
        {"error": "engine died"},
        {"choices": [7]},
    ],
)
def test_a_broken_stream_is_a_typed_error(event: Any) -> None:
    def turn(handler: Any, _: Any) -> None:
        send_events(handler, [chunk({"delta": {"content": "ha"}}), event, "[DONE]"])

    with chat_server(turn) as server, pytest.raises((BrokenReply, ProviderOverloaded)):
        ask(server.url)


def test_a_web_page_with_200_is_a_typed_error() -> None:
    with chat_server(send_error(200, b"<html>", kind="text/html")) as server, pytest.raises(BrokenReply) as caught:
        ask(server.url)
    assert caught.value.hint is not None
    assert "--endpoint" in caught.value.hint


def test_silence_is_ended_by_the_idle_time() -> None:
    def hang(handler: Any, _: Any) -> None:
        start_events(handler)
        send_event(handler, chunk({"delta": {"content": "ha"}}))
        handler.connection.settimeout(2)
        handler.rfile.read(1)  # until the client goes away

    def stop(handler: Any, request: Any) -> None:
        try:
            hang(handler, request)
        except TimeoutError:
            handler.close_connection = True

    with chat_server(stop, say("whole")) as server:
        _, reply = ask(server.url, idle=0.3)
    assert reply.text == "whole"


def test_no_server_is_an_error_that_names_it() -> None:
    with pytest.raises(ProviderUnreachable, match=r"http://127\.0\.0\.1:9 can't be reached"):
        ask("http://127.0.0.1:9")


def test_a_loopback_server_is_asked_past_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with chat_server(say("direct")) as server:
        _, reply = ask(server.url)
    assert reply.text == "direct"


def test_generate_answers_one_prompt() -> None:
    async def main(url: str) -> Any:
        provider = open_openai(url, "gpt-oss-20b")
        try:
            return await provider.generate(LLMRequest("hello", temperature=0.5, max_tokens=7))
        finally:
            await provider.close()

    with chat_server(say("hi", finish="length")) as server:
        response = asyncio.run(main(server.url))
    assert (response.text, response.tokens_used, response.finish_reason) == ("hi", 120, "length")
    assert server.requests[0].json["max_tokens"] == 7


def test_call_function_tells_the_model_what_is_wrong_and_returns_valid_arguments() -> None:
    async def main(url: str) -> Any:
        provider = open_openai(url, "gpt-oss-20b")
        try:
            return await provider.call_function(ADD, QUESTION)
        finally:
            await provider.close()

    with chat_server(say('{"a": "x"}'), say('Here: ```json\n{"a": 4}\n```')) as server:
        assert asyncio.run(main(server.url)) == {"a": 4}
    first, second = (request.json for request in server.requests)
    assert first["response_format"]["json_schema"]["schema"] == ADD.parameters
    assert "must be integer" in second["messages"][-1]["content"]
    with chat_server(say("no")) as server:
        with pytest.raises(BrokenReply, match="no valid arguments for add") as caught:
            asyncio.run(main(server.url))
        assert caught.value.usage.requests == len(server.requests) == 3


def test_retry_after_reads_seconds_and_dates() -> None:
    from datetime import UTC, datetime

    assert retry_after("1.5") == 1.5
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2026 07:28:10 GMT", datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == 10.0
    assert retry_after("-3") == 0.0
    for nothing in ("nan", "1e999", "9" * 500, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"):
        assert retry_after(nothing) is None
