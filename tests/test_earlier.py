"""Events to JSON and back, and what a log tells of a run, for any log: valid, cut, damaged, hostile."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.codegen.earlier import INTERRUPTED, Earlier, read_earlier
from miyabi_cli.errors import MachineError
from miyabi_cli.events import (
    KINDS,
    AttemptEnded,
    AttemptStarted,
    ConversationOpened,
    Event,
    ReplyReceived,
    RunResumed,
    RunStarted,
    ToolEnded,
    ToolStarted,
    WarningRaised,
    event_data,
    event_of,
)
from miyabi_cli.messages import Message, Reply, ToolCall, Usage

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
# Numbers that any reader of JSON reads as they were written.
COUNTS, NUMBERS = some.integers(-(2**53), 2**53), some.floats(-1e9, 1e9)
PLAIN = some.dictionaries(some.text(max_size=9), some.none() | some.booleans() | some.text(max_size=9), max_size=3)
MADE: dict[Any, Any] = {int: COUNTS, float: NUMBERS}


@cache
def events_of(kind: Any) -> some.SearchStrategy[Any]:
    """Return a strategy for a dataclass of events and messages, each field as its type hint says."""
    hints = get_type_hints(kind)
    return some.builds(kind, **{field.name: values_of(hints[field.name]) for field in fields(kind)})


def values_of(hint: Any) -> some.SearchStrategy[Any]:
    if is_dataclass(hint):
        return events_of(hint)
    if "Mapping" in str(hint) or str(hint).startswith("dict"):
        return PLAIN
    if str(hint).startswith("tuple"):
        return some.lists(values_of(get_args(hint)[0]), max_size=2).map(tuple)
    if type(None) in get_args(hint):
        (other,) = set(get_args(hint)) - {type(None)}
        return some.none() | values_of(other)
    return MADE[hint] if hint in MADE else some.from_type(hint)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_event_survives_the_round_trip(kind: Any) -> None:
    @given(events_of(kind))
    def survives(event: Event) -> None:
        assert event_of(json.loads(json.dumps(event_data(event, run_id="1")))) == event

    survives()


def test_a_type_of_a_later_version_is_no_event() -> None:
    assert event_of({"type": "from_the_future"}) is None
    assert event_of({}) is None


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_what_is_no_event_is_a_value_error(kind: Any) -> None:
    names = [field.name for field in fields(kind)]

    @given(some.dictionaries(some.sampled_from(names), JSON))
    def is_refused(data: dict[str, Any]) -> None:
        try:
            event = event_of({"type": kind.type, **data})
        except ValueError:
            return
        assert isinstance(event, kind)  # then all of it holds
        json.dumps(event_data(event, run_id="1"))

    is_refused()


@given(some.dictionaries(some.text(max_size=9), JSON))
def test_any_object_is_an_event_or_none_or_a_value_error(data: dict[str, Any]) -> None:
    assert event_of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        {"type": "reply", "attempt": 1, "step": True, "reply": {"text": "x"}},
        {"type": "reply", "attempt": 1, "step": 1.5, "reply": {"text": "x"}},
        {"type": "reply", "attempt": 1, "step": 1, "reply": {"text": None}},
        {"type": "reply", "attempt": 1, "step": 1, "reply": {"text": "x", "usage": {"cost_usd": float("inf")}}},
        {"type": "reply", "attempt": 10**400, "step": 1, "reply": {"text": "x"}},
        {"type": "message_added", "attempt": 1, "message": {"role": "root", "content": "x"}},
        {"type": "message_added", "attempt": 1, "message": "x"},
        {"type": "conversation_opened", "attempt": 1, "messages": "xy", "functions": []},
        {"type": "tool_ended", "attempt": 1},
    ],
)
def test_a_field_is_held_to_its_type(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a "):
        event_of(data)


# What a log tells

USED = Usage(1, 100, 50, 20, 5, 0.5)
CALL = ToolCall("call-1", "exec", '{"cmd": "ls"}')
STARTED = RunStarted("0", "task", "/r", "0" * 40, "openai", "m", None, "off", {"flags": {}})
RUN: tuple[Event, ...] = (
    STARTED,
    WarningRaised("uncommitted", "", "left out"),
    AttemptStarted(1, "tree"),
    ConversationOpened(1, (Message("system", "s"), Message("user", "u")), ()),
    ReplyReceived(1, 1, Reply("", tool_calls=(CALL,), usage=USED)),
    ToolStarted(1, 1, CALL),
    ToolEnded(1, 1, "call-1", "exec", "", False, (), 0.1),
    AttemptEnded(1, INTERRUPTED, "", "", 1, 0, 0, Usage(2, 150, 50, 20, 5, 0.75), 1.0),
    RunResumed("0", "groq", "n", None, "off", {"flags": {"jobs": 2}}),
    ReplyReceived(1, 2, Reply("done", usage=USED)),
    AttemptEnded(1, "verified", "", "done", 2, 1, 1, Usage(3, 250, 100, 40, 10, 1.25), 2.0),
)


def logged(*events: Event) -> list[dict[str, Any]]:
    """Return a log, as JSON gives it back, with a second between two events."""
    lines = []
    for number, event in enumerate(events):
        data = event_data(event, run_id="1") | {"time": f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000Z"}
        lines.append(json.loads(json.dumps(data)))
    return lines


def earlier_of(*events: Event) -> Earlier:
    earlier = read_earlier("1", logged(*events))
    assert earlier is not None
    return earlier


def test_a_log_is_summed_up_over_the_processes() -> None:
    earlier = earlier_of(*RUN)
    (attempt,) = earlier.attempts.values()
    assert (earlier.started, earlier.options, earlier.provider, earlier.model) == (
        STARTED,
        {"flags": {"jobs": 2}},
        "groq",
        "n",
    )
    assert earlier.usage == attempt.usage == Usage(3, 250, 100, 40, 10, 1.25)  # with what a failed request has cost
    assert (earlier.seconds, attempt.seconds) == (9.0, 6.0)  # the time between two processes does not count
    assert (attempt.steps, attempt.by_tools, attempt.ended) == (2, True, RUN[-1])
    assert earlier.warnings == (RUN[1],)


def test_what_an_attempt_did_before_it_began_anew_is_paid_for_and_forgotten() -> None:
    (attempt,) = earlier_of(*RUN[:8], RUN[2]).attempts.values()
    assert (attempt.steps, attempt.events, attempt.usage) == (0, (RUN[2],), Usage(2, 150, 50, 20, 5, 0.75))


@pytest.mark.parametrize("length", range(len(RUN) + 1))
def test_any_beginning_of_a_log_tells_of_a_run(length: int) -> None:
    earlier = read_earlier("1", logged(*RUN[:length]))
    assert (earlier is None) == (length == 0)
    if earlier is not None:
        assert sum(attempt.steps for attempt in earlier.attempts.values()) == sum(
            isinstance(event, ReplyReceived) for event in RUN[:length]
        )


@given(some.data())
def test_a_changed_log_is_read_or_refused(data: some.DataObject) -> None:
    lines = logged(*RUN)
    for _ in range(data.draw(some.integers(1, 3))):
        line = data.draw(some.sampled_from(lines))
        line[data.draw(some.sampled_from(list(line)))] = data.draw(JSON)
    order = data.draw(some.permutations(lines) | some.just(lines))
    try:
        earlier = read_earlier("1", order)
    except MachineError as error:
        told = error.message
    else:
        told = (
            "\n".join(f"{attempt.steps} {attempt.by_tools}" for attempt in earlier.attempts.values()) if earlier else ""
        )
        assert earlier is None or earlier.seconds >= 0
    assert "damaged" not in told or (told.startswith("the log of run 1 is damaged: ") and "\n" not in told)
    assert len(told) < 300


def test_a_conversation_without_a_message_is_damage() -> None:
    with pytest.raises(MachineError, match="without messages"):
        earlier_of(STARTED, ConversationOpened(1, (), ()))
