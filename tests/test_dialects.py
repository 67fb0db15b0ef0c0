"""What a server can do, learned from its refusals, which have the texts of real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    RequestTooLarge,
    ToolsRefused,
    UsageError,
)
from miyabi_cli.llm.chat.dialects import GROQ, OPENAI, VLLM, Dialect
from miyabi_cli.llm.chat.learning import LEARNABLE_STATUS, learn
from miyabi_cli.llm.openai import ChatCompletions, open_openai
from miyabi_cli.llm.profiles import profile_of
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.windows import Overflow, listed_window, overflow
from miyabi_cli.messages import ChatRequest, Function, Message, Reply, Sampling, ToolCall
from tests.support.server import chat_server, picky, say, send_error

ADD = Function("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
EVERYTHING = Sampling(temperature=0.2, max_tokens=9000, effort="low", seed=1)
HISTORY = [
    Message("user", "hello"),
    Message("assistant", "", thought="hm", tool_calls=(ToolCall("id-1", "add", '{"a": 1}'),)),
    Message("tool", "1", tool_call_id="id-1", tool_name="add"),
]
TEXT = ChatRequest(HISTORY, sampling=EVERYTHING, stop=["END"])
SCHEMA = replace(TEXT, schema=ADD.parameters)
TOOLS = replace(TEXT, functions=[ADD])
FORCED = replace(TOOLS, forced="add")

Body = dict[str, Any]


def error(text: str, **more: Any) -> Body:
    return {"error": {"message": text, "type": "invalid_request_error", **more}}


def extra(*loc: Any) -> Body:
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", *loc], "msg": "Extra inputs are not permitted"}]}


def send(url: str, *requests: ChatRequest, dialect: Dialect = OPENAI) -> tuple[ChatCompletions, list[Reply]]:
    async def main() -> tuple[ChatCompletions, list[Reply]]:
        wire = ChatCompletions(Server.at("openai", url, idle=5), "gpt-oss-20b", profile_of("gpt-oss-20b"), dialect)
        try:
            pieces = [piece for request in requests async for piece in wire.stream(request)]
        finally:
            await wire.close()
        return wire, [piece for piece in pieces if isinstance(piece, Reply)]

    return asyncio.run(main())


def holds(name: str) -> Callable[[Body], bool]:
    def held(body: Body) -> bool:
        return name in body or any(name in message for message in body["messages"])

    return held


def wants_max_completion_tokens(body: Body) -> bool:
    return "max_tokens" in body


# A refusal's status and body, what a request must hold to be refused, the request, and what it is instead.
LESSONS: Mapping[str, tuple[int, Any, Callable[[Body], bool], ChatRequest, Mapping[str, Any]]] = {
    "stream_options": (400, error("Unrecognized request argument supplied: stream_options"),
                       holds("stream_options"), TEXT, {"stream": True}),
    "stream_options, FastAPI": (422, extra("stream_options"), holds("stream_options"), TEXT, {"stream": True}),
    "effort, OpenAI": (400, error("Unrecognized request argument supplied: reasoning_effort"),
                       holds("reasoning_effort"), TEXT, {"seed": 1}),
    "effort, Ollama": (400, error('"qwen" does not support thinking'), holds("reasoning_effort"), TEXT, {"seed": 1}),
    "effort, Mistral": (422, {"object": "error", "message": extra("reasoning_effort"), "code": 3051},
                        holds("reasoning_effort"), TEXT, {"seed": 1}),
    "seed": (400, error("property 'seed' is unsupported"), holds("seed"), TEXT, {"stop": ["END"]}),
    "stop": (400, error("Unsupported parameter: 'stop' is not supported with this model.", param="stop"),
             holds("stop"), TEXT, {"seed": 1}),
    "top_p": (400, error("`temperature` and `top_p` cannot both be specified for this model.", param="top_p"),
              holds("top_p"), TEXT, {"temperature": 0.2}),
    "temperature": (400, error("Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
                               "default (1) value is supported.", param="temperature", code="unsupported_value"),
                    holds("temperature"), TEXT, {"top_p": 1.0}),
    "max_tokens": (400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                              "'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter"),
                   wants_max_completion_tokens, TEXT, {"max_completion_tokens": 9000}),
    "the cap's size": (400, error("max_tokens is too large: 9000. This model supports at most 4096 completion tokens, "
                                  "whereas you provided 9000.", param="max_tokens"),
                       lambda body: body["max_tokens"] > 4096, TEXT, {"max_tokens": 4096}),
    "the cap's range": (400, error("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
                        lambda body: body["max_tokens"] > 8192, TEXT, {"max_tokens": 8192}),
    "thought": (400, error("'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : "
                           "property 'reasoning' is unsupported)]"), holds("reasoning"), TEXT, {"seed": 1}),
    "thought, FastAPI": (422, extra("messages", 1, "assistant", "reasoning"), holds("reasoning"), TEXT, {"seed": 1}),
    "thought, OpenAI": (400, error("Unknown parameter: 'messages[1].reasoning'.", param="messages[1].reasoning"),
                        holds("reasoning"), TEXT, {"reasoning_effort": "low"}),
    "json_schema": (400, error("This response_format type is unavailable now"),
                    lambda body: body.get("response_format", {}).get("type") == "json_schema", SCHEMA,
                    {"response_format": {"type": "json_object"}}),
    "response_format": (400, error("response_format is not supported"), holds("response_format"), SCHEMA, {"seed": 1}),
    "a strict schema": (400, error("Invalid schema for response_format 'reply': In context=(), 'additionalProperties' "
                                   "is required to be supplied and to be false.", param="response_format"),
                        lambda body: body["response_format"]["json_schema"].get("strict", False), SCHEMA,
                        {"response_format": {"type": "json_schema",
                                             "json_schema": {"name": "reply", "schema": ADD.parameters}}}),
    "a streamed schema": (400, error("response_format `json_schema` is not supported with streaming"),
                          lambda body: body["stream"], SCHEMA, {"stream": False}),
    "streamed tools": (400, error("Streaming is not supported with tools"),
                       lambda body: body["stream"], TOOLS, {"stream": False}),
    "a named tool": (400, error("deepseek-reasoner does not support this tool_choice"),
                     lambda body: isinstance(body.get("tool_choice"), dict), FORCED, {"tool_choice": "required"}),
    "a forced tool": (400, error("tool_choice is not supported by this model", param="tool_choice"),
                      holds("tool_choice"), FORCED, {"seed": 1}),
    "a dot in a name": (400, error("Invalid 'messages[1].tool_calls[0].function.name': string does not match pattern. "
                                   "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."),
                        lambda body: "." in body["messages"][1]["tool_calls"][0]["function"]["name"],
                        replace(TEXT, messages=[HISTORY[0], replace(HISTORY[1], tool_calls=(
                            ToolCall("id-1", "repo.add", "{}"),)), HISTORY[2]]), {"seed": 1}),
    "parameter of a server that fails": (500, error("Unsupported param: seed", param="seed"), holds("seed"),
                                         TEXT, {"stop": ["END"]}),
    "a feature that is not there": (501, error("reasoning_effort is not implemented"), holds("reasoning_effort"),
                                    TEXT, {"seed": 1}),
    "a gateway's list": (400, [error('Invalid JSON payload received. Unknown name "seed": Cannot find field.')],
                         holds("seed"), TEXT, {"stop": ["END"]}),
}  # fmt: skip


@pytest.mark.parametrize("case", LESSONS)
def test_what_a_server_refuses_is_left_out_at_once_and_remembered(case: str) -> None:
    status, refusal, refused, request, instead = LESSONS[case]
    turn = picky(lambda body: (status, refusal) if refused(body) else None, say("fine"))
    with chat_server(turn) as server:
        _, replies = send(server.url, request, request)
    assert [reply.text for reply in replies] == ["fine", "fine"]
    bodies = [sent.json for sent in server.requests]
    lessons = [refused(body) for body in bodies]
    assert lessons[-2:] == [False, False]  # the second request asks once
    assert all(lessons[:-2])
    assert len(bodies) <= 5  # a schema has three forms
    for name, value in instead.items():
        assert bodies[-1][name] == value
    assert replies[0].usage.requests == len(bodies) - 1


def test_several_refusals_are_learned_one_after_the_other() -> None:
    names = ("stream_options", "seed", "reasoning_effort", "top_p", "stop", "max_tokens", "reasoning")

    def judge(body: Body) -> tuple[int, Body] | None:
        found = next((name for name in names if holds(name)(body)), None)
        return found and (400, error(f"Unknown parameter: '{found}'"))  # type: ignore[return-value]

    with chat_server(picky(judge, say("fine"))) as server:
        wire, _ = send(server.url, TEXT)
        assert len(server.requests) == len(names) + 1
    assert wire.dialect.cap_field == "max_completion_tokens"
    assert wire.dialect.thought_field == ""


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("Invalid request")),
        (400, error("messages must alternate between user and assistant")),
        (400, error("Failed to buffer the request body: length limit exceeded", code="seed")),
        (401, {"error": "Unauthorized"}),
        (403, error("seed is not allowed for this key")),
        (404, error("The model `gpt-oss` does not exist")),
        (422, extra("messages", 0, "content")),
    ],
)
def test_a_refusal_that_names_nothing_of_it_is_raised_as_it_is(status: int, body: Body) -> None:
    with chat_server(send_error(status, body)) as server:
        with pytest.raises(ProviderRefused) as caught:
            send(server.url, TOOLS)
        assert len(server.requests) == 1
    assert type(caught.value) is ProviderRefused
    assert str(status) in caught.value.message


def test_a_lesson_that_did_not_help_is_forgotten_and_the_refusal_raised() -> None:
    with chat_server(send_error(400, error("the seed must not rot"))) as server:

        async def main() -> None:
            wire = ChatCompletions(Server.at("openai", server.url), "gpt-oss-20b", profile_of("gpt-oss-20b"))
            with pytest.raises(ProviderRefused, match="rot"):
                await anext(wire.stream(TEXT))
            assert wire.dialect == OPENAI
            await wire.close()

        asyncio.run(main())
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "words",
    ["upstream stream ended unexpectedly", "seed node not responding", "tool calling is not available just now"],
)
def test_a_fault_of_a_server_that_passes_teaches_nothing(words: str) -> None:
    async def main(url: str) -> None:
        wire = ChatCompletions(Server.at("openai", url), "gpt-oss-20b", profile_of("gpt-oss-20b"))
        with pytest.raises(ProviderOverloaded):
            [piece async for piece in wire.stream(TOOLS)]
        assert wire.dialect == OPENAI
        await wire.close()

    with chat_server(send_error(500, error(words))) as server:
        asyncio.run(main(server.url))
        assert len(server.requests) == 1


LEFT_OUT = {
    "effort, OpenAI": ["openai refuses reasoning_effort: it is left out"],
    "seed": ["openai refuses seed: it is left out"],
    "temperature": ["openai refuses temperature: it is left out"],
    "max_tokens": [],
    "the cap's size": ["openai takes no cap above 4,096 tokens: no reply is longer"],
    "thought": ["openai refuses the model's own thought: it is not sent back"],
    "response_format": ["openai refuses to hold a reply to a schema: the model is told the schema instead"],
    "a strict schema": [],
    "streamed tools": ["openai refuses to stream some replies: they come as a whole"],
    "a named tool": [],
    "a forced tool": ["openai refuses to force a function: the model is left to choose"],
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_left_out_is_told_once(case: str) -> None:
    status, refusal, refused, request, _ = LESSONS[case]
    told: list[str] = []

    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b", tell=told.append) as provider:
            for asked in (request, request if request.forced == "" else TOOLS):
                [piece async for piece in provider.stream(asked)]

    with chat_server(picky(lambda body: (status, refusal) if refused(body) else None, say("fine"))) as server:
        asyncio.run(main(server.url))
    assert told == LEFT_OUT[case]


def test_a_schema_that_the_server_does_not_hold_is_told_to_the_model() -> None:
    refusal = (400, error("response_format is not supported"))
    turn = picky(lambda body: refusal if "response_format" in body else None, say('It is ```json\n{"a": 1}\n```'))
    asked: list[str] = []

    async def main(url: str) -> Reply:
        async with open_openai(url, "gpt-oss-20b") as provider:
            *_, reply = [piece async for piece in provider.chat([Message("user", "Go.")], schema=ADD.parameters)]
            assert not provider.capabilities.schema
            assert isinstance(reply, Reply)
            return reply

    with chat_server(turn) as server:
        assert json.loads(asyncio.run(main(server.url)).text) == {"a": 1}
        asked = [sent.json["messages"][-1]["content"] for sent in server.requests]
    assert asked[0] == "Go."
    assert json.dumps(ADD.parameters, separators=(",", ":")) in asked[-1]


@pytest.mark.parametrize("text", ["no json at all", '{"a": "x"}', "[1]", ""])
def test_a_text_that_does_not_obey_the_schema_is_no_success(text: str) -> None:
    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b") as provider:
            with pytest.raises(BrokenReply, match="does not obey") as caught:
                [piece async for piece in provider.chat([Message("user", "Go.")], schema=ADD.parameters)]
            assert caught.value.usage.requests == 1

    with chat_server(say(text)) as server:
        asyncio.run(main(server.url))


def test_a_text_that_was_cut_is_given_as_it_is() -> None:
    async def main(url: str) -> list[Any]:
        async with open_openai(url, "gpt-oss-20b") as provider:
            return [piece async for piece in provider.chat([Message("user", "Go.")], schema=ADD.parameters)]

    with chat_server(say('{"a": ', finish="length")) as server:
        assert asyncio.run(main(server.url))[-1].text == '{"a": '


REFUSED: Mapping[str, tuple[ChatRequest, Dialect]] = {
    "together with a schema": (replace(TOOLS, schema=ADD.parameters), OPENAI),
    "is not among the functions": (replace(TOOLS, forced="other"), OPENAI),
    "can't be told which function": (FORCED, Dialect(forcing="")),
    "no effort 'max'": (replace(TEXT, sampling=Sampling(effort="max")), OPENAI),  # type: ignore[arg-type]
    "temperature": (replace(TEXT, sampling=Sampling(temperature=9)), OPENAI),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_request_that_would_be_obeyed_in_part_alone_is_not_sent(why: str) -> None:
    request, dialect = REFUSED[why]

    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b", dialect=dialect) as provider:
            with pytest.raises(UsageError, match=why):
                [piece async for piece in provider.stream(request)]

    with chat_server(say("fine")) as server:
        asyncio.run(main(server.url))
        assert server.requests == []


def test_lessons_are_bounded() -> None:
    count = iter(range(1000))

    def judge(body: Body) -> tuple[int, Body]:
        names = sorted({"seed", "stop", "top_p", "temperature", "max_tokens", "reasoning_effort"} & set(body))
        return 400, error(f"unsupported {next(count)}: {names[:1]}")

    with chat_server(picky(judge, say("never"))) as server:
        with pytest.raises(ProviderRefused):
            send(server.url, TEXT)
        assert len(server.requests) < 14


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (400, error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'), "vLLM"),
        (500, error("tools param requires --jinja flag"), "--jinja"),
        (400, error("registry.ollama.ai/library/gemma:latest does not support tools"), "tools: schema"),
        (404, error("No endpoints found that support tool use. Try disabling tools"), "tools: schema"),
        (400, error("`tool calling` is not supported with this model"), "tools: schema"),
        (400, error("tools is not supported in this model"), "tools: schema"),
        (400, error("Function calling is not supported for this model"), "tools: schema"),
        (400, error("Unrecognized request argument supplied: tools"), "tools: schema"),
        (422, extra("tools"), "tools: schema"),
    ],
)
def test_a_server_that_takes_no_functions_says_so_once(status: int, body: Body, hint: str) -> None:
    turn = picky(lambda sent: (status, body) if "tools" in sent else None, say("fine"))

    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b", retries=Retries(attempts=1)) as provider:
            assert provider.capabilities.tools
            for _ in range(2):
                with pytest.raises(ToolsRefused) as caught:
                    [piece async for piece in provider.stream(TOOLS)]
                assert caught.value.hint
            assert not provider.capabilities.tools
            assert provider.capabilities.schema
            *_, reply = [piece async for piece in provider.stream(SCHEMA)]
            assert isinstance(reply, Reply)

    with chat_server(turn) as server:
        with pytest.raises(ToolsRefused) as caught:
            send(server.url, TOOLS)
        assert hint in (caught.value.hint or "")
        server.requests.clear()
        asyncio.run(main(server.url))
        assert len(server.requests) == 2  # the second try with functions does not reach the server


def test_parallel_calls_that_are_refused_are_not_tools_that_are() -> None:
    body = error("This model only supports single tool-calls at once! parallel tool calls are not supported")
    with chat_server(send_error(400, body)) as server, pytest.raises(ProviderRefused) as caught:
        send(server.url, TOOLS)
    assert type(caught.value) is ProviderRefused


@pytest.mark.parametrize(("seen", "sent"), [("reasoning_content", "reasoning_content"), ("reasoning", "reasoning")])
def test_thought_goes_back_under_the_name_it_came_under(seen: str, sent: str) -> None:
    answer = {"choices": [{"message": {"content": "a", seen: "hm"}, "finish_reason": "stop"}]}
    with chat_server(send_error(200, answer)) as server:
        send(server.url, ChatRequest([Message("user", "hi")]), TEXT)
        assert server.requests[1].json["messages"][1][sent] == "hm"
        send(server.url, ChatRequest([Message("user", "hi")]), TEXT, dialect=GROQ)
        assert server.requests[3].json["messages"][1]["reasoning"] == "hm"


def test_thought_that_was_refused_is_not_sent_again_though_it_comes() -> None:
    def judge(body: Body) -> tuple[int, Body] | None:
        return (400, error("property 'reasoning' is unsupported")) if holds("reasoning")(body) else None

    with chat_server(picky(judge, say("fine", thought="hm"))) as server:
        send(server.url, TEXT, TEXT)
        assert [holds("reasoning")(sent.json) for sent in server.requests] == [True, False, False]


def test_each_server_s_dialect_is_what_is_written_of_it() -> None:
    with chat_server(picky(lambda _: None, say("{}"))) as server:
        send(server.url, SCHEMA, FORCED, dialect=GROQ)
        send(server.url, SCHEMA, FORCED, dialect=VLLM)
    groq_schema, groq_forced, vllm_schema, vllm_forced = (sent.json for sent in server.requests)
    assert (groq_schema["stream"], groq_schema["max_completion_tokens"]) == (False, 9000)
    assert "stream_options" not in groq_schema
    assert groq_schema["response_format"]["json_schema"]["strict"] is True
    assert (vllm_schema["stream"], vllm_schema["max_tokens"]) == (True, 9000)
    for body in (groq_forced, vllm_forced):
        assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
        assert "response_format" not in body


def test_a_dialect_s_own_options_and_route_are_used() -> None:
    dialect = Dialect(extra={"service_tier": "flex"}, path="chat", strict_functions=True, forcing="required")
    other = replace(ADD, name="other")
    with chat_server(picky(lambda _: None, say("{}"))) as server:
        send(server.url, replace(FORCED, functions=[ADD, other]), dialect=dialect)
    (request,) = server.requests
    assert request.path == "/chat"
    assert request.json["service_tier"] == "flex"
    assert [tool["function"]["name"] for tool in request.json["tools"]] == ["add"]
    assert request.json["tools"][0]["function"]["strict"] is True


def test_a_schema_is_never_sent_beside_functions() -> None:
    with chat_server(say("{}")) as server:
        send(server.url, replace(TOOLS, schema=ADD.parameters))
    assert "response_format" not in server.requests[0].json


OVERFLOWS = {
    "OpenAI": ("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (4000 in the "
               "messages, 5000 in the completion). Please reduce the length of the messages.", 8192, 4000),
    "vLLM": ("'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum context length is "
             "8192 tokens and your request has 100 input tokens (64000 > 8192 - 100).", 8192, 100),
    "vLLM 0.33": ("You passed 8193 input tokens and requested 1 output tokens. However, the model's context length is "
                  "only 8192 tokens, resulting in a maximum input length of 8191 tokens.", 8192, 8193),
    "vLLM, older": ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096, 5000),
    "SGLang": ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", 8192, 9000),
    "llama.cpp": ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
                  8192, 9000),
    "Mistral": ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context "
                "length", 32768, 40000),
    "Anthropic": ("prompt is too long: 208310 tokens > 200000 maximum", 200000, 208310),
    "Gemini": ("The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
               1048576, 2000000),
    "TGI": ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`",
            4096, None),
    "OpenAI, newer": ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 "
                      "tokens. Please reduce the length of the messages.", 272000, 300000),
    "no figure": ("context_length_exceeded", None, None),
}  # fmt: skip


@pytest.mark.parametrize("server", OVERFLOWS)
def test_an_overflow_is_told_from_other_refusals_and_its_figures_are_read(server: str) -> None:
    said, window, prompt = OVERFLOWS[server]
    with chat_server(send_error(400, error(said))) as played, pytest.raises(RequestTooLarge) as caught:
        send(played.url, replace(TOOLS, sampling=Sampling()))
    told = overflow(caught.value)
    assert told.window == window
    if prompt:
        assert told.prompt == prompt


def test_llama_cpp_s_figures_stand_in_its_error_object() -> None:
    body = error("the request exceeds the available context size. try increasing it", n_ctx=4096, n_prompt_tokens=5000)
    with chat_server(send_error(400, body)) as server, pytest.raises(RequestTooLarge) as caught:
        send(server.url, TEXT)
    assert overflow(caught.value) == Overflow(4096, 5000)


def test_the_window_is_learned_from_an_overflow_and_a_cap_that_leaves_room_is_shrunk() -> None:
    text = OVERFLOWS["vLLM"][0]

    def judge(body: Body) -> tuple[int, Body] | None:
        return (400, error(text)) if body["max_tokens"] > 8192 - 100 else None

    with chat_server(picky(judge, say("fine"))) as server:
        wire, (reply,) = send(server.url, TEXT)
        assert [sent.json["max_tokens"] for sent in server.requests] == [9000, 8091]
    assert (reply.text, wire.max_tokens) == ("fine", 8192)
    full = text.replace("100 input", "8000 input")
    with chat_server(send_error(400, error(full))) as server:
        with pytest.raises(RequestTooLarge):
            send(server.url, TEXT)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"max_model_len": 40960}, 40960),
        ({"context_window": 131072}, 131072),
        ({"context_length": 65536}, 65536),
        ({"max_context_length": 131072, "loaded_context_length": 4096}, 4096),
        ({"max_model_len": "many"}, None),
        ({"max_model_len": True}, None),
        ({"max_model_len": 10**30}, None),
        ({}, None),
    ],
)
def test_the_window_is_read_in_a_list_of_models(entry: Body, window: int | None) -> None:
    models = {"data": [{"id": "other", "max_model_len": 999}, {"id": "m", **entry}]}
    assert listed_window(models, "m") == window
    assert listed_window({"data": "x"}, "m") is None


def test_the_server_is_asked_for_its_window_only_when_a_prompt_comes_near_it() -> None:
    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b") as provider:
            await provider.count_tokens([Message("user", "short")])
            assert provider.max_tokens == 131_072
            await provider.count_tokens([Message("user", "long " * 10_000)])
            assert provider.max_tokens == 4096

    with chat_server(say("fine")) as server:
        server.models = ["gpt-oss-20b"]
        server.model_fields = {"max_model_len": 4096}
        asyncio.run(main(server.url))
        assert server.asked == ["/v1/models"]


def test_llama_cpp_tells_its_own_window_beside_the_model_s() -> None:
    async def main(url: str) -> None:
        wire = ChatCompletions(Server.at("openai", url), "gpt-oss-20b", profile_of("gpt-oss-20b"))
        assert await wire.ask_window() == 8192
        assert await wire.ask_window() == 8192
        await wire.close()

    with chat_server(say("fine")) as server:
        server.models = ["gpt-oss-20b"]
        server.model_fields = {"meta": {"n_ctx_train": 131072}}
        server.properties = {"default_generation_settings": {"n_ctx": 8192}}
        asyncio.run(main(server.url))
        assert server.asked == ["/v1/models", "/props"]


def test_a_server_that_lists_no_models_leaves_the_model_s_window() -> None:
    async def main(url: str) -> None:
        async with open_openai(url, "gpt-oss-20b") as provider:
            await provider.count_tokens([Message("user", "long " * 10_000)])
            assert provider.max_tokens == 131_072

    with chat_server(say("fine")) as server:
        asyncio.run(main(server.url))


@pytest.mark.parametrize("status", sorted(LEARNABLE_STATUS))
def test_a_hostile_refusal_is_read_in_bounds(status: int) -> None:
    nested: Any = "seed"
    for _ in range(60):
        nested = {"detail": [nested, "x"]}
    failure = ProviderError("not " * 5000 + "(" * 5000, status=status, detail=nested if status != 400 else {"loc": 7})
    assert learn(OPENAI, frozenset({"seed", "stop", "name"}), failure) is None
