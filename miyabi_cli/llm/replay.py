"""Recorded replies, played again: for tests, and for looking at a run again without a model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from miyabi_cli.errors import BrokenReply, MachineError, ProviderError, ToolsRefused
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import (
    ChatRequest,
    Delta,
    Function,
    Message,
    Piece,
    Reply,
    Timing,
    ToolCall,
    Usage,
)


def open_replay(file: Path, model: str | None = None, *, profile: Profile | None = None) -> Provider:
    """Return a model that gives the replies of a file, in their order, and raises ProviderError after the last.

    The file is a run's `events.jsonl` (its `reply` events are taken), or one reply a line:
    `{"text", "thought", "tool_calls": [{"id", "name", "arguments"}], "finish_reason", "usage"}`, each key optional.
    `model` None: the model that the log names, since what a model can do decides how its replies are read.
    Raises MachineError, BrokenReply.
    """
    lines = played(read_lines(file))
    name = model or recorded_model(lines) or "replay"
    return Provider(Replay(name, profile or profile_of(name), replies_of(lines), _replies_with_tools(lines)))


class Replay:
    """A `Wire` that is none: what it gives does not depend on what is asked.

    `with_tools`: after how many replies the recorded server has refused tools; None: never.
    """

    name = "replay"

    def __init__(self, model: str, profile: Profile, replies: Iterable[Reply], with_tools: int | None = None) -> None:
        self.model_name = model
        self.profile = profile
        self._replies = iter(replies)
        self._with_tools = with_tools
        self._given = 0

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        can = self.profile.capabilities
        return replace(can, tools=can.tools and (self._with_tools is None or self._given < self._with_tools))

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        if request.functions and not self.capabilities.tools:
            raise ToolsRefused("the recorded server took no tools from here on")
        self._given += 1
        reply = next(self._replies, None)
        if reply is None:
            raise ProviderError(
                "the recording has no more replies", hint="the run went another way than the recorded one"
            )
        yield Delta(reply.text, reply.thought, "".join(call.name + call.arguments for call in reply.tool_calls))
        yield reply

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:  # noqa: ARG002
        return self.stream(ChatRequest(()))

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return upper_bound(messages, functions)

    async def close(self) -> None:
        return None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a recording's lines. A torn last line, as a killed run leaves, is passed over.

    Raises MachineError where the file can't be read, BrokenReply where a line is no JSON object.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    except OSError as error:
        raise MachineError(f"can't read the recording {file}: {error.strerror}") from None
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            objects.append(value)
        elif number < len(lines):
            raise BrokenReply(f"{file}, line {number} is not a recorded reply")
    return objects


def played(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the lines of a run's log that belong to what it came to, one attempt after the other.

    Left out are what an attempt did before it began anew and, in a run that has a result, the attempts that a better
    one has interrupted. The lines of another recording, which know no attempts, come back as they are.
    """
    whole: list[Mapping[str, Any]] = []
    attempts: dict[int, list[Mapping[str, Any]]] = {}
    for line in lines:
        number = line.get("attempt")
        if not isinstance(number, int) or not number:
            whole.append(line)
            continue
        if line.get("type") == "attempt_started":
            attempts[number] = []
        attempts.setdefault(number, []).append(line)
    if any(line.get("type") == "result" for line in whole):
        attempts = {number: part for number, part in attempts.items() if part[-1].get("status") != "interrupted"}
    return [*whole, *(line for _, part in sorted(attempts.items()) for line in part)]


def _replies_with_tools(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """Return how many replies came before the first conversation that was opened without functions."""
    replies = 0
    for line in lines:
        if line.get("type") == "conversation_opened" and not line.get("functions"):
            return replies
        replies += line.get("type") == "reply"
    return None


def recorded_model(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the model that a run's log names."""
    started = next((line for line in lines if line.get("type") == "run_started"), {})
    return started.get("model")


def replies_of(lines: Sequence[Mapping[str, Any]]) -> list[Reply]:
    """Return the replies of a recording in their order. Raises BrokenReply for one that is none."""
    replies = []
    for line in lines:
        if line.get("type", "reply") == "reply":
            try:
                replies.append(reply_of(line.get("reply", line)))
            except (TypeError, AttributeError, KeyError):
                raise BrokenReply(f"not a recorded reply: {str(line)[:100]}") from None
    return replies


def reply_of(data: Mapping[str, Any]) -> Reply:
    """Return a reply from its JSON object, as `dataclasses.asdict` writes it. Raises TypeError, KeyError."""
    calls = tuple(
        ToolCall(str(call.get("id") or f"call_{index}"), call["name"], _json_text(call.get("arguments", "{}")))
        for index, call in enumerate(data.get("tool_calls") or ())
    )
    return Reply(
        text=data.get("text") or "",
        thought=data.get("thought") or "",
        tool_calls=calls,
        usage=Usage(**(data.get("usage") or {"requests": 1})),
        finish_reason=data.get("finish_reason") or ("tool_calls" if calls else "stop"),
        timing=Timing(**(data.get("timing") or {})),
    )


def _json_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
