"""The client for vLLM against a real one, over both of its wires."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import pytest

from miyabi_cli.errors import BrokenReply, ProviderRefused, RequestTooLarge
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.vllm import open_vllm
from miyabi_cli.messages import Delta, Function, LLMRequest, Message, Reply, Sampling
from tests.vllm.server import MODEL, WINDOW, VllmServer
from tests.vllm.turns import call, final, preamble, raw_call, thought, turn

Wire = Literal["harmony", "chat"]

WIRES = pytest.mark.parametrize("wire", ["harmony", "chat"])
BLOCK = 128  # tokens: what the CPU build's prefix cache counts in
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
COMMAND = {"type": "object", "properties": {"cmd": {"type": "array", "items": {"type": "string"}}}, "required": ["cmd"]}
TOOLS = (
    Function("open_file", "Read a file.", PATH, namespace="repo_browser"),
    Function("exec", "Run a command.", COMMAND, namespace="container"),
)
ANSWER = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
COUNT = Function("count_things", "Count what is there.", ANSWER)
LONG = turn(thought(" ".join(f"step {number}" for number in range(2000))), final("Done."))


def ask(server: VllmServer, wire: Wire, work: Callable[[Provider], Awaitable[Any]], **options: Any) -> Any:
    """Do some work with a provider, and close it."""

    async def main() -> Any:
        async with open_vllm(server.url, options.pop("model", MODEL), wire=wire, **options) as provider:
            return await work(provider)

    return asyncio.run(main())


def reply_to(
    server: VllmServer, wire: Wire, messages: Sequence[Message], functions: Sequence[Function] = (), **options: Any
) -> Reply:
    async def work(provider: Provider) -> Reply:
        pieces = [piece async for piece in provider.chat(messages, functions, **options)]
        (reply,) = (piece for piece in pieces if isinstance(piece, Reply))
        seen = [piece for piece in pieces if isinstance(piece, Delta)]
        if reply.usage.requests == 1:  # what is asked for again has been seen before
            assert "".join(delta.text for delta in seen).strip() == reply.text.strip()
            assert "".join(delta.thought for delta in seen).strip() == reply.thought
        return reply

    reply: Reply = ask(server, wire, work)
    return reply


def question(server: VllmServer, *turns: str, text: str = "What is 2 + 2?") -> list[Message]:
    return [Message("system", "Be brief."), Message("user", f"{text} {server.script(*turns)}")]


def in_functions(wire: Wire, name: str) -> str:
    """Return the recipient that vLLM's chat route takes for a function, or the one of the training."""
    return f"functions.{name}" if wire == "chat" else {"exec": "container.exec"}.get(name, f"repo_browser.{name}")


def settled(server: VllmServer, seconds: float = 20.0) -> bool:
    """Wait until the server has nothing to do."""
    deadline = time.monotonic() + seconds
    while server.running() > 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@WIRES
def test_an_answer_comes_with_its_thought_and_its_cost(vllm: VllmServer, wire: Wire) -> None:
    messages = question(vllm, turn(thought("I add 2 and 2."), final("It is 4 — héé 🙂.")))
    reply = reply_to(vllm, wire, messages)
    assert (reply.text, reply.thought) == ("It is 4 — héé 🙂.", "I add 2 and 2.")
    assert (reply.tool_calls, reply.finish_reason) == ((), "stop")
    assert reply.usage.requests == 1
    assert reply.usage.input_tokens > 20
    assert 20 < reply.usage.output_tokens < 40
    assert 5 < reply.usage.reasoning_tokens < 15
    assert reply.timing.first_token is not None
    assert reply.timing.first_token < reply.timing.total


@WIRES
def test_a_call_comes_whole_after_thought_and_preamble(vllm: VllmServer, wire: Wire) -> None:
    said = turn(thought("I look."), preamble("I will list."), call(in_functions(wire, "exec"), cmd=["ls", "-l"]))
    reply = reply_to(vllm, wire, question(vllm, said), TOOLS)
    (called,) = reply.tool_calls
    assert (called.name, json.loads(called.arguments)) == ("exec", {"cmd": ["ls", "-l"]})
    assert reply.thought == "I look."
    assert reply.text.strip() == "I will list."


@WIRES
def test_a_chain_of_calls_goes_on_from_the_cache(vllm: VllmServer, wire: Wire) -> None:
    paths = [f"module_{number}.py" for number in range(4)]
    steps = [turn(thought(f"Next is {path}."), call(in_functions(wire, "open_file"), path=path)) for path in paths]
    history = question(vllm, *steps, final("I have read them all."), text="Read the modules. " * 40)
    seen, cached = [], []

    async def work(provider: Provider) -> Reply:
        while True:
            pieces = [piece async for piece in provider.chat(history, TOOLS)]
            reply = pieces[-1]
            assert isinstance(reply, Reply)
            history.append(reply.message())
            cached.append(reply.usage.cached_tokens)
            if not reply.tool_calls:
                return reply
            (called,) = reply.tool_calls
            seen.append(json.loads(called.arguments)["path"])
            history.append(Message("tool", "1: x = 1\n" * 30, tool_call_id=called.id, tool_name=called.name))

    assert ask(vllm, wire, work).text == "I have read them all."
    assert seen == paths
    assert cached[1] >= BLOCK
    assert cached == sorted(cached)
    assert cached[-1] > cached[1]


# What gpt-oss writes where it should write `<|channel|>commentary to=… <|constrain|>json`.
HEADERS = {
    "the recipient in the role": " to=repo_browser.open_file<|channel|>commentary json",
    "the recipient twice": " to=repo_browser.open_file<|channel|>commentary to=repo_browser.open_file json",
    "the channel twice": "<|channel|>commentary<|channel|>commentary to=repo_browser.open_file <|constrain|>json",
    "in the channel of thought": "<|channel|>analysis to=repo_browser.open_file code",
    "among the functions": "<|channel|>commentary to=functions.open_file <|constrain|>json",
    "a channel glued to the name": " to=repo_browser.open_file<|channel|>commentary",
    "a space in the name": "<|channel|>commentary to=repo_browser.open file <|constrain|>json",
    "no recipient": "<|channel|>commentary <|constrain|>json",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_malformed_header_loses_no_call_over_harmony(vllm: VllmServer, header: str) -> None:
    said = turn(thought("I look."), raw_call(header, path="calc.py"))
    reply = reply_to(vllm, "harmony", question(vllm, said), TOOLS)
    (called,) = reply.tool_calls
    assert (called.name, json.loads(called.arguments)) == ("open_file", {"path": "calc.py"})
    assert reply.thought == "I look."
    assert reply.text == ""


def test_a_missing_start_loses_no_call_over_harmony(vllm: VllmServer) -> None:
    said = thought("I look.") + "assistant" + call("repo_browser.open_file", path="calc.py")
    reply = reply_to(vllm, "harmony", question(vllm, said), TOOLS)
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [("open_file", {"path": "calc.py"})]


def test_a_call_that_the_chat_route_loses_is_no_answer(vllm: VllmServer) -> None:
    messages = question(vllm, turn(thought("I list."), call("container.exec", cmd=["ls"])))

    async def work(provider: Provider) -> list[Reply]:
        found = []
        for _ in range(3):
            found += [piece async for piece in provider.chat(messages, TOOLS) if isinstance(piece, Reply)]
        return found

    with pytest.raises(BrokenReply, match="lost a tool call") as caught:
        ask(vllm, "chat", work, retries=Retries(attempts=1))
    assert caught.value.usage.output_tokens > 0


@WIRES
def test_a_reply_obeys_its_schema(vllm: VllmServer, wire: Wire) -> None:
    obeying = '<|channel|>final <|constrain|>json<|message|>{"name": "calc", "count": 3}<|return|>'
    messages = question(vllm, turn(thought("I answer in JSON."), obeying))
    reply = reply_to(vllm, wire, messages, schema=ANSWER)
    assert json.loads(reply.text) == {"name": "calc", "count": 3}
    assert reply.thought == "I answer in JSON."


def test_an_answer_against_its_schema_is_held_to_it(vllm: VllmServer) -> None:
    messages = question(vllm, turn(thought("I chat."), final("No JSON today.")), "{}<|return|>")
    reply = reply_to(vllm, "harmony", messages, schema=ANSWER)
    assert set(json.loads(reply.text)) == {"name", "count"}
    assert reply.thought == "I chat."
    assert reply.usage.requests == 2


@WIRES
def test_a_function_is_called_with_valid_arguments(vllm: VllmServer, wire: Wire) -> None:
    called = turn(thought("I count."), call("functions.count_things", name="calc", count=3))
    messages = question(vllm, called)
    arguments = ask(vllm, wire, lambda provider: provider.call_function(COUNT, messages))
    assert {name: type(value) for name, value in arguments.items()} == {"name": str, "count": int}


@WIRES
def test_a_prompt_alone_is_answered(vllm: VllmServer, wire: Wire) -> None:
    prompt = f"What is 2 + 2? {vllm.script(turn(thought('Add.'), final('4')))}"
    answer = ask(vllm, wire, lambda provider: provider.generate(LLMRequest(prompt, effort="low")))
    assert (answer.text, answer.finish_reason) == ("4", "stop")
    assert answer.tokens_used == answer.usage.input_tokens + answer.usage.output_tokens


@WIRES
def test_a_cut_answer_says_so(vllm: VllmServer, wire: Wire) -> None:
    messages = question(vllm, final("one two three four five six seven eight nine ten"))
    reply = reply_to(vllm, wire, messages, sampling=Sampling(max_tokens=8))
    assert reply.finish_reason == "length"
    assert reply.text.startswith("one two")
    assert "<|" not in reply.text


@WIRES
def test_leaving_a_stream_frees_the_server(vllm: VllmServer, wire: Wire) -> None:
    async def work(provider: Provider) -> float:
        pieces = provider.chat(question(vllm, LONG), sampling=Sampling(max_tokens=8000))
        async for _ in pieces:
            running = await asyncio.to_thread(vllm.running)
            break
        await pieces.aclose()  # type: ignore[attr-defined]
        return running

    assert ask(vllm, wire, work) == 1
    assert settled(vllm)


@WIRES
def test_cancelling_the_task_frees_the_server(vllm: VllmServer, wire: Wire) -> None:
    async def work(provider: Provider) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in provider.chat(question(vllm, LONG), sampling=Sampling(max_tokens=8000)):
                begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(settled, vllm)

    ask(vllm, wire, work)


@WIRES
def test_a_prompt_past_the_window_is_too_large(vllm: VllmServer, wire: Wire) -> None:
    messages = question(vllm, final("Never said."), text="word " * (WINDOW + 100))
    with pytest.raises(RequestTooLarge):
        reply_to(vllm, wire, messages)


def test_a_prompt_is_counted_to_the_token(vllm: VllmServer) -> None:
    messages = question(vllm, final("4"))

    async def work(provider: Provider) -> tuple[int, Reply]:
        pieces = [piece async for piece in provider.chat(messages, TOOLS)]
        reply = pieces[-1]
        assert isinstance(reply, Reply)
        return await provider.count_tokens(messages, TOOLS), reply

    counted, reply = ask(vllm, "harmony", work)
    assert counted == reply.usage.input_tokens


@WIRES
def test_a_long_prompt_that_was_seen_is_read_from_the_cache(vllm: VllmServer, wire: Wire) -> None:
    messages = question(vllm, final("Read."), text="All work and no play. " * 200)

    async def work(provider: Provider) -> list[Reply]:
        found = []
        for _ in range(2):
            found += [piece async for piece in provider.chat(messages) if isinstance(piece, Reply)]
        return found

    first, second = ask(vllm, wire, work)
    assert first.usage.cached_tokens < BLOCK
    assert second.usage.cached_tokens > second.usage.input_tokens - 2 * BLOCK
    assert second.usage.input_tokens == first.usage.input_tokens


@WIRES
def test_many_streams_share_one_provider(vllm: VllmServer, wire: Wire) -> None:
    async def work(provider: Provider) -> list[str]:
        async def one(number: int) -> str:
            pieces = [piece async for piece in provider.chat(question(vllm, final(f"I am {number}.")))]
            assert isinstance(pieces[-1], Reply)
            return pieces[-1].text

        return await asyncio.gather(*(one(number) for number in range(12)))

    assert ask(vllm, wire, work) == [f"I am {number}." for number in range(12)]


@WIRES
def test_an_unknown_model_is_refused_with_those_that_are_there(vllm: VllmServer, wire: Wire) -> None:
    async def work(provider: Provider) -> None:
        async for _ in provider.chat([Message("user", "Hi")]):
            pass

    with pytest.raises(ProviderRefused, match="nope") as caught:
        ask(vllm, wire, work, model="gpt-oss-nope")
    assert MODEL in (caught.value.hint or "") + caught.value.message


def test_auto_speaks_harmony_to_gpt_oss(vllm: VllmServer) -> None:
    """Only Harmony brings a call to `container.exec`; the chat route loses it."""
    messages = question(vllm, turn(thought("I list."), call("container.exec", cmd=["ls"])))

    async def work(provider: Provider) -> Reply:
        pieces = [piece async for piece in provider.chat(messages, TOOLS)]
        assert isinstance(pieces[-1], Reply)
        return pieces[-1]

    assert [one.name for one in ask(vllm, "auto", work).tool_calls] == ["exec"]  # type: ignore[arg-type]
