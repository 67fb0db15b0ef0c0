"""Ollama's native API: what is asked, what is read, and what is made of its failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    RequestTooLarge,
    SettingsError,
    ToolsRefused,
    UsageError,
)
from miyabi_cli.fences import fenced
from miyabi_cli.llm.native.encoding import full_name, is_cloud, plain_name
from miyabi_cli.llm.native.reading import OllamaCollector, offered_name
from miyabi_cli.llm.ollama import open_ollama
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Reply, Sampling, Timing, ToolCall, Waiting
from tests.conftest import Miyabi
from tests.support.ollama import (
    BUSY,
    Model,
    call,
    fail,
    lines,
    ollama_server,
    part,
    say,
    send_bytes,
    send_json,
    send_line,
    start_lines,
)
from tests.test_codegen import FIX, TASK

FIXTURES = Path(__file__).parent / "fixtures/ollama"
HELLO = [Message("user", "Say hello.")]
ADD = Function(
    "add",
    "Add two numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)
EXEC = Function(
    "exec",
    "Run a command.",
    {"type": "object", "properties": {"cmd": {"type": "array"}, "workdir": {"type": "string"}}, "required": ["cmd"]},
    namespace="container",
)
COLOR = {"type": "object", "properties": {"color": {"enum": ["red", "blue"]}}, "required": ["color"]}


class Waits:
    """Retries that wait no time, and remember how long they would have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def retries(self, attempts: int = 4) -> Retries:
        return Retries(attempts=attempts, sleep=self.sleep, jitter=lambda: 1.0)


def opened(server: Any, model: str = "gpt-oss:20b", *, waits: Waits | None = None, **options: Any) -> Provider:
    return open_ollama(server.url, model, retries=(waits or Waits()).retries(), **options)


async def chat(
    provider: Provider, messages: Sequence[Message] = HELLO, functions: Sequence[Function] = (), **options: Any
) -> tuple[list[Any], Reply]:
    """Return what streamed in, and the reply."""
    pieces = [piece async for piece in provider.chat(messages, functions, **options)]
    *rest, reply = pieces
    assert isinstance(reply, Reply)
    return rest, reply


def ask(server: Any, *arguments: Any, open: dict[str, Any] | None = None, **options: Any) -> Reply:
    async def main() -> Reply:
        async with opened(server, **(open or {})) as provider:
            return (await chat(provider, *arguments, **options))[1]

    return asyncio.run(main())


def test_a_request_says_all_that_ollama_would_choose_otherwise() -> None:
    with ollama_server(say("Hi.")) as server:
        sampling = Sampling(max_tokens=99, effort="high", seed=7)
        reply = ask(server, HELLO, sampling=sampling, stop=("END",))
    assert reply.text == "Hi."
    assert server.chats == [
        {
            "model": "gpt-oss:20b",
            "stream": True,
            "options": {
                "num_ctx": 65536,
                "temperature": 1.0,
                "top_p": 1.0,
                "top_k": 0,
                "num_predict": 99,
                "seed": 7,
                "stop": ["END"],
            },
            "keep_alive": 300,
            "truncate": False,
            "shift": False,
            "think": "high",
            "messages": [{"role": "user", "content": "Say hello."}],
        }
    ]


@pytest.mark.parametrize(("given_value", "sent"), [(0.0, 0), (-1.0, -1), (300.0, 300), (0.5, 0.5), ("5m", "5m")])
def test_keep_alive_is_in_ollama_s_forms(given_value: float | str, sent: Any) -> None:
    with ollama_server() as server:
        ask(server, open={"keep_alive": given_value})
    assert server.chats[0]["keep_alive"] == sent


def test_an_endpoint_has_many_forms() -> None:
    with ollama_server() as server:
        server.url += "/v1/"
        ask(server)
    assert server.paths()[0] == "/api/chat"
    with pytest.raises(SettingsError, match="the endpoint of ollama is wrong: expected"):
        open_ollama("ftp://localhost")


def test_what_the_user_does_not_choose_is_left_out() -> None:
    with ollama_server(models=[Model("llama3.2:latest", thinks=False)]) as server:
        ask(server, open={"model": "llama3.2"})
    assert server.chats[0]["options"] == {"num_ctx": 65536}
    assert "think" not in server.chats[0]
    assert "tools" not in server.chats[0]


def test_thought_text_call_and_usage_are_read() -> None:
    thought = "I have to add, so I call the tool."
    turn = call("add", {"a": 1, "b": 2}, thought=thought, text="Adding.")
    with ollama_server(turn) as server:

        async def main() -> None:
            async with opened(server) as provider:
                deltas, reply = await chat(provider, HELLO, [ADD])
                assert "".join(delta.thought for delta in deltas) == thought
                assert "".join(delta.text for delta in deltas) == "Adding."
                assert reply.tool_calls == (ToolCall("call_ab12cd34", "add", '{"a": 1, "b": 2}'),)
                assert (reply.text, reply.thought, reply.finish_reason) == ("Adding.", thought, "stop")
                assert (reply.usage.output_tokens, reply.usage.requests, reply.usage.cost_usd) == (9, 1, 0.0)
                assert reply.usage.input_tokens > 0
                assert reply.timing.first_token is not None

        asyncio.run(main())
    tool = server.chats[0]["tools"][0]
    assert tool == {
        "type": "function",
        "function": {"name": "add", "description": "Add two numbers.", "parameters": ADD.parameters},
    }


def test_a_call_goes_back_as_ollama_wants_it() -> None:
    history = [
        *HELLO,
        Message("assistant", "", thought="Run it.", tool_calls=(ToolCall("c1", "container.exec", '{"cmd": ["ls"]}'),)),
        Message("tool", "a.py", tool_call_id="c1", tool_name="container.exec"),
        Message("assistant", "", tool_calls=(ToolCall("c2", "exec", "ls -R"), ToolCall("c3", "exec", "[1]"))),
        Message("tool", "b.py", tool_call_id="c2"),
        Message("tool", "lost", tool_call_id="c9", tool_name="exec"),
        Message("assistant", "Done.", thought="That was all."),
        Message("user", "Again."),
    ]
    with ollama_server() as server:
        ask(server, history, [EXEC])
    assert server.chats[0]["messages"] == [
        {"role": "user", "content": "Say hello."},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Run it.",
            "tool_calls": [{"id": "c1", "function": {"name": "container_exec", "arguments": {"cmd": ["ls"]}}}],
        },
        {"role": "tool", "content": "a.py", "tool_name": "container_exec", "tool_call_id": "c1"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c2", "function": {"name": "exec", "arguments": {"arguments": "ls -R"}}},
                {"id": "c3", "function": {"name": "exec", "arguments": {"arguments": "[1]"}}},
            ],
        },
        {"role": "tool", "content": "b.py", "tool_name": "exec", "tool_call_id": "c2"},
        {"role": "user", "content": f"Result of exec:\n{fenced('lost')}"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Again."},
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("get_user_name", "get-user.name"),
        ("get-user.name", "get-user.name"),
        ("functions.get_user_name", "get-user.name"),
        ("get_user_name<|channel|>commentary", "get-user.name"),
        ("add<|channel|>analysis", "add"),
        ("functions.add", "add"),
        ("a_b", "a_b"),  # two functions would be shown under that name
        ("container.exec", "container.exec"),  # not offered: the tools know their aliases
        ("", "unknown"),
    ],
)
def test_a_name_means_the_function_that_was_offered(written: str, meant: str) -> None:
    names = ("get-user.name", "add", "a-b", "a.b")
    assert offered_name(written, [Function(name, "", {}) for name in names]) == meant


def test_plain_names_are_those_of_ollama() -> None:
    names = {"a-b.c d": "a_b_c_d", "été$1": "été$1", "2x": "_2x", "!?": "unnamed", "exec": "exec"}
    assert {name: plain_name(name) for name in names} == names


@pytest.mark.parametrize(
    ("name", "cloud"),
    [
        ("gpt-oss:20b-cloud", True),
        ("gpt-oss:cloud", True),
        ("gpt-oss:20b:Cloud", True),
        ("gpt-oss:20b", False),
        ("my-cloud", False),
        ("my-cloud-model:latest", False),
        ("host:1-cloud/model", False),
    ],
)
def test_a_cloud_model_is_told_by_its_name(name: str, cloud: bool) -> None:
    assert is_cloud(name) == cloud


def test_names_are_compared_in_one_form() -> None:
    assert full_name("gpt-oss") == full_name("registry.ollama.ai/library/GPT-OSS:latest") == "gpt-oss:latest"
    assert full_name("host:5000/a/b") == "host:5000/a/b:latest"


def test_calls_without_ids_get_ids_of_their_own() -> None:
    with ollama_server(call("add", {"a": 1, "b": 2}, identity="")) as server:
        first, second = ask(server, HELLO, [ADD]), ask(server, HELLO, [ADD])
    assert first.tool_calls[0].id != second.tool_calls[0].id
    assert first.tool_calls[0].id


def test_a_call_may_come_before_the_last_line_and_beside_text_and_thought() -> None:
    function = {"name": "add", "arguments": {"a": 1, "b": 2}, "later": True}
    turn = lines(
        part(content="Well.", thinking="Hm.", tool_calls=[{"function": function}], images=None),
        {"new": "field", "done": False},
        part(done=True),
    )
    with ollama_server(turn) as server:
        reply = ask(server, HELLO, [ADD])
    assert (reply.text, reply.thought, reply.tool_calls[0].arguments) == ("Well.", "Hm.", '{"a": 1, "b": 2}')


def test_a_call_in_the_text_is_found() -> None:
    leaked = '<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1, "b": 2}'
    with ollama_server(say(leaked)) as server:
        reply = ask(server, HELLO, [ADD])
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [("add", {"a": 1, "b": 2})]


def test_the_cached_part_of_a_prompt_is_counted() -> None:
    with ollama_server(say("Hi.", prompt_eval_count=200, prompt_eval_cached_count=150)) as server:
        usage = ask(server).usage
    assert (usage.input_tokens, usage.cached_tokens) == (200, 150)


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_the_reason_for_the_end_is_the_server_s(reason: str) -> None:
    with ollama_server(say("Hi.", reason=reason)) as server:
        assert ask(server).finish_reason == reason


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_a_load_alone_is_no_reply(reason: str) -> None:
    with ollama_server(say("", reason=reason), say("Hi.")) as server:
        assert ask(server).text == "Hi."
    assert len(server.chats) == 2


def test_a_reply_that_is_not_streamed_is_read_too() -> None:
    def whole(handler: Any, _: Any) -> None:
        body = json.dumps(part(done=True, content="Hi.", thinking="Hm."), indent=2).encode()
        send_bytes(handler, 200, body, "application/json")

    def labelled(handler: Any, _: Any) -> None:
        body = b"\n".join(json.dumps(one).encode() for one in (part(content="Hi."), part(done=True)))
        send_bytes(handler, 200, body, "application/json")

    with ollama_server(whole, labelled) as server:
        assert (ask(server).text, ask(server).text) == ("Hi.", "Hi.")


# The window


def test_the_context_is_verified_once() -> None:
    with ollama_server() as server:

        async def main() -> None:
            async with opened(server) as provider:
                await chat(provider)
                await chat(provider)
                assert provider.max_tokens == 65536

        asyncio.run(main())
    assert server.paths() == ["/api/chat", "/api/ps", "/api/chat"]


def test_a_smaller_context_becomes_the_window_and_is_told() -> None:
    told: list[str] = []
    with ollama_server(capped=8192) as server:

        async def main() -> None:
            async with opened(server, tell=told.append) as provider:
                await chat(provider)
                assert provider.max_tokens == 8192

        asyncio.run(main())
    assert told == ["ollama has loaded gpt-oss:20b with 8,192 tokens of context, not 65,536"]


def test_the_context_is_looked_at_again_where_the_model_was_loaded_anew() -> None:
    told: list[str] = []
    anew = say("Hi.", load_duration=3_000_000_000)
    with ollama_server(say("Hi."), say("Hi."), anew) as server:

        async def main() -> None:
            async with opened(server, tell=told.append) as provider:
                await chat(provider)
                server.capped = 8192
                await chat(provider)
                assert provider.max_tokens == 65536
                for _ in range(2):
                    await chat(provider)
                    assert provider.max_tokens == 8192

        asyncio.run(main())
    assert told == ["ollama has loaded gpt-oss:20b with 8,192 tokens of context, not 65,536"]


def test_a_model_that_is_unloaded_at_once_can_not_be_looked_at() -> None:
    with ollama_server() as server:
        ask(server, open={"keep_alive": 0})
        assert server.loaded == {}


@pytest.mark.parametrize(
    ("status", "listed"),
    [
        (404, {"error": "not found"}),
        (200, []),
        (200, {"models": {"gpt-oss:20b": 4096}}),
        (200, {"models": [7, {"name": None}, {"name": "gpt-oss:20b", "context_length": "4096"}]}),
        (200, {"models": [{"name": "gpt-oss:20b"}]}),  # servers before 0.9 do not say it
    ],
)
def test_a_server_that_does_not_say_what_is_loaded_is_no_failure(status: int, listed: Any) -> None:
    with ollama_server(status_of_models=(status, listed)) as server:

        async def main() -> None:
            async with opened(server) as provider:
                await chat(provider)
                assert provider.max_tokens == 65536

        asyncio.run(main())


def test_a_prompt_that_does_not_fit_is_refused_and_not_cut() -> None:
    told: list[str] = []

    async def main() -> None:
        async with opened(server, tell=told.append) as provider:
            with pytest.raises(RequestTooLarge) as caught:
                await chat(provider, [Message("user", "many words and more " * 2000)])
            assert caught.value.status == 400
            assert "num_ctx" in str(caught.value.hint)
            assert provider.max_tokens == 4096  # so that the next prompt is made to fit

    with ollama_server(capped=4096) as server:
        asyncio.run(main())
    assert len(server.chats) == 1
    assert len(told) == 1


def test_llama_cpp_s_own_words_tell_the_window() -> None:
    inner = {"code": 400, "message": "request (9000 tokens) exceeds the available context size (4096 tokens)"}
    error = json.dumps(
        {"error": {**inner, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}
    )
    with ollama_server(fail(400, error)) as server:

        async def main() -> None:
            async with opened(server) as provider:
                with pytest.raises(RequestTooLarge, match=r"ollama answered 400: request \(9000 tokens\) exceeds"):
                    await chat(provider)
                assert provider.max_tokens == 4096

        asyncio.run(main())


@pytest.mark.parametrize("hidden", [False, True])
def test_a_prompt_that_was_cut_in_silence_is_an_error(hidden: bool) -> None:
    """An old server cuts, and another lies about the context that it has."""

    def shown(handler: Any, body: dict[str, Any]) -> None:
        if hidden:
            server.loaded["gpt-oss:20b"] = 65536
        lines(part(content="Hi."), {**part(done=True), "prompt_eval_count": 4096})(handler, body)

    with ollama_server(shown, capped=4096, cuts=True) as server:

        async def main() -> None:
            async with opened(server) as provider:
                messages = [Message("user", "".join(f"value {number} of the table\n" for number in range(4000)))]
                with pytest.raises(RequestTooLarge, match="has cut the prompt: it read 4,096 of about") as caught:
                    await chat(provider, messages)
                assert caught.value.usage.input_tokens == 4096
                assert provider.max_tokens == (65536 if hidden else 4096)

        asyncio.run(main())


@pytest.mark.parametrize("count", [None, 0, 12])
def test_a_count_of_what_was_not_cached_is_no_cut_prompt(count: int | None) -> None:
    """Servers before 0.2 counted so, and left a 0 out."""
    messages = [Message("user", "some words of a prompt " * 500)]
    with ollama_server(say("Hi.", prompt_eval_count=count)) as server:
        assert ask(server, messages).usage.input_tokens == (count or 0)


def test_the_count_of_a_prompt_is_gpt_oss_s_own() -> None:
    async def main() -> None:
        async with open_ollama("http://127.0.0.1:9", "gpt-oss:20b") as provider:
            assert 50 < await provider.count_tokens([Message("user", "word " * 20)]) < 120
        async with open_ollama("http://127.0.0.1:9", "llama3.2") as provider:
            assert await provider.count_tokens([Message("user", "word " * 20)]) > 100

    asyncio.run(main())


# Thought, tools and schemas


def test_a_model_that_does_not_think_is_not_asked_to_again() -> None:
    told: list[str] = []
    with ollama_server(models=[Model("llama3.2:latest", thinks=False)]) as server:

        async def main() -> None:
            async with opened(server, "llama3.2", tell=told.append) as provider:
                for _ in range(2):
                    await chat(provider, sampling=Sampling(effort="high"))

        asyncio.run(main())
    assert [chat.get("think") for chat in server.chats] == [True, None, None]
    assert told == ["ollama's llama3.2 refuses an effort of thought: it is left out"]


def test_a_model_without_tools_says_so() -> None:
    with ollama_server(models=[Model("tiny:latest", tools=False)]) as server:

        async def main() -> None:
            async with opened(server, "tiny") as provider:
                with pytest.raises(ToolsRefused, match="does not support tools"):
                    await chat(provider, HELLO, [ADD])
                assert not provider.capabilities.tools

        asyncio.run(main())
    assert len(server.chats) == 1


def test_a_schema_is_the_format_and_in_the_prompt() -> None:
    with ollama_server(say('{"color": "red"}')) as server:
        ask(server, [Message("user", "The sky?")], schema=COLOR)
        told = server.chats[0]["messages"][-1]["content"]
        ask(server, [Message("user", told)], schema=COLOR)
    assert server.chats[0]["format"] == COLOR
    assert told.startswith("The sky?\n")
    assert json.dumps(COLOR, separators=(",", ":")) in told
    assert server.chats[1]["messages"][-1]["content"] == told


def test_a_schema_never_goes_with_tools() -> None:
    async def main() -> None:
        async with opened(server) as provider:
            for request in (ChatRequest(HELLO, [ADD], schema=COLOR), ChatRequest(HELLO, [ADD], forced="add")):
                with pytest.raises(UsageError):
                    [piece async for piece in provider.stream(request)]

    with ollama_server() as server:
        asyncio.run(main())
    assert server.chats == []


def test_a_schema_is_told_also_behind_a_message_that_is_not_the_user_s() -> None:
    with ollama_server(say('{"color": "red"}')) as server:
        ask(server, [Message("user", "The sky?"), Message("assistant", "Hm.")], schema=COLOR)
    *_, before, last = server.chats[0]["messages"]
    assert (before["content"], last["role"]) == ("Hm.", "user")
    assert json.dumps(COLOR, separators=(",", ":")) in last["content"]


def test_a_function_is_called_by_its_schema() -> None:
    paint = Function("paint", "Choose a colour.", COLOR)

    async def main(provider: Provider) -> dict[str, Any]:
        async with provider:
            return await provider.call_function(paint, [Message("user", "The sky?")])

    with ollama_server(say("Blue, I would say."), say('{"color": "blue"}')) as server:
        assert asyncio.run(main(opened(server))) == {"color": "blue"}
    assert server.chats[0]["format"] == COLOR


def test_a_gap_is_filled_by_the_model_s_own_marks() -> None:
    async def main(provider: Provider) -> Reply:
        async with provider:
            return await provider.infill("def f():\n    return ", "\n", max_tokens=8, stop=["\n"])

    with ollama_server({"text": "1"}, models=[Model("qwen2.5-coder:1.5b", thinks=False)]) as server:
        assert asyncio.run(main(opened(server, "qwen2.5-coder:1.5b"))).text == "1"
    body = server.asked[0].json
    assert (server.asked[0].path, body["raw"], body["options"]["num_predict"]) == ("/api/generate", True, 8)
    assert body["prompt"] == "<|fim_prefix|>def f():\n    return <|fim_suffix|>\n<|fim_middle|>"


# Failures


PATCH = '{"cmd": ["apply_patch", "*** Begin Patch\\n*** End Patch"]}'
RAW = {
    PATCH + "]": "an array's end without its beginning",
    f"[{PATCH}]": "a list around it",
    '{"cmd": ["apply_patch", "*** Begin Patch\n*** End Patch"],}': "raw line breaks, and a comma at the end",
    f"```json\n{PATCH}\n```": "a fence",
    f'{{"name": "functions.exec", "arguments": {PATCH}}}': "the whole call",
    f'{{"name": "exec", "parameters": {PATCH}}} trailing': "the whole call, and more",
}


@pytest.mark.parametrize("raw", RAW, ids=list(RAW.values()))
@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_that_ollama_can_not_parse_is_salvaged(raw: str, streamed: bool) -> None:
    said = f"error parsing tool call: raw='{raw}', err=invalid character ']' after top-level value"
    failed = lines(part(thinking="Patch it."), {"error": said}) if streamed else fail(500, said)
    with ollama_server(failed) as server:
        reply = ask(server, HELLO, [EXEC, ADD])
    assert len(server.chats) == 1
    assert reply.thought == ("Patch it." if streamed else "")
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [("exec", json.loads(PATCH))]
    assert (reply.usage.requests, reply.usage.cost_usd) == (1, 0.0)
    assert reply.timing.total > 0


@pytest.mark.parametrize(
    "said",
    [
        "error parsing tool call: raw='ls -R', err=invalid character 'l' looking for beginning of value",
        'error parsing tool call: raw=\'{"cmd": ["rm", "-r\', err=unexpected end of JSON input',
        "error parsing tool call: raw='{\"path\": \"of no offered function\"}x', err=invalid character 'x'",
        "error parsing tool call",
    ],
)
def test_a_call_that_nobody_can_read_is_sampled_again(said: str) -> None:
    with ollama_server(fail(500, said), lines(part(thinking="Hm."), {"error": said}), say("Hi.")) as server:
        assert ask(server, HELLO, [EXEC, ADD]).text == "Hi."
    assert len(server.chats) == 3


def test_sampling_again_has_an_end() -> None:
    waits = Waits()
    with ollama_server(fail(500, "error parsing tool call: raw='ls', err=x")) as server, pytest.raises(BrokenReply):
        ask(server, HELLO, [EXEC], open={"waits": waits})
    assert len(server.chats) == 4
    assert len(waits.seconds) == 3


def test_the_error_under_a_wrong_key_is_one() -> None:
    turn = lines(part(thinking="Hm."), {"error parsing tool call": "invalid character 'c'"})
    with ollama_server(turn, say("Hi.")) as server:
        assert ask(server, HELLO, [EXEC]).text == "Hi."


def test_a_model_that_is_not_there_is_offered_for_pulling() -> None:
    with ollama_server(models=[]) as server, pytest.raises(ProviderRefused, match="not found") as caught:
        ask(server)
    assert caught.value.hint == "get it: miyabi model pull gpt-oss:20b -p ollama"
    assert len(server.chats) == 1


def test_a_full_queue_is_waited_for() -> None:
    waits = Waits()
    with ollama_server(fail(503, BUSY), fail(503, BUSY, {"retry-after": "3"}), say("Hi.")) as server:
        assert ask(server, open={"waits": waits}).text == "Hi."
    assert waits.seconds == [0.5, 3.0]
    with ollama_server(fail(503, BUSY)) as server, pytest.raises(ProviderOverloaded, match="server busy") as caught:
        ask(server)
    assert "OLLAMA_MAX_QUEUE" in str(caught.value.hint)


def test_a_model_that_does_not_fit_the_memory_is_not_asked_for_again() -> None:
    said = "model requires more system memory (13.2 GiB) than is available (7.1 GiB)"
    with ollama_server(fail(500, said)) as server, pytest.raises(ProviderRefused, match=r"13\.2 GiB") as caught:
        ask(server)
    assert "num_ctx" in str(caught.value.hint)
    assert len(server.chats) == 1


@pytest.mark.parametrize(
    ("model", "hint"), [("gpt-oss:20b-cloud", "ollama signin"), ("gpt-oss:20b", "llm.ollama.api_key")]
)
def test_a_missing_key_says_where_it_belongs(model: str, hint: str) -> None:
    with ollama_server(key="secret", models=[Model(model, remote=True)]) as server:
        with pytest.raises(ProviderRefused) as caught:
            ask(server, open={"model": model})
        assert ask(server, open={"model": model, "key": "secret"}).text == "Hello."
    assert hint in str(caught.value.hint)


def test_a_cloud_model_s_cost_is_not_known_and_its_context_not_asked() -> None:
    with ollama_server(models=[Model("gpt-oss:20b-cloud", remote=True)]) as server:
        reply = ask(server, open={"model": "gpt-oss:20b-cloud"})
    assert reply.usage.cost_usd is None
    assert server.paths() == ["/api/chat"]


def test_a_model_that_turns_out_to_be_elsewhere_has_no_known_cost() -> None:
    with ollama_server(say("Hi.", remote_model="gpt-oss:20b", remote_host="https://ollama.com:443")) as server:
        assert ask(server).usage.cost_usd is None


@pytest.mark.parametrize(
    ("turn", "error", "words"),
    [
        (lines(part(content="Hel")), BrokenReply, "cut off"),
        (lines(part(content="Hel"), end=b""), ProviderUnreachable, "broke the connection"),
        (lines(part(content="Hel"), b'{"message": {"cont'), BrokenReply, "not JSON"),
        (lines(b"[1]"), BrokenReply, "not an object"),
        (lines(b"\xff\xfe"), BrokenReply, "not JSON"),
        (lines({"message": {"content": 3}}), BrokenReply, "not a part of a reply"),
        (lines({"message": "text"}), BrokenReply, "not a part of a reply"),
        (lines({"message": {"tool_calls": ["x"]}}), BrokenReply, "not a part of a reply"),
        (lines({"error": "model runner has unexpectedly stopped"}), BrokenReply, "unexpectedly stopped"),
        (lines({"error": {"message": "boom"}}), BrokenReply, "boom"),
        (fail(500, "boom"), ProviderOverloaded, "answered 500: boom"),
        (lambda handler, _: send_bytes(handler, 200, b"<html>", "text/html"), BrokenReply, "web page"),
        (lambda handler, _: send_bytes(handler, 302, b"", "text/plain"), ProviderRefused, "302"),
        (lambda handler, _: send_bytes(handler, 404, b"404 page not found", "text/plain"), ProviderRefused, "404"),
        (lambda handler, _: send_json(handler, 200, {"status": "ok"}), BrokenReply, "cut off"),
    ],
)
def test_what_is_no_reply_is_a_typed_error(turn: Any, error: type[ProviderError], words: str) -> None:
    with ollama_server(turn) as server, pytest.raises(error, match=words) as caught:
        ask(server)
    assert type(caught.value) is error
    assert "\n" not in caught.value.message
    retried = error is not ProviderRefused
    assert len(server.chats) == (4 if retried else 1)


@pytest.mark.parametrize("wrong", ["many", -5, 10**400, 1e300, float("nan"), True])
def test_a_wrong_count_loses_no_reply(wrong: Any) -> None:
    with ollama_server(lines(part(content="Hi."), {**part(done=True), "eval_count": wrong})) as server:
        reply = ask(server)
    assert (reply.text, reply.usage.output_tokens) == ("Hi.", 0)


def test_an_error_in_a_stream_that_means_the_window_is_too_large_a_request() -> None:
    turn = lines({"error": "the prompt is longer than the context length currently available to the model"})
    with ollama_server(turn) as server, pytest.raises(RequestTooLarge):
        ask(server)
    assert len(server.chats) == 1


def test_a_line_without_an_end_is_cut() -> None:
    def endless(handler: Any, _: Any) -> None:
        start_lines(handler)
        for _ in range(20):
            handler.wfile.write(b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20)))

    with ollama_server(endless) as server, pytest.raises(BrokenReply, match="broken stream"):
        ask(server, open={"waits": Waits()})


def test_a_server_that_says_nothing_is_left() -> None:
    over = threading.Event()

    def silent(handler: Any, _: Any) -> None:
        start_lines(handler)
        send_line(handler, part(content="Hel"))
        over.wait(30)

    with ollama_server(silent) as server:
        try:
            with pytest.raises(ProviderUnreachable, match="sent nothing for too long"):
                ask(server, open={"idle": 0.2})
        finally:
            over.set()


def test_a_long_load_is_told() -> None:
    told = threading.Event()

    def slow(handler: Any, body: dict[str, Any]) -> None:
        server.loaded.clear()
        told.wait(30)
        lines(part(content="Hi."), part(done=True))(handler, body)

    async def main() -> None:
        pieces = []
        async with opened(server) as provider:
            async for piece in provider.chat(HELLO):
                pieces.append(piece)
                told.set()
        assert isinstance(pieces[0], Waiting)
        assert pieces[0].reason == "ollama is loading gpt-oss:20b"
        assert isinstance(pieces[1], Delta)
        assert isinstance(pieces[-1], Reply)

    with ollama_server(slow) as server:
        asyncio.run(main())
    assert server.paths()[:2] == ["/api/chat", "/api/ps"]


def test_a_reply_that_begins_waits_for_no_word_on_the_wait() -> None:
    asked, begun = threading.Event(), threading.Event()

    def slow(handler: Any, body: dict[str, Any]) -> None:
        asked.wait(30)
        lines(part(content="Hi."), part(done=True))(handler, body)

    def hanging() -> None:
        asked.set()
        begun.wait(30)

    async def main() -> None:
        async with opened(server) as provider:
            async for piece in provider.chat(HELLO):
                assert not isinstance(piece, Waiting)
                begun.set()

    with ollama_server(slow, before_status=hanging) as server:
        try:
            asyncio.run(main())
        finally:
            begun.set()


@pytest.mark.parametrize("begun", [True, False])
def test_cancelling_closes_the_stream(begun: bool) -> None:
    arrived = threading.Event()

    def endless(handler: Any, _: Any) -> None:
        start_lines(handler)
        arrived.set()
        while True:
            send_line(handler, part(content="word ") if begun else b"")
            server.gone.wait(0.01)

    async def main() -> None:
        async with opened(server) as provider:

            async def read() -> None:
                async for _ in provider.chat(HELLO):
                    pass

            task = asyncio.ensure_future(read())
            await asyncio.to_thread(arrived.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.gone.wait, 30)

    with ollama_server(endless) as server:
        asyncio.run(main())


# Recordings


RECORDED = sorted(FIXTURES.glob("*.yaml"))
EXCHANGES = [
    pytest.param(one["request"]["body"], one["response"]["body"], id=f"{path.stem.partition('__')[2]}-{one['id']}")
    for path in RECORDED
    for one in yaml.safe_load(path.read_text())["interactions"]
]


@pytest.mark.parametrize(("asked", "answered"), EXCHANGES)
def test_a_recording_is_read_without_loss(asked: str, answered: str) -> None:
    body, recorded = json.loads(asked), json.loads(answered)
    offered = [
        Function(tool["function"]["name"], tool["function"]["description"], tool["function"]["parameters"])
        for tool in body.get("tools", ())
    ]
    model = body["model"]
    with ollama_server(
        lambda handler, _: send_bytes(handler, 200, answered.encode(), "application/json"),
        models=[Model(model, remote=True)],
    ) as server:
        reply = ask(server, [_message(one) for one in body["messages"]], offered, open={"model": model})
    message = recorded["message"]
    assert (reply.text, reply.thought) == (message["content"], message.get("thinking", ""))
    assert [(one.id, one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [
        (one["id"], one["function"]["name"], one["function"]["arguments"]) for one in message.get("tool_calls", ())
    ]
    assert reply.finish_reason == recorded["done_reason"]
    assert reply.usage.input_tokens == recorded["prompt_eval_count"]
    assert reply.usage.output_tokens == recorded["eval_count"]
    assert server.chats[0].get("tools") == body.get("tools")
    sent = [one["tool_calls"][0]["function"] for one in server.chats[0]["messages"] if "tool_calls" in one]
    assert sent == [one["tool_calls"][0]["function"] for one in body["messages"] if "tool_calls" in one]


def _message(data: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(one["id"], one["function"]["name"], json.dumps(one["function"]["arguments"]))
        for one in data.get("tool_calls", ())
    )
    return Message(
        data["role"],
        data["content"],
        tool_calls=calls,
        tool_call_id=data.get("tool_call_id", ""),
        tool_name=data.get("tool_name", ""),
    )


def test_there_are_recordings() -> None:
    assert len(RECORDED) == 6


KEYS = st.sampled_from(
    ["message", "content", "thinking", "tool_calls", "function", "name", "arguments", "done", "done_reason", "error",
     "eval_count", "prompt_eval_count", "response", "id", "error parsing tool call"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=6), max_size=4))
def test_any_objects_are_a_reply_or_a_typed_error(chunks: list[dict[str, Any]]) -> None:
    collector = OllamaCollector("m", [ADD, EXEC])
    with contextlib.suppress(ProviderError):
        for chunk in chunks:
            collector.add(chunk)
        reply = collector.reply(Timing())
        assert all(isinstance(one.arguments, str) and one.name for one in reply.tool_calls)


def test_an_agent_s_run_is_shortened_to_the_context_that_is_there(repository: Path, miyabi: Miyabi) -> None:
    reading = [call("exec", {"cmd": ["seq", f"{at}0000", f"{at}0700"]}, thought="Look.") for at in range(1, 6)]
    turns = (*reading, call("apply_patch", {"patch": FIX}), say("Fixed."))
    with ollama_server(*turns, capped=8192) as server:
        ran = miyabi("codegen", TASK, "-p", "ollama", "--endpoint", server.url, "-f", "json", cwd=repository)
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["status"] == "verified"
    assert "the conversation was shortened" in ran.stderr
    assert len(server.chats) == len(turns)  # none was sent that the server would have refused
