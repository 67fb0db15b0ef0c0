"""Chat completion chunks, put together to one reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import BrokenReply
from miyabi_cli.messages import Delta, Reply, Timing, ToolCall, Usage

MAX_CHARACTERS = 8_000_000  # many times what any model may write in one reply: a server that never ends is cut off


@dataclass(slots=True)
class _PartialCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ReplyCollector:
    """Takes `choices[0]` of each chunk (`delta`, a whole `message`, or a completion's `text`); gives the `Reply`.

    Thought is read from `reasoning` (vLLM, Groq) and `reasoning_content` (llama.cpp, older vLLM).
    """

    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    calls: dict[int, _PartialCall] = field(default_factory=dict)
    usage: Usage = field(default_factory=lambda: Usage(requests=1, cost_usd=None))
    finish_reason: str = ""
    characters: int = 0

    def add(self, chunk: Mapping[str, Any]) -> Delta | None:
        """Take one chunk; return what is to be seen of it.

        Raises BrokenReply where it is of another shape, or the reply is past all bounds.
        """
        try:
            delta = self._add(chunk)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError):
            raise BrokenReply("the server sent a chunk that is not a chat completion", usage=self.usage) from None
        if delta:
            self.characters += len(delta.text) + len(delta.thought) + len(delta.tool_text)
        if self.characters > MAX_CHARACTERS:
            message = f"the server's reply does not end: it has more than {MAX_CHARACTERS:,} characters"
            raise BrokenReply(message, usage=self.usage)
        return delta

    def _add(self, chunk: Mapping[str, Any]) -> Delta | None:
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = read_usage(usage)
        choices = chunk.get("choices") or []
        if not choices:
            return None
        choice = choices[0]
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        text = _text(delta.get("content"))
        thought = _text(delta.get("reasoning")) or _text(delta.get("reasoning_content"))
        tool_text = "".join(self._add_call(part) for part in delta.get("tool_calls") or ())
        self.text.append(text)
        self.thought.append(thought)
        return Delta(text, thought, tool_text) if text or thought or tool_text else None

    def _add_call(self, part: Mapping[str, Any]) -> str:
        function = part.get("function") or {}
        index = part.get("index")
        if index is None:  # some servers send whole calls and no index
            index = len(self.calls)
        call = self.calls.setdefault(int(index), _PartialCall())
        call.id = part.get("id") or call.id
        name = function.get("name") or ""
        if name != call.name:  # a name comes whole, and some servers repeat it in each chunk
            call.name += name
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            from miyabi_cli.llm.encoding import encode_json

            arguments = encode_json(arguments).decode()
        call.arguments.append(arguments)
        return name + arguments

    def reply(self, timing: Timing) -> Reply:
        """Return the whole. Raises BrokenReply where no finish reason came: a cut stream looks like success."""
        if not self.finish_reason:
            raise BrokenReply("the server's reply was cut off before its end", usage=self.usage)
        calls = tuple(
            ToolCall(call.id or f"call_{index}", call.name, "".join(call.arguments) or "{}")
            for index, call in sorted(self.calls.items())
        )
        return Reply("".join(self.text), "".join(self.thought), calls, self.usage, self.finish_reason, timing)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Read a chat completion's `usage` object: prompt, cached, completion and reasoning tokens."""
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    return Usage(
        requests=1,
        input_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(prompt.get("cached_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
        cost_usd=None,
    )


def _text(value: Any) -> str:
    """Return a content as text: a string, or the text parts of a list of parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "".join(part.get("text") or "" for part in value)
