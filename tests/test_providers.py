"""What holds of every provider: one conformance suite over all of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from miyabi_cli.errors import ProviderError
from miyabi_cli.llm.calling import last_reply
from miyabi_cli.llm.embedded import RETRIES, EmbeddedModel, Start
from miyabi_cli.llm.local.engines import Engine, ensure_engine, stop_engines
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.profiles import profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.replay import open_replay
from miyabi_cli.llm.table import OPENERS
from miyabi_cli.messages import Delta, Function, LLMRequest, Message, Reply, Sampling
from miyabi_cli.settings.schema import Server
from tests.support.players import PLAYERS, playing
from tests.support.turns import say

HELLO = [Message("user", "Say hello.")]
ENDLESS = [Message("user", "Write a very long story, and never end it.")]
COLOR = Function(
    "paint",
    "Choose a colour.",
    {
        "type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}},
        "required": ["color"],
        "additionalProperties": False,
    },
)

Work = Callable[[Provider, bool], Awaitable[None]]
Opened = Callable[..., None]


def scripted(name: str) -> Any:
    @contextmanager
    def served(_: Path, __: Any, replies: list[str]) -> Iterator[Provider]:
        with playing(PLAYERS[name]) as server:
            server.script(*(say(text, "Hm.") for text in replies or [""]))
            yield server.open()

    return served


@contextmanager
def replay(folder: Path, _: Any, replies: list[str]) -> Iterator[Provider]:
    file = folder / "recording.jsonl"
    usage = {"requests": 1, "input_tokens": 3, "output_tokens": 2}
    lines = [{"text": text, "usage": usage, "finish_reason": "stop"} for text in replies]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield open_replay(file, "qwen2.5-coder-1.5b")


@contextmanager
def embedded(_: Path, request: pytest.FixtureRequest, __: list[str]) -> Iterator[Provider]:
    model, start = request.getfixturevalue("start_engine")
    yield Provider(EmbeddedModel("smollm2-135m", start, idle=None, profile=profile_of(model.name)), retries=RETRIES)


@contextmanager
def llama_cpp(_: Path, request: pytest.FixtureRequest, __: list[str]) -> Iterator[Provider]:
    """A real llama.cpp server, as any other that speaks chat completions."""
    model, start = request.getfixturevalue("start_engine")
    profile = profile_of(model.name)
    profile = replace(profile, capabilities=replace(profile.capabilities, infill=True), infill_format="{prefix}")
    with asyncio.run(start()) as engine:
        yield open_openai(engine.url, "smollm2-135m", key=engine.key, profile=profile)


PROVIDERS = {
    **{name: scripted(name) for name in PLAYERS},
    "replay": replay,
    "embedded": embedded,
    "llama.cpp": llama_cpp,
}
REAL = ("embedded", "llama.cpp")


@pytest.fixture(scope="module")
def start_engine(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Start]]:
    """The small model, and how the engine that serves it is started: once for all tests here."""

    def start() -> Any:
        return ensure_engine(small_model, threads=1, context=2048, keep_alive=60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIYABI_DATA_DIR", str(tmp_path_factory.mktemp("engine")))
        yield small_model, start
        asyncio.run(stop_engines())


def run(name: str, folder: Path, request: pytest.FixtureRequest, work: Work, *replies: str) -> None:
    with PROVIDERS[name](folder, request, list(replies)) as provider:

        async def main() -> None:
            async with provider:
                await work(provider, name not in REAL)

        asyncio.run(main())


@pytest.fixture(params=sorted(PROVIDERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Open a provider that gives these replies; a real model gives its own."""
    return lambda work, *replies: run(request.param, tmp_path, request, work, *replies)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Open a provider that asks a real model."""
    return lambda work: run(request.param, tmp_path, request, work)


def test_it_says_what_it_is(opened: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        assert provider.name in OPENERS
        assert provider.model_name
        assert provider.max_tokens >= 2048
        assert provider.capabilities.schema

    opened(work)


def test_a_chat_is_deltas_and_then_one_reply_that_is_their_sum(opened: Opened) -> None:
    async def work(provider: Provider, scripted: bool) -> None:
        pieces = [piece async for piece in provider.chat(HELLO, sampling=Sampling(temperature=0, max_tokens=20))]
        *deltas, reply = pieces
        assert isinstance(reply, Reply)
        assert deltas
        assert all(isinstance(delta, Delta) for delta in deltas)
        assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == reply.text
        assert reply.text == "Hello, world." or not scripted
        assert reply.text
        assert reply.finish_reason in ("stop", "length")
        assert (reply.usage.requests, reply.tool_calls) == (1, ())
        assert reply.usage.input_tokens > 0
        assert reply.usage.output_tokens > 0

    opened(work, "Hello, world.")


def test_generate_answers_a_prompt_and_counts_its_tokens(opened: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        response = await provider.generate(LLMRequest("Say hello.", temperature=0.0, max_tokens=30))
        assert response.text
        assert response.tokens_used >= response.usage.output_tokens > 0
        assert response.finish_reason

    opened(work, "Hello.")


def test_a_function_s_arguments_are_valid_or_an_error(opened: Opened) -> None:
    async def work(provider: Provider, scripted: bool) -> None:
        arguments = await provider.call_function(COLOR, [Message("user", "The sky?")], Sampling(temperature=0))
        assert arguments in ({"color": "red"}, {"color": "blue"})
        if scripted:
            assert arguments == {"color": "blue"}

    opened(work, "I would say blue.", '{"color": "blue"}')


def test_a_schema_holds_the_text(opened: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        async for piece in provider.chat(HELLO, schema=COLOR.parameters, sampling=Sampling(temperature=0)):
            last = piece
        assert isinstance(last, Reply)
        assert json.loads(last.text)["color"] in ("red", "blue")

    opened(work, '{"color": "red"}')


def test_infilling_is_done_where_the_model_can_and_refused_elsewhere(opened: Opened) -> None:
    async def work(provider: Provider, scripted: bool) -> None:
        if provider.capabilities.infill:
            reply = await provider.infill("def f():\n    return ", "\n", max_tokens=8, stop=("\n",))
            assert reply.text == "1" or not scripted
        else:
            with pytest.raises(ProviderError, match="does not fill in"):
                await provider.infill("a", "b", max_tokens=1)

    opened(work, "1")


def test_closing_twice_is_no_error(opened: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        await provider.close()

    opened(work)


def test_a_real_model_s_usage_and_times_add_up(real: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        reply = await last_reply(provider.chat(HELLO, sampling=Sampling(temperature=0, max_tokens=7)))
        assert (reply.usage.requests, reply.finish_reason) == (1, "length")
        assert reply.usage.output_tokens == 7
        assert 0 < reply.usage.input_tokens <= await provider.count_tokens(HELLO)
        assert reply.timing.first_token is not None
        assert 0 < reply.timing.first_token < reply.timing.total

    real(work)


def test_a_real_model_stops_where_it_is_told(real: Opened) -> None:
    async def work(provider: Provider, _: bool) -> None:
        sampling = Sampling(temperature=0, max_tokens=40)
        whole = await last_reply(provider.chat(ENDLESS, sampling=sampling))
        mark = whole.text.split()[9]
        until = whole.text[: whole.text.index(mark)]
        stopped = await last_reply(provider.chat(ENDLESS, sampling=sampling, stop=(mark,)))
        assert (stopped.text.strip(), stopped.finish_reason) == (until.strip(), "stop")

    real(work)


def test_a_real_server_is_left_in_the_middle(real: Opened) -> None:
    """The next answer comes, though the one that was left would have gone on for its whole window."""

    async def work(provider: Provider, _scripted: bool) -> None:
        for _ in range(4):  # as many as the engine has slots, and more
            begun = asyncio.Event()

            async def consume(begun: asyncio.Event) -> None:
                async for piece in provider.chat(ENDLESS, sampling=Sampling(temperature=0, max_tokens=1800)):
                    assert isinstance(piece, Delta), "it goes on for long"
                    begun.set()

            task = asyncio.create_task(consume(begun))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        reply = await last_reply(provider.chat(HELLO, sampling=Sampling(temperature=0, max_tokens=5)))
        assert reply.usage.output_tokens == 5

    real(work)


def test_an_engine_that_dies_is_started_anew(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path))
    engines: list[Engine] = []

    async def start() -> Engine:
        engines.append(await ensure_engine(small_model, threads=1, context=2048, keep_alive=60))
        return engines[-1]

    async def main() -> None:
        wire = EmbeddedModel("smollm2-135m", start, idle=None, profile=profile_of("smollm2"))
        provider = Provider(wire, retries=RETRIES)
        try:
            first = await provider.generate(LLMRequest("Hi", temperature=0, max_tokens=3))
            os.kill(engines[0].pid, signal.SIGKILL)
            second = await provider.generate(LLMRequest("Hi", temperature=0, max_tokens=3))
            assert first.text == second.text
        finally:
            await provider.close()
            await stop_engines()

    asyncio.run(main())
    assert len({engine.pid for engine in engines}) == 2


def test_every_provider_of_the_settings_has_a_row() -> None:
    assert set(OPENERS) == set(get_args(Server))
    assert {name.partition("-")[0] for name in PROVIDERS} >= set(OPENERS)
