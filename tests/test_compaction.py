"""Conversations that outgrow the model's window: what stays, when it is shortened, and what the log keeps of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.agent.allowance import Allowance, Bounds
from miyabi_cli.agent.compaction import LEAST_ROOM, SHORTENED, Digest, call_line, compact, head_length
from miyabi_cli.agent.conversation import Conversation, Question
from miyabi_cli.errors import ProviderError, RequestTooLarge
from miyabi_cli.events import ConversationCompacted, Event
from miyabi_cli.fences import fenced
from miyabi_cli.llm.counting import bound_of_messages, upper_bound
from miyabi_cli.llm.profiles import Profile
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.replay import Replay
from miyabi_cli.messages import ChatRequest, Function, Message, Piece, Reply, Sampling, ToolCall, Usage
from tests.conftest import Miyabi
from tests.support.schemas import validate
from tests.support.server import Request, call, chat_server, say, send_error, stream
from tests.test_codegen import FIX, TASK, model, result_of

HEAD = [Message("system", "Be good."), Message("user", "The task.")]


def step(number: int, output: str, thought: str = "", arguments: str = '{"cmd": "ls"}') -> list[Message]:
    asked = Message("assistant", "", thought, (ToolCall(f"call-{number}", "exec", arguments),))
    return [asked, Message("tool", output, tool_call_id=f"call-{number}", tool_name="exec")]


def steps(count: int, output: str) -> list[Message]:
    return [message for number in range(count) for message in step(number, f"{number}: {output}")]


def test_head_patch_calls_feedback_and_the_last_results_stay() -> None:
    digest = Digest("+    return a + b", ["exec ls: ok", "exec pytest: failed"], "test_add fails")
    short = compact([*HEAD, *steps(50, "x" * 500)], digest, 8_000)
    assert list(short[:2]) == HEAD
    note = short[2].content
    assert note.startswith(SHORTENED)
    assert "- exec ls: ok\n- exec pytest: failed" in note
    assert fenced("+    return a + b") in note
    assert "test_add fails" in note
    assert short[-2:] == tuple(step(49, f"49: {'x' * 500}"))
    assert len(short) > 5


def test_the_last_result_is_cut_at_both_ends_where_it_is_too_large_alone() -> None:
    short = compact([*HEAD, *steps(3, "old"), *step(3, f"first{'x' * 100_000}last")], Digest(), 8_000)
    assert [message.role for message in short[-2:]] == ["assistant", "tool"]
    assert 2_000 < len(short[-1].content) < 4_000
    assert short[-1].content.startswith("first")
    assert short[-1].content.endswith("last")
    assert "bytes left out" in short[-1].content
    assert "Nothing is changed yet." in short[2].content


def test_a_call_with_long_arguments_is_still_a_call() -> None:
    arguments = json.dumps({"patch": f"*** Begin Patch{'x' * 50_000}*** End Patch", "argv": ["y" * 50_000], "n": 1})
    short = compact([*HEAD, *step(1, "Done.", arguments=arguments)], Digest(), 8_000)
    (called,) = short[-2].tool_calls
    read = json.loads(called.arguments)
    assert (read["patch"][:15], read["patch"][-13:], read["n"]) == ("*** Begin Patch", "*** End Patch", 1)
    assert short[-1].content == "Done."


def test_actions_as_objects_keep_their_results() -> None:
    told = [
        message
        for number in range(30)
        for message in (
            Message("assistant", json.dumps({"tool": "exec", "arguments": {"cmd": f"seq {number}"}})),
            Message("user", f"Result of exec:\n{number}{'x' * 500}"),
        )
    ]
    short = compact([*HEAD, *told], Digest(), 8_000)
    assert [message.role for message in short[:4]] == ["system", "user", "user", "assistant"]
    assert short[-2:] == tuple(told[-2:])


def test_feedback_that_is_among_the_last_messages_is_not_said_twice() -> None:
    messages = [*HEAD, *steps(20, "x" * 500), Message("assistant", "Done."), Message("user", "test_add fails")]
    short = compact(messages, Digest(feedback="test_add fails"), 6_000)
    assert [message.content for message in short].count("test_add fails") == 1
    assert "test_add fails" not in short[2].content


def test_a_second_shortening_leaves_one_digest() -> None:
    once = compact([*HEAD, *steps(20, "x" * 900)], Digest("one", ["exec a: ok"]), 9_000)
    twice = compact([*once, *steps(20, "y" * 900)], Digest("two", ["exec a: ok", "exec b: ok"]), 9_000)
    assert [message.content.startswith(SHORTENED) for message in twice].count(True) == 1
    assert "two" in twice[2].content


TEXTS = some.text(some.characters(codec="utf-8"), max_size=300).flatmap(
    lambda text: some.integers(0, 200).map(lambda times: text * times)
)


@given(
    texts=some.lists(some.tuples(TEXTS, TEXTS, TEXTS), max_size=12),
    patch=TEXTS,
    calls=some.lists(some.text(max_size=120), max_size=100),
    feedback=TEXTS,
    budget=some.integers(0, 50_000),
)
def test_it_keeps_to_its_budget_and_every_result_has_its_call(
    texts: list[tuple[str, str, str]], patch: str, calls: list[str], feedback: str, budget: int
) -> None:
    messages = list(HEAD)
    for number, (output, thought, argument) in enumerate(texts):
        messages += step(number, output, thought, json.dumps({"cmd": argument}) if number % 3 else argument)
    short = compact(messages, Digest(patch, calls, feedback), budget)
    assert list(short[:2]) == HEAD
    assert bound_of_messages(short) <= max(budget, bound_of_messages(HEAD) + LEAST_ROOM)
    asked = [called.id for message in short for called in message.tool_calls]
    assert [message.tool_call_id for message in short if message.role == "tool"] == asked
    assert asked == [f"call-{number}" for number in range(len(texts) - len(asked), len(texts))]


def test_the_head_ends_with_the_task() -> None:
    assert head_length([*HEAD, Message("user", "more")]) == 2
    assert head_length([Message("user", "task"), Message("assistant", "x")]) == 1
    assert head_length([Message("system", "only")]) == 1


@pytest.mark.parametrize(
    ("arguments", "changed", "line"),
    [
        ('{"cmd": ["pytest", "-q"]}', (), "exec pytest -q: failed"),
        ('{"patch": "*** Begin"}', ("a.py", "b.py"), "exec a.py, b.py: failed"),
        ('{"cmd": "a\\n\\tb"}', (), "exec a b: failed"),
        ("{}", (), "exec: failed"),
        ('{"cmd": "half', (), 'exec {"cmd": "half: failed'),
    ],
)
def test_a_call_is_told_in_a_line(arguments: str, changed: tuple[str, ...], line: str) -> None:
    assert call_line(ToolCall("1", "exec", arguments), changed, failed=True) == line
    assert len(call_line(ToolCall("1", "exec" * 99, "x" * 9_999), changed, failed=False)) < 130


def test_the_bound_counts_bytes_and_frames() -> None:
    message = Message("assistant", "é", "t", (ToolCall("1", "f", "{}"),))
    assert bound_of_messages([message]) == 2 + 1 + 1 + 2 + 2 * 16
    assert upper_bound([message]) == bound_of_messages([message]) + 16


@dataclass
class Small(Replay):
    """A wire with a small window that counts four bytes to a token, and refuses what is longer than `real`."""

    window: int = 4_000
    real: int = 1_000_000
    learns: bool = False
    sent: list[ChatRequest] = field(default_factory=list)
    counted: int = 0
    gives_usage: bool = True

    def __post_init__(self) -> None:
        super().__init__("small", Profile(""), ())

    @property
    def max_tokens(self) -> int:
        return self.window

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        self.counted += 1
        return upper_bound(messages, functions) // 4

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        self.sent.append(ChatRequest(tuple(request.messages), sampling=request.sampling))
        tokens = upper_bound(request.messages) // 4
        if tokens + (request.sampling.max_tokens or 0) > self.real:
            if self.learns:
                self.window = self.real
            raise RequestTooLarge("too long", usage=Usage(requests=1))
        yield Reply("Done.", usage=Usage(1, tokens, output_tokens=3) if self.gives_usage else Usage(1))


def talk(
    wire: Small, messages: list[Message], *, max_tokens: int | None = 1_000
) -> tuple[Conversation, list[Event | Reply]]:
    async def patch() -> str:
        return "+the patch"

    conversation = Conversation(
        Provider(wire), messages, Allowance(Bounds()), Sampling(max_tokens=max_tokens), patch=patch
    )
    return conversation, ask(conversation)


def ask(conversation: Conversation) -> list[Event | Reply]:
    async def main() -> list[Event | Reply]:
        pieces = [piece async for piece in conversation.ask(Question())]
        conversation.messages += [piece.message() for piece in pieces if isinstance(piece, Reply)]
        return pieces

    return asyncio.run(main())


def compactions(pieces: Sequence[Event | Reply]) -> list[ConversationCompacted]:
    return [piece for piece in pieces if isinstance(piece, ConversationCompacted)]


def test_what_surely_fits_is_not_even_counted() -> None:
    wire = Small()
    conversation, _ = talk(wire, list(HEAD))
    for number in range(5):
        conversation.messages += step(number, "x" * 300)
        assert not compactions(ask(conversation))
    assert wire.counted == 0


def test_what_comes_near_the_window_is_counted_and_goes_as_it_is_where_it_fits() -> None:
    wire = Small()
    conversation, pieces = talk(wire, [*HEAD, *steps(5, "x" * 1_500)])
    assert (wire.counted, compactions(pieces)) == (1, [])
    assert len(wire.sent[0].messages) == len(conversation.messages) - 1


@pytest.mark.parametrize("gives_usage", [True, False])
def test_what_does_not_fit_is_shortened_to_half_and_then_appended_to(gives_usage: bool) -> None:
    wire = Small(gives_usage=gives_usage)
    conversation, pieces = talk(wire, [*HEAD, *steps(30, "x" * 600)])
    (event,) = compactions(pieces)
    assert (event.messages_before, event.messages) == (62, wire.sent[0].messages)
    assert event.tokens_before > 3_000 > 1_700 > event.tokens_after
    assert "+the patch" in event.messages[2].content
    for number in range(2):
        conversation.messages += step(number, "x" * 600)
        assert not compactions(ask(conversation))
    assert wire.sent[2].messages[: len(event.messages)] == event.messages


def test_a_head_that_alone_is_too_long_is_sent_as_it_is() -> None:
    wire = Small()
    _, pieces = talk(wire, [Message("system", "x" * 20_000), Message("user", "task")])
    assert compactions(pieces) == []
    assert len(wire.sent) == 1


def test_a_server_with_a_smaller_window_than_thought_gets_it_shorter() -> None:
    wire = Small(window=100_000, real=3_000)
    conversation, pieces = talk(wire, [*HEAD, *steps(30, "x" * 600)])
    assert [event.attempt for event in compactions(pieces)] == [1]
    assert isinstance(pieces[-1], Reply)
    assert conversation.allowance.usage.requests == 2


def test_a_window_that_is_learnt_on_the_way_is_kept_to() -> None:
    wire = Small(window=100_000, real=4_000, learns=True)
    conversation, pieces = talk(wire, [*HEAD, *steps(30, "x" * 600)], max_tokens=20_000)
    assert len(compactions(pieces)) == 1
    assert [request.sampling.max_tokens for request in wire.sent] == [20_000, 2_000]
    conversation.messages += step(1, "x" * 9_000)
    ask(conversation)
    assert len(wire.sent) == 3  # foreseen: the server refused nothing more


def test_a_long_reply_that_leaves_no_room_is_asked_for_shorter() -> None:
    wire = Small(window=100_000, real=3_000)
    _, pieces = talk(wire, list(HEAD), max_tokens=20_000)
    assert isinstance(pieces[-1], Reply)
    assert [request.sampling.max_tokens for request in wire.sent] == [20_000, 5_000, 1_250]


def test_a_server_that_refuses_every_length_is_an_error_after_two_shortenings() -> None:
    wire = Small(window=100_000, real=1)
    with pytest.raises(RequestTooLarge):
        talk(wire, [*HEAD, *steps(30, "x" * 600)])
    sizes = [bound_of_messages(request.messages) for request in wire.sent]
    assert len(sizes) == 3
    assert sizes[0] > sizes[1] * 1.8
    assert sizes[1] > sizes[2]


def test_a_server_that_can_not_count_is_no_error() -> None:
    class Countless(Small):
        async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
            raise ProviderError("no tokenizer")

    _, pieces = talk(Countless(), [*HEAD, *steps(30, "x" * 600)])
    assert len(compactions(pieces)) == 1


def window_of(limit: int, *turns: dict[str, Any]) -> Callable[[BaseHTTPRequestHandler, Request], None]:
    """Play turns, the last one again and again, by a server whose window is `limit` tokens of four bytes."""
    left = list(turns)

    def play(handler: BaseHTTPRequestHandler, request: Request) -> None:
        tokens, asked = len(request.body) // 4, request.json["max_tokens"]
        if tokens + asked > limit:
            said = (
                f"This model's maximum context length is {limit} tokens. However, you requested {asked} output tokens "
                f"and your prompt contains at least {tokens} input tokens, for a total of at least {tokens + asked} "
                "tokens. Please reduce the length of the input prompt or the number of requested output tokens."
            )
            send_error(400, {"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}})(
                handler, None
            )
            return
        turn = left.pop(0) if len(left) > 1 else left[0]
        stream(handler, {**turn, "usage": {"prompt_tokens": tokens, "completion_tokens": 50}})

    return play


def test_a_run_goes_on_past_the_window(repository: Path, miyabi: Miyabi) -> None:
    noise = [call("exec", {"cmd": f"seq {number} 500"}, thought=f"Thought {number}.") for number in range(1, 9)]
    with chat_server(window_of(6_000, call("apply_patch", {"patch": FIX}), *noise, say("It adds now."))) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "jsonl", cwd=repository)
        bodies = [request.json for request in server.requests]
    assert ran.code == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    for event in events:
        validate(event, "event")
    assert (events[-1]["result"]["status"], events[-1]["result"]["summary"]) == ("verified", "It adds now.")
    found = [event for event in events if event["type"] == "conversation_compacted"]
    assert found
    assert f"the conversation was shortened: {found[0]['messages_before']} messages to" in ran.stderr
    note = found[0]["messages"][2]["content"]
    (request,) = [body for body in bodies if len(body["messages"]) > 2 and body["messages"][2]["content"] == note][:1]
    assert request["messages"][:2] == bodies[0]["messages"]
    assert "+    return a + b" in note
    assert "- apply_patch calc.py: ok\n- exec seq 1 500: ok" in note
    *_, asked, result = request["messages"]
    assert (asked["reasoning"][:7], result["role"]) == ("Thought", "tool")
    assert result["content"].rstrip().endswith("500")
    assert told_by(events) == [message["content"] for message in bodies[-1]["messages"]]
    shown = miyabi("runs", "show", "--events").stdout
    assert "── the conversation was shortened: " in shown
    assert SHORTENED in shown


def told_by(events: Sequence[dict[str, Any]]) -> list[str]:
    """Return the last request's messages, made again from a run's events alone."""
    messages: list[str] = []
    for event in events:
        if event["type"] in ("conversation_opened", "conversation_compacted"):
            messages = [message["content"] for message in event["messages"]]
        elif event["type"] == "reply":
            messages.append(event["reply"]["text"])
        elif event["type"] == "tool_ended":
            messages.append(event["output"])
    return messages[:-1]


def test_a_window_that_does_not_hold_the_task_is_exit_3(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(window_of(500, say("never said"))) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
        assert len(server.requests) <= 6
    assert (ran.code, ran.stdout) == (3, "")
    assert "maximum context length is 500 tokens" in ran.stderr
    assert "hint: use a model with a larger window" in ran.stderr


def test_what_the_checks_said_outlives_a_shortening(repository: Path, miyabi: Miyabi) -> None:
    wrong = FIX.replace("a + b", "b - a")
    mend = FIX.replace("a - b", "b - a")
    noise = [call("exec", {"cmd": f"seq {number} 900"}) for number in range(1, 6)]
    turns = [call("apply_patch", {"patch": wrong}), say("Turned."), *noise, call("apply_patch", {"patch": mend})]
    with chat_server(window_of(8_000, *turns, say("Adds."))) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
        notes = [
            message["content"]
            for request in server.requests
            for message in request.json["messages"]
            if message["content"].startswith(SHORTENED)
        ]
    assert result_of(ran)["status"] == "verified"
    assert notes
    assert "## What the checks said\nThe checks were run with your change" in notes[-1]
    assert "test_add" in notes[-1].partition("## What the checks said")[2]
