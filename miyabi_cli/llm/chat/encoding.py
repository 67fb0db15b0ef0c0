"""Messages and functions as the JSON of a chat completions request.

The body of every request of a run begins with the same bytes (model, tools, then the messages, which are only
appended to), and what may change between attempts comes last. So a server's prefix cache serves the whole history,
and a message is encoded once however often it is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.fences import fenced
from miyabi_cli.llm.chat.dialects import OPENAI, Dialect
from miyabi_cli.llm.harmony.offered import addressed_name
from miyabi_cli.llm.pieces import PieceCache
from miyabi_cli.messages import Function, Message, ToolCall

NO_OPTIONS: Mapping[str, Any] = {}

_PIECES: PieceCache[tuple[Message, str, bool], bytes] = PieceCache(64 << 20)


def encode_json(value: Any) -> bytes:
    """Return compact JSON; lone surrogates, which UTF-8 can't carry, become U+FFFD."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def encode_request(
    *,
    model: str,
    messages: Sequence[Message],
    functions: Sequence[Function] = (),
    dialect: Dialect = OPENAI,
    streamed: bool = True,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> bytes:
    """Return the body; `options` are the parameters that follow the messages."""
    head: dict[str, Any] = {"model": model, "stream": streamed}
    if streamed and "stream_options" not in dialect.left_out:
        head["stream_options"] = {"include_usage": True}
    if functions:  # an empty list is refused by many
        head["tools"] = [_function(function, strict=dialect.strict_functions) for function in functions]
    tail = encode_json(dict(options))[1:] if options else b"}"
    history = b",".join(
        encode_message(message, dialect.thought_field, dialect.plain_names) for message in answered(messages)
    )
    return encode_json(head)[:-1] + b',"messages":[' + history + b"]" + (b"," if options else b"") + tail


def answered(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages with each result whose call is not among them told as the user's words.

    An id that the server has not seen is refused by some, and rendered as a call of a nameless tool by vLLM.
    """
    known = {call.id for message in messages for call in message.tool_calls}
    return [_orphan(message) if message.role == "tool" and message.tool_call_id not in known else message
            for message in messages]  # fmt: skip


def _orphan(message: Message) -> Message:
    return Message("user", f"Result of {message.tool_name or 'a tool'}:\n{fenced(message.content)}")


def encode_message(message: Message, thought_field: str, plain_names: bool = False) -> bytes:
    """Return one message; `thought_field` is the server's name for the thought, which goes back to it."""
    key = (message, thought_field, plain_names)
    return _PIECES.made(key, lambda: _encoded(*key), size_with_key)


def size_with_key(piece: bytes) -> int:
    """Return about how many bytes an encoded message takes in a cache whose key holds the message itself."""
    return 2 * len(piece)


def _encoded(message: Message, thought_field: str, plain_names: bool) -> bytes:
    data: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thought and thought_field:
        data[thought_field] = message.thought
    if message.tool_calls:
        data["tool_calls"] = [_call(call, plain_names) for call in message.tool_calls]
    if message.role == "tool":
        data["tool_call_id"] = message.tool_call_id
    return encode_json(data)


def _call(call: ToolCall, plain_names: bool) -> dict[str, Any]:
    name = clean_name(call.name)
    if plain_names:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
    return {"id": call.id, "type": "function", "function": {"name": name, "arguments": _arguments(call.arguments)}}


def clean_name(name: str) -> str:
    """Return the name of the function that a model meant: no words of a header around it, no `functions.` before it.

    Spaces become `_`, as other servers have them; never empty, which every server refuses.
    """
    return re.sub(r"\s+", "_", addressed_name(name)) or "unknown"


def _arguments(text: str) -> str:
    """Return arguments as the JSON object that servers want to parse; what is none is wrapped into one."""
    try:
        if isinstance(json.loads(text), dict):
            return text
    except (ValueError, RecursionError):
        pass
    return json.dumps({"arguments": text}, ensure_ascii=False)


def _function(function: Function, *, strict: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": function.name,
        "description": function.description,
        "parameters": dict(function.parameters),
    }
    if strict:
        data["strict"] = True
    return {"type": "function", "function": data}
