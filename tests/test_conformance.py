"""One suite over every provider and wire: what each makes of the same turns, each said in its server's own format."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    RequestTooLarge,
    SettingsError,
    UsageError,
)
from miyabi_cli.llm.calling import last_reply
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import ChatRequest, Delta, Effort, Function, Message, Piece, Reply, Sampling, Usage, Waiting
from tests.support.players import PLAYERS, Playing, playing
from tests.support.refusals import RETRY_AFTER
from tests.support.serving import CONNECTIONS
from tests.support.turns import (
    Kind,
    Turn,
    call,
    chopped,
    cut,
    error,
    fail,
    garble,
    hang,
    reset,
    say,
    several,
    slow,
)

COLOR = {
    "type": "object",
    "properties": {"color": {"type": "string", "enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}
PAINT = Function("paint", "Choose a colour.", COLOR)
LOOK = Function("look", "Look.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})
HELLO = (Message("user", "Say hello."),)
RED, BLUE = {"color": "red"}, {"color": "blue"}
LONG = say("Hello there, how are you today? " * 30)
BEGUN = 10  # pieces of a long turn after which some of it has come on every wire

Result = TypeVar("Result")


@pytest.fixture(params=sorted(PLAYERS))
def server(request: pytest.FixtureRequest) -> Iterator[Playing]:
    with playing(PLAYERS[request.param]) as work:
        yield work


def run(server: Playing, work: Callable[[Provider], Awaitable[Result]], **options: Any) -> Result:
    async def main() -> Result:
        async with server.open(**options) as provider:
            return await work(provider)

    return asyncio.run(main())


async def ask(provider: Provider, messages: Sequence[Message] = HELLO, **more: Any) -> Reply:
    return await last_reply(provider.stream(ChatRequest(messages, **more)))


def ask_once(server: Playing, *turns: Turn, attempts: int = 4, **more: Any) -> Reply:
    server.script(*turns)
    return run(server, lambda provider: ask(provider, **more), attempts=attempts)


def pieces_of(server: Playing, turn: Turn, **more: Any) -> list[Piece]:
    async def work(provider: Provider) -> list[Piece]:
        return [piece async for piece in provider.stream(ChatRequest(HELLO, **more))]

    server.script(turn)
    return run(server, work)


async def act(provider: Provider, messages: Sequence[Message], functions: Sequence[Function]) -> list[Message]:
    """Ask, and answer each call with a result; return the conversation with what came."""
    reply = await ask(provider, messages, functions=functions)
    results = [
        Message("tool", f"done: {call.arguments}", tool_call_id=call.id, tool_name=call.name)
        for call in reply.tool_calls
    ]
    return [*messages, reply.message(), *results]


def test_plain_text(server: Playing) -> None:
    *deltas, reply = pieces_of(server, say("Hello, world. " * 20))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.thought, reply.tool_calls) == ("Hello, world. " * 20, "", ())
    assert reply.finish_reason == "stop"
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == reply.text


def test_a_thought_comes_apart_from_the_text(server: Playing) -> None:
    *deltas, reply = pieces_of(server, say("Forty-two.", "Six times seven is what was asked. " * 5))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.thought) == ("Forty-two.", "Six times seven is what was asked. " * 5)
    assert "".join(delta.thought for delta in deltas if isinstance(delta, Delta)) == reply.thought


def test_an_answer_that_reached_its_cap_says_so(server: Playing) -> None:
    reply = ask_once(server, say("Hello, wor", finish="length"))
    assert (reply.text, reply.finish_reason) == ("Hello, wor", "length")
    assert len(server.bodies) == 1


def test_one_call(server: Playing) -> None:
    *deltas, reply = pieces_of(server, call("paint", BLUE, "They want a colour."), functions=(PAINT, LOOK))
    assert isinstance(reply, Reply)
    (made,) = reply.tool_calls
    assert (made.name, json.loads(made.arguments)) == ("paint", BLUE)
    assert made.id
    assert (reply.text, reply.thought) == ("", "They want a colour.")
    assert reply.finish_reason == ("stop" if "the end of a call" in server.player.lacks else "tool_calls")
    assert any(isinstance(delta, Delta) and delta.tool_text for delta in deltas)
    assert server.asked[0].functions == ("paint", "look")


SEVERAL = sorted(name for name, player in PLAYERS.items() if "several calls" not in player.lacks)


@pytest.mark.parametrize("server", SEVERAL, indirect=True)
def test_several_calls_at_once(server: Playing) -> None:
    reply = ask_once(server, several(("paint", RED), ("look", {"at": "it"}), ("paint", BLUE)), functions=(PAINT, LOOK))
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [
        ("paint", RED),
        ("look", {"at": "it"}),
        ("paint", BLUE),
    ]
    assert len({one.id for one in reply.tool_calls}) == 3


def test_result_and_thought_go_back_between_the_calls(server: Playing) -> None:
    server.script(
        call("paint", RED, "First red."), call("paint", BLUE, "Then blue."), say("Both.", "All is done."), say("Yes.")
    )

    async def work(provider: Provider) -> None:
        messages: list[Message] = list(HELLO)
        for _ in range(3):
            messages = await act(provider, messages, (PAINT,))
        await act(provider, [*messages, Message("user", "Really?")], (PAINT,))

    run(server, work)
    first, second, third, after = server.asked
    assert (first.thoughts, first.results) == ((), ())
    assert second.thoughts == ("First red.",)
    assert third.thoughts == ("First red.", "Then blue.")
    assert [json.loads(one.removeprefix("done: ")) for one in third.results] == [RED, BLUE]
    assert after.prompt == "Really?"
    if "dropping thought" not in server.player.lacks:  # else the server's own template drops it
        assert "All is done." not in after.thoughts


def test_a_chain_of_twenty_only_grows(server: Playing) -> None:
    turns = [call("look", {"at": f"file {number}"}, f"Step {number}.") for number in range(20)]
    server.script(*turns, say("Seen."))

    async def work(provider: Provider) -> list[Message]:
        messages: list[Message] = [Message("system", "Look around."), *HELLO]
        for _ in range(21):
            messages = await act(provider, messages, (LOOK, PAINT))
        return messages

    messages = run(server, work)
    assert messages[-1].content == "Seen."
    assert len(server.asked) == 21
    for one, following in pairwise(server.asked):
        assert following.body.startswith(one.head)
    assert server.asked[-1].thoughts == tuple(f"Step {number}." for number in range(20))
    assert len(server.asked[-1].results) == 20
    assert len({one.id for message in messages for one in message.tool_calls}) == 20


def test_a_schema_is_asked_for_and_obeyed(server: Playing) -> None:
    reply = ask_once(server, say('{"color": "blue"}', "The sky."), schema=COLOR)
    assert json.loads(reply.text) == BLUE
    assert reply.finish_reason == "stop"
    assert server.asked[0].schema == COLOR


def test_a_function_s_arguments_are_valid_at_once(server: Playing) -> None:
    server.script(say('{"color": "blue"}'))
    assert run(server, lambda provider: provider.call_function(PAINT, HELLO)) == BLUE
    assert len(server.bodies) == 1


NEARLY = {
    "fenced": 'Here it is:\n```json\n{"color": "blue"}\n```',
    "a comma too much": '{"color": "blue",}',
    "a key too much": '{"color": "blue", "why": "the sky"}',
}


@pytest.mark.parametrize("text", NEARLY.values(), ids=NEARLY)
def test_arguments_that_are_nearly_right_are_repaired(server: Playing, text: str) -> None:
    server.script(say(text), say('{"color": "blue"}'))
    assert run(server, lambda provider: provider.call_function(PAINT, HELLO)) == BLUE
    # The first over Harmony is free to think; where that is not it, the next is held by the server's grammar.
    assert len(server.bodies) == (2 if "holding at once" in server.player.lacks else 1)


def test_arguments_that_are_wrong_are_asked_for_again(server: Playing) -> None:
    server.script(say("I would rather talk of the weather."), say('{"color": "green"}'), say('{"color": "red"}'))
    assert run(server, lambda provider: provider.call_function(PAINT, HELLO)) == RED
    assert len(server.bodies) == 3


def test_arguments_that_stay_wrong_are_an_error_with_its_cost(server: Playing) -> None:
    server.script(say('{"color": "green"}'))
    with pytest.raises(BrokenReply, match="no valid arguments for paint") as caught:
        run(server, lambda provider: provider.call_function(PAINT, HELLO))
    assert caught.value.usage.requests == len(server.bodies) >= 3
    assert caught.value.usage.output_tokens > 0


def test_a_forced_function_is_called_or_the_request_refused(server: Playing) -> None:
    later = "holding at once" in server.player.lacks
    server.script(*([say("I would rather talk.")] if later else []), call("paint", BLUE))
    request = ChatRequest(HELLO, (LOOK, PAINT), forced="paint")
    if "forcing" in server.player.lacks:
        with pytest.raises(UsageError, match="which function to call"):
            run(server, lambda provider: last_reply(provider.stream(request)))
        return
    reply = run(server, lambda provider: last_reply(provider.stream(request)))
    assert [(one.name, json.loads(one.arguments)) for one in reply.tool_calls] == [("paint", BLUE)]
    assert server.asked[-1].forced == "paint"


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_the_effort_is_told(server: Playing, effort: Effort) -> None:
    ask_once(server, say("Yes."), sampling=Sampling(effort=effort))
    assert server.asked[0].effort == effort


def test_stop_strings_end_the_text(server: Playing) -> None:
    reply = ask_once(server, say("one END two"), stop=("END",))
    assert reply.text == "one "
    assert server.asked[0].stop == (() if "stop" in server.player.lacks else ("END",))


def test_usage_is_the_server_s(server: Playing) -> None:
    told = Usage(1, input_tokens=110, cached_tokens=64, output_tokens=20, reasoning_tokens=5)
    usage = ask_once(server, say("Hello.", "They greet me.", usage=told)).usage
    assert (usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (1, 110, 64, 20)
    assert (usage.reasoning_tokens > 0) == ("reasoning tokens" not in server.player.lacks)


def test_the_time_to_the_first_token_and_between_tokens_is_measured(server: Playing) -> None:
    timing = ask_once(server, slow(say("one two three four five six seven eight nine ten " * 2), 0.01)).timing
    assert timing.first_token is not None
    assert timing.between_tokens is not None
    assert timing.longest_pause is not None
    assert 0 < timing.first_token < timing.total
    assert 0 < timing.between_tokens <= timing.longest_pause < timing.total
    assert timing.total >= 0.05  # five pieces and more came, each after a pause


def test_characters_that_are_cut_on_the_way_come_whole(server: Playing) -> None:
    text, thought = "naïve 日本語 👩‍👩‍👧 \u2028 e\u0301 \U0001f600 end", "größer als \U0001d518nicode"
    reply = ask_once(server, chopped(say(text, thought), 2))
    assert (reply.text, reply.thought) == (text, thought)
    reply = ask_once(server, chopped(call("look", {"at": text}, thought), 5), functions=(LOOK,))
    assert json.loads(reply.tool_calls[0].arguments) == {"at": text}


FAILURES: dict[Kind, tuple[type[ProviderError], int | None, int]] = {
    "unauthorized": (ProviderRefused, 401, 1),
    "no_model": (ProviderRefused, 404, 1),
    "too_long": (RequestTooLarge, 400, 1),
    "busy": (ProviderOverloaded, 429, 4),
    "broken": (ProviderOverloaded, 500, 4),
    "overloaded": (ProviderOverloaded, 503, 4),
    "web_page": (BrokenReply, None, 4),
    "junk": (BrokenReply, None, 4),
    "squeezed": (BrokenReply, None, 4),
    "broken_squeezed": (ProviderOverloaded, 500, 4),
    "elsewhere": (ProviderRefused, 302, 1),
    "empty": (BrokenReply, None, 4),
    "deep": (ProviderRefused, 400, 1),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_each_refusal_is_its_error(server: Playing, kind: Kind) -> None:
    wanted, status, requests = FAILURES[kind]
    with pytest.raises(ProviderError) as caught:
        ask_once(server, error(kind))
    assert (type(caught.value), caught.value.status) == (wanted, status)
    assert "\n" not in caught.value.message
    assert (len(server.bodies), len(server.naps)) == (requests, requests - 1)
    assert caught.value.usage.requests == requests
    assert caught.value.hint or wanted is BrokenReply or kind == "deep"


def test_a_server_s_wait_is_kept_and_told(server: Playing) -> None:
    server.script(error("busy"), say("Here."))

    async def work(provider: Provider) -> list[Piece]:
        return [piece async for piece in provider.chat(HELLO)]

    first, *_, reply = run(server, work)
    assert isinstance(first, Waiting)
    assert first.seconds == RETRY_AFTER
    assert server.naps == [RETRY_AFTER]
    assert isinstance(reply, Reply)
    assert (reply.text, reply.usage.requests) == ("Here.", 2)


def test_a_server_that_fails_twice_is_asked_thrice(server: Playing) -> None:
    reply = ask_once(server, error("broken"), error("broken"), say("At last."))
    assert (reply.text, reply.usage.requests, len(server.bodies)) == ("At last.", 3, 3)
    assert server.naps == [0.5, 1.0]


FAULTS = {
    "cut": cut,
    "reset": reset,
    "failed": fail,
    "garbled": garble,
}


@pytest.mark.parametrize("after", [0, BEGUN])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_breaks_is_asked_for_again(server: Playing, fault: Any, after: int) -> None:
    after = after or (1 if "a comment first" in server.player.lacks else 0)
    reply = ask_once(server, fault(LONG, after), LONG)
    assert (reply.text, len(server.bodies), len(server.naps)) == (LONG.text, 2, 1)
    assert reply.usage.requests == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_always_breaks_is_an_error(server: Playing, fault: Any) -> None:
    with pytest.raises((BrokenReply, ProviderOverloaded, ProviderUnreachable)) as caught:
        ask_once(server, fault(LONG, BEGUN), attempts=2)
    assert "\n" not in caught.value.message
    assert (len(server.bodies), caught.value.usage.requests) == (2, 2)


@pytest.mark.parametrize(
    "turn",
    [call("look", {"at": "the first file of all"}, "Where?"), say("A short answer.", "Hm.")],
    ids=["call", "text"],
)
def test_half_a_reply_never_comes_out(server: Playing, turn: Turn) -> None:
    """Wherever the stream is cut, the reply is whole: that of this try, or of the next."""

    async def work(provider: Provider) -> int:
        after = whole = 0
        while whole < 2:  # also between the end of the reply and that of the stream
            server.script(cut(turn, after), turn)
            reply = await ask(provider, functions=(LOOK,))
            assert (reply.text, reply.thought) == (turn.text, turn.thought)
            made = tuple((one.name, json.loads(one.arguments)) for one in reply.tool_calls)
            assert made == tuple((name, json.loads(text)) for name, text in turn.calls)
            whole += len(server.bodies) == 1
            after += 1
            assert after < 200
        return after

    assert run(server, work) > 3


def test_a_server_that_is_not_there(server: Playing) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProviderUnreachable, match="can't be reached"):
            run(server, ask, url=url)
    assert len(server.naps) == 3


@pytest.mark.parametrize("after", [-1, BEGUN], ids=["at all", "any more"])
def test_a_server_that_says_nothing_is_given_up(server: Playing, after: int) -> None:
    server.script(hang(LONG, after))
    with pytest.raises(ProviderUnreachable, match="sent nothing for too long"):
        run(server, ask, idle=0.3, attempts=1)
    assert server.line.gone.wait(10)


def test_a_server_that_is_slow_and_alive_is_waited_for(server: Playing) -> None:
    server.script(slow(say("=" * 120), 0.15))
    reply = run(server, ask, idle=0.8, attempts=1)
    assert reply.text == "=" * 120
    assert reply.timing.total > 0.8


@pytest.mark.parametrize("turn", [LONG, call("paint", RED)], ids=["text", "call"])
def test_ten_turns_take_the_connection_of_the_first(server: Playing, turn: Turn) -> None:
    """At the first some servers are also asked for what they have, which may take a second one."""

    async def work(provider: Provider) -> list[int]:
        made = []
        for _ in range(10):
            await ask(provider, functions=[PAINT])
            made.append(CONNECTIONS[port])
        return made

    server.script(turn)
    port = urlsplit(server.server.url).port or 0
    made = run(server, work)
    assert set(made) == {made[0]}
    assert made[0] <= 2


@pytest.mark.parametrize("after", [-1, BEGUN], ids=["before it begins", "in the middle"])
def test_a_cancelled_task_ends_the_server_s_work(server: Playing, after: int) -> None:
    async def work(provider: Provider) -> Reply:
        server.script(hang(LONG, after))
        begun = asyncio.Event()

        async def consume() -> None:
            async for _ in provider.chat(HELLO):
                begun.set()

        task = asyncio.create_task(consume())
        if after < 0:
            assert await asyncio.to_thread(server.line.asked.wait, 10)
        else:
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.line.gone.wait, 10)
        server.script(say("Still here."))
        return await ask(provider)

    assert run(server, work).text == "Still here."


@pytest.mark.parametrize("politely", [True, False])
def test_a_consumer_that_leaves_ends_the_server_s_work(server: Playing, politely: bool) -> None:
    async def first(provider: Provider) -> Piece | None:
        if politely:
            async with aclosing(provider.chat(HELLO)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    return piece
        async for piece in provider.chat(HELLO):
            return piece
        return None

    async def work(provider: Provider) -> Reply:
        server.script(hang(LONG, BEGUN))
        assert isinstance(await first(provider), Delta)
        assert await asyncio.to_thread(server.line.gone.wait, 10)
        server.script(say("Still here."))
        return await ask(provider)

    assert run(server, work).text == "Still here."


def test_a_task_is_cancelled_while_it_waits_to_ask_again(server: Playing) -> None:
    waiting = asyncio.Event()

    async def for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def work(provider: Provider) -> Reply:
        server.script(error("broken"), say("Still here."))
        task = asyncio.create_task(ask(provider))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await ask(provider)

    assert run(server, work, sleep=for_ever).text == "Still here."


def test_a_cancelled_stream_leaves_the_others_alone(server: Playing) -> None:
    async def consume(provider: Provider, text: str, begun: asyncio.Event) -> str:
        pieces = []
        async for piece in provider.chat((Message("user", text),)):
            pieces.append(piece)
            begun.set()
        assert isinstance(pieces[-1], Reply)
        return pieces[-1].text

    async def work(provider: Provider) -> list[str | BaseException]:
        server.script(hang(LONG, BEGUN), slow(say("", echo=True), 0.01))
        begun = [asyncio.Event() for _ in range(5)]
        tasks = []
        for number, event in enumerate(begun):
            tasks.append(asyncio.create_task(consume(provider, f"Number {number}, please.", event)))
            await event.wait()
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, *texts = run(server, work)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert texts == [f"Number {number}, please." for number in range(1, 5)]


def test_a_provider_that_is_closed_says_so(server: Playing) -> None:
    """Also to a task that was in the middle of a stream, and would ask again."""

    async def work(provider: Provider) -> None:
        server.script(hang(LONG, BEGUN))
        begun = asyncio.Event()

        async def consume() -> None:
            async for _ in provider.chat(HELLO):
                begun.set()

        task = asyncio.create_task(consume())
        await begun.wait()
        await provider.close()
        with pytest.raises(ProviderError, match="has been closed"):
            await task
        with pytest.raises(ProviderError, match="has been closed"):
            await ask(provider)

    run(server, work)


def test_a_key_that_no_header_carries_is_refused_and_not_shown(server: Playing) -> None:
    for key in ("two\nlines", "ключ", "a\x00b"):
        with pytest.raises(SettingsError, match="key") as caught:
            server.open(key=key)
        assert key not in caught.value.message + (caught.value.hint or "")


def test_an_address_that_is_none_is_refused(server: Playing) -> None:
    for url in ("", "http://[bad", "ftp://host", "http://localhost:99999", "http://a b", "http://host/\x00"):
        with pytest.raises(SettingsError, match="the endpoint of"):
            server.player.open(url, server.model, server.clock)


def test_an_address_may_end_in_v1(server: Playing) -> None:
    for end in ("/", "/v1", "/v1/"):
        server.script(say("Here."))
        assert run(server, ask, url=server.server.url + end).text == "Here."


def test_fifty_streams_run_at_once_and_do_not_mix(server: Playing) -> None:
    """No reply begins before all fifty are asked for."""

    async def work(provider: Provider) -> list[Reply]:
        server.script(say("Ready."))
        await ask(provider)
        server.script(replace(say(""), echo=True, meets=True), meeting=50)
        asked = [ask(provider, (Message("user", f"Number {number}, please. " * 10),)) for number in range(50)]
        return await asyncio.gather(*asked)

    replies = run(server, work)
    assert [reply.text for reply in replies] == [f"Number {number}, please. " * 10 for number in range(50)]


INFILLING = sorted(name for name, player in PLAYERS.items() if player.infills)


@pytest.mark.parametrize("name", INFILLING)
def test_a_gap_is_filled_in(name: str) -> None:
    with playing(PLAYERS[name], PLAYERS[name].infills) as server:
        server.script(say("return a + b\nEND more"))
        reply = run(
            server, lambda provider: provider.infill("def add(a, b):\n    ", "\n", max_tokens=20, stop=("END",))
        )
    assert (reply.text, reply.finish_reason) == ("return a + b\n", "stop")
    body = json.loads(server.bodies[0])
    assert body["prompt"] == "<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n<|fim_middle|>"


def test_a_path_that_the_server_does_not_have_is_not_found(server: Playing) -> None:
    server.script(say("No."))
    for path in ("/v1/nothing", "/api/nothing", "/nothing"):
        assert httpx.post(f"{server.server.url}{path}", json={}, trust_env=False).status_code == 404
    assert server.bodies == []
