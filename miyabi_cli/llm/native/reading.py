"""Replies of Ollama's native API: chunks put together, and its errors read into those of the project."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from miyabi_cli.errors import (
    BrokenReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    RequestTooLarge,
    ToolsRefused,
)
from miyabi_cli.llm.chat.collecting import MAX_CALLS, MAX_CHARACTERS, read_count
from miyabi_cli.llm.chat.healing import heal
from miyabi_cli.llm.failures import TOO_LARGE, error_object, server_message
from miyabi_cli.llm.harmony.offered import Offered, clean_name
from miyabi_cli.llm.native.encoding import is_cloud, plain_name
from miyabi_cli.llm.native.salvage import FAILED, new_id, salvage_call
from miyabi_cli.messages import Delta, Function, Reply, Timing, ToolCall, Usage

_NOT_FOUND = re.compile(r"model .{0,200}not found", re.DOTALL)
_MEMORY = re.compile(r"requires more (system )?memory|unable to load model", re.IGNORECASE)


@dataclass(slots=True)
class OllamaCollector:
    """Takes the objects of one reply of `/api/chat` or `/api/generate`.

    `functions` are those that were offered; `cost_usd` what a reply costs (None: not known). `load_seconds`: how long
    the model took to be there; a hundredth of a second or so where it was loaded already.
    """

    model: str
    functions: Sequence[Function] = ()
    cost_usd: float | None = None
    text: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(requests=1))
    done: bool = False
    finish_reason: str = ""
    characters: int = 0
    load_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.usage = replace(self.usage, cost_usd=self.cost_usd)

    def add(self, chunk: Mapping[str, Any]) -> Delta | None:
        """Take one object; return what is to be seen of it. Raises ProviderError for an error in the stream."""
        if said := stream_error(chunk):
            return self._failed(said)
        try:
            delta = self._add(chunk)
        except (AttributeError, TypeError, ValueError, KeyError, RecursionError):
            raise BrokenReply("ollama sent something that is not a part of a reply", usage=self.usage) from None
        if delta:
            self.characters += len(delta.text) + len(delta.thought) + len(delta.tool_text)
        if self.characters > MAX_CHARACTERS or len(self.calls) > MAX_CALLS:
            message = f"ollama's reply does not end: it has more than {MAX_CHARACTERS:,} characters"
            raise BrokenReply(message, usage=self.usage)
        return delta

    def _add(self, chunk: Mapping[str, Any]) -> Delta | None:
        message = chunk.get("message") or {"content": chunk.get("response")}
        text, thought = _text(message.get("content")), _text(message.get("thinking"))
        tool_text = "".join(self._add_call(call) for call in message.get("tool_calls") or ())
        self.text.append(text)
        self.thought.append(thought)
        if chunk.get("remote_host") or chunk.get("remote_model"):
            self.cost_usd = None  # the model was another's after all
        self._count(chunk)
        self.load_seconds = read_count(chunk.get("load_duration")) / 1e9 or self.load_seconds
        if chunk.get("done") is True:
            self.done = True
            self.finish_reason = _text(chunk.get("done_reason")) or "stop"
        return Delta(text, thought, tool_text) if text or thought or tool_text else None

    def _count(self, chunk: Mapping[str, Any]) -> None:
        self.usage = Usage(
            requests=1,
            input_tokens=read_count(chunk.get("prompt_eval_count")) or self.usage.input_tokens,
            cached_tokens=read_count(chunk.get("prompt_eval_cached_count")) or self.usage.cached_tokens,
            output_tokens=read_count(chunk.get("eval_count")) or self.usage.output_tokens,
            cost_usd=self.cost_usd,
        )

    def _add_call(self, call: Mapping[str, Any]) -> str:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
        name = offered_name(_text(function.get("name")), self.functions)
        identity = _text(call.get("id"))
        if not identity or any(identity == other.id for other in self.calls):
            identity = new_id()
        self.calls.append(ToolCall(identity, name, text))
        return name + text

    def _failed(self, said: str) -> Delta:
        if not self.salvaged(said):
            raise error_of(said, self.model, usage=self.usage)
        return Delta(tool_text="".join(call.name + call.arguments for call in self.calls))

    def salvaged(self, said: str) -> bool:
        """Take the call that an error quotes, if there is one: then the reply is whole."""
        calls = salvage_call(said, self.functions)
        if calls:
            self.calls = list(calls)
            self.done, self.finish_reason = True, "stop"
        return bool(calls)

    def reply(self, timing: Timing) -> Reply:
        """Return the whole. Raises BrokenReply where it was cut off, or nothing was done but to load the model."""
        if not self.done:
            raise BrokenReply("ollama's reply was cut off before its end", usage=self.usage)
        text, thought = "".join(self.text), "".join(self.thought)
        if self.finish_reason in ("load", "unload") and not (text or thought or self.calls):
            raise BrokenReply(f"ollama answered with a model's {self.finish_reason} alone", usage=self.usage)
        reply = Reply(text, thought, tuple(self.calls), self.usage, self.finish_reason, timing)
        return heal(reply, self.functions)


def offered_name(name: str, functions: Sequence[Function]) -> str:
    """Return the function that a call's name means: the one whose name it is, once Ollama's changes are undone.

    A channel's tag may be glued to it. What names none, or several, stays as it was written.
    """
    clean = clean_name(name)
    names = [function.name for function in functions]
    if clean in names:
        return clean
    plain = plain_name(clean.removeprefix("functions."))
    same = [name for name in names if plain_name(name) == plain]
    if len(same) == 1:
        return same[0]
    return Offered(functions).named(clean) or clean or "unknown"


def stream_error(chunk: Mapping[str, Any]) -> str:
    """Return the error that an object of a stream is, "" where it is none.

    Ollama 0.11 put the words into the key: `{"error parsing tool call": …}`.
    """
    if error := chunk.get("error"):
        if isinstance(error, Mapping):
            error = error.get("message") or json.dumps(dict(error))
        return str(error)
    return f"{FAILED}: {chunk[FAILED]}" if FAILED in chunk else ""


def error_of(said: str, model: str, *, status: int | None = None, usage: Usage | None = None) -> ProviderError:
    """Return the error that Ollama's words mean; a status comes only with an answer that is no stream."""
    line = server_message(said.encode("utf-8", "replace"))  # llama.cpp's errors come as JSON within the text
    answered = f"ollama answered {status}: {line}" if status else f"ollama failed while it answered: {line}"
    detail = error_object(said.encode("utf-8", "replace")) or {"message": said}
    usage = usage or Usage()
    if TOO_LARGE.search(said) and status in (400, 413, 500, None):
        hint = "raise llm.ollama.num_ctx where the memory allows it, or take a smaller task"
        return RequestTooLarge(answered, hint=hint, status=status, usage=usage, detail=detail)
    if _NOT_FOUND.search(said) and status in (404, None):
        return ProviderRefused(answered, hint=_pull_hint(model), status=status, usage=usage, detail=detail)
    if _MEMORY.search(said):
        hint = "use a smaller model, or lower llm.ollama.num_ctx"
        return ProviderRefused(answered, hint=hint, status=status, usage=usage, detail=detail)
    if "does not support tools" in said:
        hint = "take a model that calls tools, or be content with actions as JSON"
        return ToolsRefused(answered, hint=hint, status=status, usage=usage, detail=detail)
    if "server busy" in said:
        hint = "the server's queue is full; try again later, or raise OLLAMA_MAX_QUEUE there"
        return ProviderOverloaded(answered, hint=hint, status=status, usage=usage, detail=detail)
    return BrokenReply(answered, status=status, usage=usage, detail=detail)


def explained(error: ProviderError, model: str) -> ProviderError:
    """Return a refusal with what Ollama means by it, and what can be done."""
    said = str(error.detail.get("message") or "")
    if error.status is None or not said:
        return error
    if error.status in (401, 403) and is_cloud(model):
        hint = "sign in on the server: ollama signin; or set llm.ollama.api_key"
        return ProviderRefused(error.message, hint=hint, status=error.status, usage=error.usage, detail=error.detail)
    read = error_of(said, model, status=error.status, usage=error.usage)
    read.retry_after = error.retry_after
    known = not isinstance(read, BrokenReply) or FAILED in said
    return read if known else error


def _pull_hint(model: str) -> str:
    return f"get it: miyabi model pull {model} -p ollama"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
