"""Calling a function: the ladder of means, what is repaired, what is asked again, and what it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    RequestTooLarge,
    UsageError,
)
from miyabi_cli.llm.calling import Called, call_at_cost, find_object, generate, means_of
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.messages import (
    ChatRequest,
    Delta,
    Function,
    LLMRequest,
    Message,
    Piece,
    Reply,
    Sampling,
    ToolCall,
    Usage,
)
from tests.support.server import chat_server, say

PAINT = Function(
    "paint",
    "Choose a colour.",
    {
        "type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}, "coats": {"type": "integer"}},
        "required": ["color"],
        "additionalProperties": False,
    },
)
ONE = Function("pick", "Pick.", {"type": "object", "properties": {"color": {"enum": ["red", "blue"]}}})
TEXT = Function("note", "Note.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
SKY = [Message("user", "The sky?")]
COST = Usage(1, 10, 0, 5, 0, 0.25)
ALL = Capabilities(tools=True, schema=True, forced=True)
PROMPT = Capabilities(tools=False, schema=False)
BLUE = '{"color": "blue"}'


class Scripted:
    """A model that answers from a script of replies, texts and errors, and keeps what it was asked."""

    name = "scripted"
    max_tokens = 1000

    def __init__(self, *script: Reply | str | ProviderError, capabilities: Capabilities = ALL) -> None:
        self.script = list(script)
        self.capabilities = capabilities
        self.requests: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        self.requests.append(request)
        turn = self.script.pop(0)
        if isinstance(turn, ProviderError):
            raise turn
        reply = Reply(turn, usage=COST) if isinstance(turn, str) else turn
        yield Delta(reply.text)
        yield reply

    def means(self) -> list[str]:
        return ["schema" if asked.schema else asked.forced or "prompt" for asked in self.requests]


def ask(model: Scripted, function: Function = PAINT, sampling: Sampling = Sampling()) -> Called:  # noqa: B008
    called = asyncio.run(call_at_cost(model, function, SKY, sampling))
    assert model.script == []
    return called


def called(arguments: str, name: str = "paint", text: str = "") -> Reply:
    return Reply(text, tool_calls=(ToolCall("call_1", name, arguments),), usage=COST, finish_reason="tool_calls")


def refused(status: int = 400, **detail: Any) -> ProviderRefused:
    return ProviderRefused("no such thing", status=status, detail=detail)


def test_the_best_means_of_each_server() -> None:
    assert means_of(ALL) == ["schema", "forced", "prompt"]
    assert means_of(Capabilities(tools=True, schema=False, forced=True)) == ["forced", "prompt"]
    assert means_of(Capabilities(tools=True, schema=True)) == ["schema", "prompt"]
    assert means_of(PROMPT) == ["prompt"]


def test_a_reply_that_is_bound_to_the_schema() -> None:
    model = Scripted(BLUE)
    assert ask(model) == Called({"color": "blue"}, COST)
    (request,) = model.requests
    assert (request.schema, request.functions, request.forced) == (PAINT.parameters, (), "")
    assert request.messages[0] == SKY[0]
    assert '"enum":["red","blue"]' in request.messages[-1].content
    assert request.messages[-1].content.startswith("Choose a colour.")


def test_a_forced_call() -> None:
    model = Scripted(called(BLUE), capabilities=Capabilities(tools=True, schema=False, forced=True))
    assert ask(model).arguments == {"color": "blue"}
    (request,) = model.requests
    assert (request.schema, request.functions, request.forced) == (None, (PAINT,), "paint")
    assert request.messages[-1].content == "Choose a colour.\nCall paint."


def test_means_that_the_server_has_refused_to_others_meanwhile_are_not_asked_for() -> None:
    class Learning(Scripted):
        async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
            self.capabilities = PROMPT
            async for piece in super().stream(request):
                yield piece

    model = Learning("no", BLUE)
    assert ask(model).arguments == {"color": "blue"}
    assert model.means() == ["schema", "prompt"]


@pytest.mark.parametrize("status", [400, 422, 501])
def test_means_that_are_refused_give_way_to_the_next_and_are_no_try(status: int) -> None:
    model = Scripted(refused(status), refused(status), "no", "no", BLUE)
    assert ask(model).arguments == {"color": "blue"}
    assert model.means() == ["schema", "paint", "prompt", "prompt", "prompt"]


def test_means_that_are_passed_over_give_way_to_the_next() -> None:
    model = Scripted("I would say blue.", "The sky is blue.", BLUE)
    assert ask(model) == Called({"color": "blue"}, COST + COST + COST)
    assert model.means() == ["schema", "paint", "prompt"]


def test_json_that_is_not_valid_does_not_cost_the_means() -> None:
    model = Scripted('{"color": "green"}', BLUE)
    assert ask(model).arguments == {"color": "blue"}
    assert model.means() == ["schema", "schema"]


@pytest.mark.parametrize(
    "error", [refused(401), refused(404), RequestTooLarge("x", status=400), ProviderOverloaded("x")]
)
def test_other_failures_are_raised_with_the_usage_so_far(error: ProviderError) -> None:
    error.usage = COST
    with pytest.raises(type(error)) as caught:
        ask(Scripted("no", error))
    assert caught.value.usage == COST + COST


def test_a_refusal_of_the_prompt_alone_is_raised() -> None:
    with pytest.raises(ProviderRefused, match="no such thing"):
        ask(Scripted(refused(), capabilities=PROMPT))


def test_what_a_server_refused_of_its_model_s_words_is_read() -> None:
    """Groq: 400 `json_validate_failed` or `tool_use_failed`, with the model's words in `failed_generation`."""
    words = '{"name": "paint", "arguments": {"color": "Blue", "coats": "2"}}'
    model = Scripted(refused(failed_generation=words, code="tool_use_failed"))
    assert ask(model).arguments == {"color": "blue", "coats": 2}
    model = Scripted(refused(failed_generation="no", code="json_validate_failed"), BLUE)
    assert ask(model).arguments == {"color": "blue"}


REPAIRED = [
    f"```json\n{BLUE}\n```",
    f"Here it is: {BLUE}, as asked.",
    f"Here:\n```\n{BLUE}\n```\nDone.",
    '{"color": "blue",}',
    "{'color': 'blue'}",
    '{"color": "BLUE"}',
    '{"Color": "blue"}',
    '{"color": "blue", "coats": null}',
    '{"color": "blue", "note": "extra"}',
    '{"color": ["blue"]}',
    json.dumps(BLUE),
    json.dumps(json.dumps(BLUE)),
    f'{{"arguments": {BLUE}}}',
    f'{{"name": "paint", "parameters": {BLUE}}}',
    json.dumps({"name": "paint", "arguments": BLUE}),
    f'{{"type": "function", "function": {{"name": "paint", "arguments": {BLUE}}}}}',
    f'{{"paint": {BLUE}}}',
    f"[{BLUE}]",
    f"{BLUE}<|call|>",
    '{"color": "green"} is wrong, so {"color": "blue"}',
]


@pytest.mark.parametrize("text", REPAIRED)
def test_what_is_nearly_right_is_repaired_and_not_asked_again(text: str) -> None:
    assert ask(Scripted(text)).arguments == {"color": "blue"}
    assert ask(Scripted(called(text))).arguments == {"color": "blue"}


def test_numbers_and_texts_of_the_other_kind() -> None:
    assert ask(Scripted('{"color": "red", "coats": "3"}')).arguments == {"color": "red", "coats": 3}
    assert ask(Scripted('{"text": 3}'), TEXT).arguments == {"text": "3"}
    assert ask(Scripted('{"text": "a\nb"}'), TEXT).arguments == {"text": "a\nb"}


def test_a_bare_value_for_the_only_argument() -> None:
    assert ask(Scripted('"blue"'), ONE).arguments == {"color": "blue"}
    assert ask(Scripted(" Blue\n"), ONE).arguments == {"color": "blue"}
    assert ask(Scripted('"I see."'), TEXT).arguments == {"text": "I see."}


def test_prose_is_never_taken_for_an_argument() -> None:
    model = Scripted("I can't do that.", '{"text": "x"}')
    assert ask(model, TEXT).arguments == {"text": "x"}


def test_a_reply_with_nothing_but_thought_is_looked_for_there_and_its_last_object_holds() -> None:
    thought = 'It wants {"color": "red"} or so. No: {"color": "blue"}.'
    assert ask(Scripted(Reply("", thought, usage=COST))).arguments == {"color": "blue"}
    model = Scripted(Reply("Hm.", thought, usage=COST), BLUE)
    ask(model)
    assert len(model.requests) == 2


def test_a_call_of_another_name_is_read_too() -> None:
    assert ask(Scripted(called(BLUE, "functions.paint<|channel|>commentary"))).arguments == {"color": "blue"}


def test_the_model_is_told_what_is_wrong_and_its_call_is_shown_as_text() -> None:
    model = Scripted(called('{"coats": "many", "color": "green"}'), BLUE)
    ask(model)
    *_, shown, told = model.requests[1].messages
    assert shown == Message("assistant", '{"coats": "many", "color": "green"}')
    assert told.role == "user"
    assert 'arguments.coats must be integer, and is "many"' in told.content
    assert "arguments.color must be one of ['red', 'blue'], and is \"green\"" in told.content


def test_a_long_reply_is_not_sent_back_whole_and_an_empty_one_not_at_all() -> None:
    model = Scripted("x" * 100_000, Reply("", usage=COST), BLUE)
    ask(model)
    assert len(model.requests[1].messages[-2].content) == 4000
    assert [message.role for message in model.requests[2].messages] == ["user", "user", "assistant", "user", "user"]


def test_three_tries_and_then_an_error_with_the_usage_of_all() -> None:
    with pytest.raises(BrokenReply, match="scripted gave no valid arguments for paint: arguments") as caught:
        ask(Scripted(*['{"color": "green"}'] * 3))
    assert caught.value.usage == COST + COST + COST


def test_a_reply_that_was_cut_off_is_asked_for_shorter_with_a_higher_cap() -> None:
    cut = Reply('{"color": "blue", "coats": {"color": "red"}', usage=COST, finish_reason="length")
    model = Scripted(cut, cut, BLUE)
    assert ask(model, sampling=Sampling(max_tokens=300)).arguments == {"color": "blue"}
    assert [asked.sampling.max_tokens for asked in model.requests] == [300, 500, 500]
    assert model.means() == ["schema"] * 3
    assert "cut off before its end" in model.requests[1].messages[-1].content
    model = Scripted(cut, BLUE)
    ask(model)
    assert model.requests[1].sampling.max_tokens is None


def test_a_whole_object_at_the_limit_is_taken() -> None:
    assert ask(Scripted(Reply(BLUE + "\n" * 50, usage=COST, finish_reason="length"))).arguments == {"color": "blue"}


@pytest.mark.parametrize("function", [Function("f", "", {"type": "array"}), Function("a b", "", {})])
def test_what_can_not_be_called_is_refused_before_anything_is_sent(function: Function) -> None:
    model = Scripted()
    with pytest.raises(UsageError):
        ask(model, function)
    assert model.requests == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "between 0 and 2"),
    ({"temperature": 2.1}, "between 0 and 2"),
    ({"temperature": float("nan")}, "between 0 and 2"),
    ({"max_tokens": 0}, "1 or more"),
    ({"max_tokens": 1.5}, "1 or more"),
    ({"effort": "extreme"}, "no effort 'extreme'"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_a_sampling_that_can_not_be_is_refused_before_anything_is_sent(options: dict[str, Any], words: str) -> None:
    model = Scripted()
    with pytest.raises(UsageError, match=words):
        ask(model, sampling=Sampling(**options))
    with pytest.raises(UsageError, match=words):
        asyncio.run(generate(model, LLMRequest("x", **options)))
    assert model.requests == []


def test_generate_asks_with_what_it_is_given() -> None:
    model = Scripted(Reply("hi", "hm", usage=COST, finish_reason="length"))
    response = asyncio.run(generate(model, LLMRequest("hello", temperature=2, max_tokens=1, effort="high")))
    assert (response.text, response.tokens_used, response.finish_reason, response.usage) == ("hi", 15, "length", COST)
    assert model.requests == [ChatRequest([Message("user", "hello")], sampling=Sampling(2, 1, "high"))]
    with pytest.raises(UsageError, match="the prompt is empty"):
        asyncio.run(generate(model, LLMRequest(" \n")))


def test_a_stream_without_a_reply_is_broken() -> None:
    class Silent(Scripted):
        async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
            yield Delta("x")

    with pytest.raises(BrokenReply, match="sent no reply"):
        asyncio.run(generate(Silent(), LLMRequest("x")))


def test_find_object() -> None:
    assert find_object(Reply(f"Here: {BLUE} {{}}")) == {"color": "blue"}
    assert find_object(called(BLUE, text='{"color": "red"}')) == {"color": "blue"}
    with pytest.raises(ValueError, match="no JSON object"):
        find_object(Reply("[1, 2]"))


def test_over_a_real_connection() -> None:
    """The schema goes out as the wire has it, and what is wrong goes back to the model."""

    async def main(url: str) -> dict[str, Any]:
        async with open_openai(url, "gpt-oss-20b") as provider:
            return await provider.call_function(PAINT, SKY)

    with chat_server(say('{"color": "green"}'), say(BLUE)) as server:
        assert asyncio.run(main(server.url)) == {"color": "blue"}
    first, second = (request.json for request in server.requests)
    assert first["response_format"]["json_schema"]["schema"]["properties"]["color"] == {"enum": ["red", "blue"]}
    assert "must be one of ['red', 'blue']" in second["messages"][-1]["content"]
