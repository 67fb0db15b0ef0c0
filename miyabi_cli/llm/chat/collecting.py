"""Chat completion chunks, put together to one reply."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.chat.encoding import clean_name, encode_json
from miyabi_cli.messages import Delta, Reply, Timing, ToolCall, Usage

MAX_CHARACTERS = 8_000_000  # many times what any model may write in one reply: a server that never ends is cut off
MAX_CALLS = 1000
MOST_TOKENS = 1 << 53  # what is counted past that is no count
CALL_TOKEN = 200012  # Harmony's <|call|>

# Under which thought comes: vLLM, Groq and OpenRouter; llama.cpp, older vLLM and DeepSeek; some gateways.
THOUGHT_FIELDS = ("reasoning", "reasoning_content", "thinking")


@dataclass(slots=True)
class _PartialCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Say whether its arguments look like a whole object; only asked for calls that came in a piece or two."""
        text = "".join(self.arguments).strip()
        return text.startswith("{") and text.endswith("}")


@dataclass(slots=True)
class ReplyCollector:
    """Takes the first choice of each chunk (`delta`, a whole `message`, or a completion's `text`); gives the `Reply`.

    `thought_field` is the name under which the server sent thought, "" before it did.
    """

    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    calls: list[_PartialCall] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(requests=1, cost_usd=None))
    finish_reason: str = ""
    thought_field: str = ""
    characters: int = 0
    _open: dict[int, _PartialCall] = field(default_factory=dict)
    _index: Any = None
    _streamed: bool = False
    _whole: bool = False

    def add(self, chunk: Mapping[str, Any]) -> Delta | None:
        """Take one chunk; return what is to be seen of it.

        Raises BrokenReply where it is of another shape, or the reply is past all bounds.
        """
        try:
            delta = self._add(chunk)
        except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError):
            raise BrokenReply("the server sent a chunk that is not a chat completion", usage=self.usage) from None
        if delta:
            self.characters += len(delta.text) + len(delta.thought) + len(delta.tool_text)
        if self.characters > MAX_CHARACTERS or len(self.calls) > MAX_CALLS:
            message = f"the server's reply does not end: it has more than {MAX_CHARACTERS:,} characters"
            raise BrokenReply(message, usage=self.usage)
        return delta

    def _add(self, chunk: Mapping[str, Any]) -> Delta | None:
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        if isinstance(usage, dict) and (counted := read_usage(usage)) != read_usage({}):
            self.usage = counted
        choice = self._choice_of(chunk.get("choices") or ())
        if choice is None:
            return None
        reason = choice.get("finish_reason") or choice.get("native_finish_reason")
        if reason == "stop" and choice.get("stop_reason") == CALL_TOKEN:
            reason = "tool_calls"  # vLLM names the token at which gpt-oss stopped, also where it lost the call
        self.finish_reason = str(reason)[:100] if reason else self.finish_reason
        delta = self._delta_of(choice)
        said, thought = _split(delta.get("content"))
        text = said or _split(delta.get("refusal"))[0]
        thought = self._thought_of(delta) or thought
        parts = [*(delta.get("tool_calls") or ())]
        if isinstance(legacy := delta.get("function_call"), dict) and any(legacy.values()):  # some send it empty
            parts.append({"index": 0, "function": legacy})
        tool_text = "".join([self._add_call(part) for part in parts])
        if text:
            self.text.append(text)
        if thought:
            self.thought.append(thought)
        return Delta(text, thought, tool_text) if text or thought or tool_text else None

    def _choice_of(self, choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the choice that the reply is of: one is asked for, and where several come the first is kept to."""
        if self._index is None and choices:
            self._index = choices[0].get("index") or 0
        return next((choice for choice in choices if (choice.get("index") or 0) == self._index), None)

    def _delta_of(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is new: some servers repeat the whole message beside or behind the deltas."""
        if isinstance(delta := choice.get("delta"), dict):
            self._streamed = True
            return delta
        if isinstance(message := choice.get("message"), dict):
            self._whole = True
            return {} if self._streamed else message
        return {"content": choice.get("text")}

    def _thought_of(self, delta: Mapping[str, Any]) -> str:
        for name in THOUGHT_FIELDS:
            if thought := _split(delta.get(name), as_thought=True)[1]:
                self.thought_field = self.thought_field or name
                return thought
        return ""

    def _add_call(self, part: Mapping[str, Any]) -> str:
        function = part.get("function") or {}
        name = function.get("name") or ""
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else encode_json(arguments).decode()
        call = self._call_of(part, name, arguments)
        call.id = call.id or str(part.get("id") or "")
        seen = name if name != call.name else ""  # some servers repeat the name in each chunk
        call.name += seen
        if arguments:
            call.arguments.append(arguments)
        return seen + arguments

    def _call_of(self, part: Mapping[str, Any], name: str, arguments: str) -> _PartialCall:
        """Return the call that a part goes on with, or a new one.

        Some servers send whole calls and no index, and some the index 0 for all: what begins a call is a name that
        comes with a new id, or behind a whole object. A new id alone begins none: old servers change it in each chunk.
        """
        index = part.get("index")
        identity = str(part.get("id") or "")
        if index is None:
            known = next((number for number, one in self._open.items() if identity and one.id == identity), None)
            index = len(self._open) - bool(self._open and not name) if known is None else known
        call = self._open.get(int(index))
        if call is None or (name and _begins(call, identity, name, arguments)):
            call = self._open[int(index)] = _PartialCall()
            self.calls.append(call)
        return call

    def reply(self, timing: Timing) -> Reply:
        """Return the whole. Raises BrokenReply where no finish reason came: a cut stream looks like success."""
        if not self.finish_reason and not (self._whole and not self._streamed):
            raise BrokenReply("the server's reply was cut off before its end", usage=self.usage)
        finish = self.finish_reason or ("tool_calls" if self.calls else "stop")
        return Reply("".join(self.text), "".join(self.thought), self._whole_calls(), self.usage, finish, timing)

    def _whole_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls, each with an id of its own: the server's, or a new one."""
        taken: set[str] = set()
        calls = []
        for call in self.calls:
            identity = call.id if call.id and call.id not in taken else f"call_{uuid.uuid4().hex[:16]}"
            taken.add(identity)
            calls.append(ToolCall(identity, clean_name(call.name), "".join(call.arguments) or "{}"))
        return tuple(calls)


def _begins(call: _PartialCall, identity: str, name: str, arguments: str) -> bool:
    if identity and call.id and identity != call.id:
        return True
    other = name != call.name or bool(arguments)
    return other and not (identity and identity == call.id) and len(call.arguments) in (1, 2) and call.is_whole()


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Read a chat completion's `usage` object: prompt, cached, completion and reasoning tokens."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    prompt = prompt if isinstance(prompt, dict) else {}
    completion = completion if isinstance(completion, dict) else {}
    return Usage(
        requests=1,
        input_tokens=read_count(usage.get("prompt_tokens")),
        cached_tokens=read_count(prompt.get("cached_tokens")) or read_count(usage.get("prompt_cache_hit_tokens")),
        output_tokens=read_count(usage.get("completion_tokens")),
        reasoning_tokens=read_count(completion.get("reasoning_tokens")) or read_count(usage.get("reasoning_tokens")),
        cost_usd=None,
    )


def read_count(value: Any) -> int:
    """Return a number of tokens; 0 for what is none, since no reply is lost for a wrong count."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MOST_TOKENS
    return int(value) if usable else 0


def _split(content: Any, *, as_thought: bool = False) -> tuple[str, str]:
    """Return the text and the thought of a content: a string, an object, or a list of parts of either kind."""
    if not content:
        return "", ""
    if isinstance(content, str):
        return ("", content) if as_thought else (content, "")
    if isinstance(content, list):
        pieces = [_split(part, as_thought=as_thought) for part in content]
        return "".join(text for text, _ in pieces), "".join(thought for _, thought in pieces)
    thinks = as_thought or content.get("type") in ("thinking", "reasoning")
    inner = next((content[key] for key in ("text", "thinking", "content", "refusal") if content.get(key)), None)
    return _split(inner, as_thought=thinks)
