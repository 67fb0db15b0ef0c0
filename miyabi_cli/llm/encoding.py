"""Messages and functions as the JSON of a chat completions request.

The body of every request of a run begins with the same bytes (model, tools, then the messages, which are only
appended to), and what may change between attempts comes last. So a server's prefix cache serves the whole history,
and a message is encoded once however often it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from miyabi_cli.messages import Function, Message


def encode_json(value: Any) -> bytes:
    """Return compact JSON; lone surrogates, which UTF-8 can't carry, become U+FFFD."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def encode_request(
    *,
    model: str,
    messages: Sequence[Message],
    functions: Sequence[Function] = (),
    thought_field: str = "reasoning",
    options: Mapping[str, Any],
) -> bytes:
    """Return the body; `options` are the parameters that follow the messages."""
    head: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    if functions:
        head["tools"] = [_function(function) for function in functions]
    tail = encode_json(dict(options))[1:] if options else b"}"
    history = b",".join(encode_message(message, thought_field) for message in messages)
    return encode_json(head)[:-1] + b',"messages":[' + history + b"]" + (b"," if options else b"") + tail


@lru_cache(maxsize=8192)
def encode_message(message: Message, thought_field: str) -> bytes:
    """Return one message; `thought_field` is the server's name for the thought, which goes back to it."""
    data: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thought and thought_field:
        data[thought_field] = message.thought
    if message.tool_calls:
        data["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        data["tool_call_id"] = message.tool_call_id
    return encode_json(data)


def _function(function: Function) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description,
            "parameters": dict(function.parameters),
        },
    }
