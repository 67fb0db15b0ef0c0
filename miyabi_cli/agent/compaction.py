"""A conversation that no longer fits the model's window, shortened: task, patch so far and last results stay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from miyabi_cli.agent.arguments import BadArguments, read_arguments
from miyabi_cli.fences import fenced
from miyabi_cli.llm.counting import bound_of_messages
from miyabi_cli.messages import Message, ToolCall
from miyabi_cli.workspace.output import BoundedOutput

SHORTENED = "The conversation was shortened here, since it came near the end of your window. What matters of it:"
GO_ON = "Your last calls and their results, as far as they fit, follow. Go on with the task."
LEAST_ROOM = 3_000  # bytes beside the head, however large the head is
LEAST_TEXT = 64
LINE_LENGTH = 120


@dataclass(frozen=True, slots=True)
class Digest:
    """What is told of the part that goes: the patch so far, a line per call, and what the checks last said."""

    patch: str = ""
    calls: Sequence[str] = ()
    feedback: str = ""


def head_length(messages: Sequence[Message]) -> int:
    """Return how many messages are the head: the instructions and the task, which stay byte for byte."""
    first = next((number for number, message in enumerate(messages) if message.role == "user"), len(messages) - 1)
    return first + 1


def compact(messages: Sequence[Message], digest: Digest, budget: int) -> tuple[Message, ...]:
    """Return a conversation of about `budget` bytes, or a little more than its head where that alone is longer.

    It is the head, one message of the user's with the digest, and the newest groups of a reply and its results.
    """
    length = head_length(messages)
    head = messages[:length]
    room = max(budget - bound_of_messages(head), LEAST_ROOM)
    kept = _newest(_groups(messages[length:]), room // 2)
    note = Message("user", _note(digest, kept, room - bound_of_messages(kept)))
    return (*head, note, *kept)


def call_line(call: ToolCall, changed: Sequence[str], *, failed: bool) -> str:
    """Return a call in one line: its name, what it was about, and how it ended."""
    what = ", ".join(changed) or _main_argument(call.arguments)
    line = " ".join(f"{call.name[:40]} {what[: LINE_LENGTH * 2]}".split())
    return f"{line[:LINE_LENGTH]}: {'failed' if failed else 'ok'}"


def shortened(text: str, limit: int) -> str:
    """Return a text of about `limit` bytes, its head and its tail."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    output = BoundedOutput(limit)
    output.feed(data)
    return output.text()[0]


def _main_argument(arguments: str) -> str:
    try:
        values = list(read_arguments(arguments, "text").values())
    except BadArguments:
        return arguments
    value = values[0] if values else ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Part a conversation: each reply with what follows it, so that no result is without its call."""
    groups: list[list[Message]] = []
    for message in messages:
        if message.role == "assistant" or not groups:
            groups.append([message])
        else:
            groups[-1].append(message)
    return groups


def _newest(groups: Sequence[Sequence[Message]], room: int) -> list[Message]:
    """Return the newest groups that fit; the last one whole where it can be, the long texts of older ones cut."""
    kept: list[Message] = []
    for number, group in enumerate(reversed(groups)):
        if group[0].role != "assistant":  # a digest from before
            break
        left = room - bound_of_messages(kept)
        fitting = _fitting(group, left, _ever_smaller(left) if number == 0 else (room // 8,))
        if fitting is None:
            break
        kept = [*fitting, *kept]
    return kept


def _fitting(group: Sequence[Message], room: int, limits: Iterable[int]) -> list[Message] | None:
    """Return a group with its texts cut to the first of the limits at which it fits; None where none is enough."""
    for limit in limits:
        cut = [_cut(message, limit) for message in group]
        if bound_of_messages(cut) <= room:
            return cut
    return None


def _ever_smaller(limit: int) -> Iterator[int]:
    while limit >= LEAST_TEXT:
        yield limit
        limit = limit * 3 // 4


def _cut(message: Message, limit: int) -> Message:
    calls = tuple(replace(call, arguments=_cut_arguments(call.arguments, limit)) for call in message.tool_calls)
    content, thought = shortened(message.content, limit), shortened(message.thought, limit)
    return replace(message, content=content, thought=thought, tool_calls=calls)


def _cut_arguments(arguments: str, limit: int) -> str:
    """Return arguments that are still JSON, their long texts cut; an empty object where that is not enough."""
    if len(arguments) <= limit:
        return arguments
    try:
        cut = json.dumps(_cut_value(json.loads(arguments), limit // 2))
    except (ValueError, RecursionError):
        return "{}"
    return cut if len(cut) <= 2 * limit else "{}"


def _cut_value(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return shortened(value, limit)
    if isinstance(value, dict):
        return {key: _cut_value(item, limit) for key, item in value.items()}
    return [_cut_value(item, limit) for item in value] if isinstance(value, list) else value


def _note(digest: Digest, kept: Sequence[Message], room: int) -> str:
    """Return the words that stand for what goes, of at most about `room` bytes."""
    is_told = not digest.feedback or any(digest.feedback == message.content for message in kept)
    patch = fenced(shortened(digest.patch, room * 2 // 5)) or "Nothing is changed yet."
    parts = [
        SHORTENED,
        f"## Calls so far\n{_listed(digest.calls, room // 6)}" if digest.calls else "",
        f"## The patch so far\n{patch}",
        "" if is_told else f"## What the checks said\n{shortened(digest.feedback, room // 6)}",
        GO_ON,
    ]
    return "\n\n".join(part for part in parts if part)


def _listed(calls: Sequence[str], room: int) -> str:
    """Return the newest calls that fit, the oldest of them first."""
    lines: list[str] = []
    for call in reversed(calls):
        room -= len(call.encode("utf-8", "replace")) + 3
        if room < 0:
            lines.append(f"({len(calls) - len(lines)} before)")
            break
        lines.append(f"- {call}")
    return "\n".join(reversed(lines))
