"""What goes wrong at a vLLM server, and how much its window holds, over both wires."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler
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
from miyabi_cli.llm.vllm import open_vllm
from miyabi_cli.messages import Delta, Message, Sampling
from tests.support.server import send_error, send_event, start_events
from tests.support.vllm import MODEL, cut, encode, final, play_events, refuse, vllm_server
from tests.support.vllm_requests import ADD, DATE, NO_WAIT, ONCE, OPEN, QUESTION, ask, last_of, question

# Failures


def test_a_cut_stream_is_asked_again_and_what_it_cost_is_counted() -> None:
    half = '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}'
    with vllm_server(cut(half), cut(half, "[DONE]"), final("Whole.")) as server:
        (reply,) = ask(server, question(ADD), retries=NO_WAIT)
    assert (reply.text, reply.tool_calls, reply.usage.requests) == ("Whole.", (), 3)
    assert reply.usage.output_tokens == 2 * len(encode(half)) + len(encode(final("Whole.")))


ERROR = {"error": {"message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 500}}
REFUSALS: Mapping[str, tuple[Any, type[ProviderError], str]] = {
    "too long": (
        refuse(400, "This model's maximum context length is 16384 tokens. However, your prompt contains 17000 input"),
        RequestTooLarge,
        "maximum context length",
    ),
    "too long by one": (
        refuse(400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens"),
        RequestTooLarge,
        "at least 1",
    ),
    "unauthorized": (send_error(401, {"error": "Unauthorized"}), ProviderRefused, "401: Unauthorized"),
    "busy": (send_error(503, b""), ProviderOverloaded, "503"),
    "an error in the stream": (cut("<|channel|>", ERROR, "[DONE]"), ProviderOverloaded, "EngineCore died"),
    "bad ids": (
        cut("", {"error": {"message": "Token id 9 is out of vocabulary", "code": 400}}),
        ProviderRefused,
        "vocabulary",
    ),
    "cut": (cut("<|channel|>final<|message|>Half"), BrokenReply, "cut off"),
    "not a completion": (lambda handler, _: play_events(handler, [{"choices": [{}]}]), BrokenReply, "not a completion"),
    "not JSON": (lambda handler, _: play_events(handler, ["{"]), BrokenReply, "not JSON"),
    "a web page": (send_error(200, b"<html>", kind="text/html"), BrokenReply, "web page"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_failure_is_an_error_with_its_own_type(case: str) -> None:
    turn, kind, said = REFUSALS[case]
    with vllm_server(turn) as server, pytest.raises(kind, match=said):
        ask(server, question(), wire="harmony")


def test_a_busy_server_is_asked_again() -> None:
    with vllm_server(send_error(503, b""), refuse(500, "EngineCore"), final("Here.")) as server:
        (reply,) = ask(server, question(), retries=NO_WAIT)
    assert (reply.text, len(server.requests), reply.usage.requests) == ("Here.", 3, 3)
    assert reply.usage.input_tokens == len(server.requests[0].json["prompt"])  # a refusal reads no prompt


@pytest.mark.parametrize("wire", ["auto", "harmony", "chat"])
def test_a_model_that_is_not_there_is_answered_with_those_that_are(wire: Any) -> None:
    with vllm_server(final("No.")) as server:

        async def main() -> None:
            async with open_vllm(server.url, "openai/gpt-oss-120b", wire=wire) as provider:
                await last_of(provider, question())

        with pytest.raises(ProviderRefused, match="does not exist") as caught:
            asyncio.run(main())
    assert caught.value.hint == f"the server has {MODEL}: choose one by --model"
    assert server.requests == []
    assert len([path for path in server.asked if path != "/v1/models"]) == 1


@pytest.mark.parametrize("wire", ["harmony", "chat"])
def test_a_key_is_sent_and_its_lack_is_said(wire: Any) -> None:
    with vllm_server(final("Hi."), key="secret") as server:
        (reply,) = ask(server, question(), key="secret", wire=wire)
        assert reply.text == "Hi."
        with pytest.raises(ProviderRefused, match="401: Unauthorized") as caught:
            ask(server, question(), wire=wire)
    assert caught.value.hint is not None
    assert "llm.vllm.api_key" in caught.value.hint


def test_no_server_is_an_error() -> None:
    async def main() -> None:
        async with open_vllm("http://127.0.0.1:9", retries=ONCE) as provider:
            await last_of(provider, question())

    with pytest.raises(ProviderUnreachable, match="can't be reached"):
        asyncio.run(main())


@pytest.mark.parametrize("wire", ["harmony", "chat"])
def test_closing_the_stream_aborts_the_request(wire: Any) -> None:
    aborted = threading.Event()

    def endless(handler: BaseHTTPRequestHandler, request: Any) -> None:
        chat = request.path.endswith("chat/completions")
        part = {"delta": {"content": "on "}} if chat else {"text": "<|channel|>final<|message|>on "}
        start_events(handler)
        with contextlib.suppress(ConnectionError):
            for _ in range(100_000):
                send_event(handler, {"choices": [{"index": 0, **part, "finish_reason": None}]})
            return
        aborted.set()

    with vllm_server(endless) as server:

        async def main() -> None:
            async with open_vllm(server.url, wire=wire) as provider:
                async with aclosing(provider.chat(QUESTION)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        assert isinstance(piece, Delta)
                        break
                assert await asyncio.to_thread(aborted.wait, 20)

        asyncio.run(main())


# The window


@pytest.mark.parametrize("wire", ["harmony", "chat"])
def test_the_window_is_the_server_s_asked_for_once(wire: Any) -> None:
    with vllm_server(final("Hi."), window=20_000) as server:

        async def main() -> list[int]:
            async with open_vllm(server.url, wire=wire) as provider:
                before = provider.max_tokens
                for _ in range(3):
                    await last_of(provider, question())
                    await asyncio.sleep(0.01)
                return [before, provider.max_tokens]

        assert asyncio.run(main()) == [131_072, 20_000]
    assert server.asked.count("/v1/models") == 1


def test_no_cap_is_the_rest_of_the_window_and_one_that_is_too_large_is_shrunk() -> None:
    with vllm_server(final("Hi."), window=4000) as server:
        ask(server, question(), question(), question(sampling=Sampling(max_tokens=50_000)))
    first, second, third = (request.json for request in server.requests)
    assert first["max_tokens"] == 131_072 - len(first["prompt"])
    assert second["max_tokens"] == third["max_tokens"] == 4000 - len(second["prompt"])


def test_a_prompt_that_leaves_no_room_is_not_sent() -> None:
    long = [*QUESTION, Message("user", "word " * 3500)]
    with vllm_server(final("Hi."), window=4000) as server:

        async def main() -> None:
            async with open_vllm(server.url) as provider:
                await last_of(provider, question())
                count = await provider.count_tokens(long)
                assert 3500 < count < 4000
                with pytest.raises(RequestTooLarge, match=f"the prompt has {count:,} tokens, too many for a window"):
                    await last_of(provider, question(messages=long))
                await last_of(provider, question(messages=long, sampling=Sampling(max_tokens=100)))

        asyncio.run(main())
    assert len(server.requests) == 2


def test_an_older_server_that_refuses_the_cap_is_asked_again_with_what_its_window_leaves() -> None:
    said = (
        "'max_tokens' or 'max_completion_tokens' is too large: 131000. This model's maximum context length is 4096 "
        "tokens and your request has 900 input tokens (131000 > 4096 - 900)."
    )
    for wire in ("harmony", "chat"):
        with vllm_server(refuse(400, said), final("Hi.")) as server:
            sampling = Sampling(max_tokens=100_000)
            (reply,) = ask(server, question(sampling=sampling), wire=wire)
        assert reply.text == "Hi."
        assert server.requests[0].json["max_tokens"] == 100_000
        assert server.requests[1].json["max_tokens"] < 4096


def test_a_prompt_is_counted_as_it_is_sent() -> None:
    with vllm_server(final("Hi.")) as server:

        async def main() -> int:
            async with open_vllm(server.url, date=DATE) as provider:
                await last_of(provider, question(OPEN))
                return await provider.count_tokens(QUESTION, [OPEN])

        assert asyncio.run(main()) == len(server.requests[0].json["prompt"])
    assert "/tokenize" not in server.asked


def test_another_model_s_prompt_is_counted_by_the_server_and_from_above_where_it_does_not() -> None:
    async def count(url: str, model: str) -> int:
        async with open_vllm(url, model) as provider:
            return await provider.count_tokens(QUESTION, [ADD])

    with vllm_server(final("Hi."), model="qwen3") as server:
        exact = asyncio.run(count(server.url, "qwen3"))
        assert server.asked == ["/tokenize"]
        above = asyncio.run(count(server.url, "other"))
    assert 20 < exact < above
