"""Requests to Ollama's native API as JSON (docs/api.md of its repository); a message is encoded once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from miyabi_cli.fences import fenced
from miyabi_cli.llm.chat.encoding import encode_json, size_with_key
from miyabi_cli.llm.objects.mending import objects_in
from miyabi_cli.llm.pieces import PieceCache
from miyabi_cli.llm.schema_prompt import with_schema
from miyabi_cli.messages import ChatRequest, Function, Message

KeepAlive = float | str

_PIECES: PieceCache[tuple[Message, bool], bytes] = PieceCache(64 << 20)
_CLOUD = re.compile(r":(?:[^/:]*-)?cloud\Z", re.IGNORECASE)


def is_cloud(model: str) -> bool:
    """Say whether a model's name asks Ollama to run it on its publisher's servers: the prompts leave the machine."""
    return bool(_CLOUD.search(model.strip()))


def full_name(model: str) -> str:
    """Return a model's name in the one form that it can be compared in: `gpt-oss` is `gpt-oss:latest`."""
    name = model.strip().lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def encode_chat(model: str, request: ChatRequest, settings: Mapping[str, Any], *, plain_names: bool) -> bytes:
    """Return the body of `POST /api/chat`; `settings` are its fields beside model, messages and tools.

    `plain_names`: the names of calls that are sent back are those under which Ollama shows the functions to gpt-oss.
    """
    head: dict[str, Any] = {"model": model, "stream": True, **settings}
    if request.functions:
        head["tools"] = [_function(function) for function in request.functions]
    elif request.schema:
        head["format"] = dict(request.schema)
    # Told too: the server holds only what follows the thought to it.
    messages = _named(with_schema(request.messages, request.schema) if request.schema else request.messages)
    history = b",".join(_encode_message(message, plain_names) for message in messages)
    return encode_json(head)[:-1] + b',"messages":[' + history + b"]}"


def plain_name(name: str) -> str:
    """Return a function's name as Ollama shows it to gpt-oss: spaces, dots and dashes are `_`, other signs are gone."""
    name = re.sub(r"[^\w$]", "", re.sub(r"[ .-]", "_", name))
    return f"_{name}" if name[:1].isdigit() else name or "unnamed"


def keep_alive_value(keep_alive: KeepAlive) -> float | str:
    """Return how long a model stays loaded as Ollama reads it: seconds, below 0 for ever, or a text such as `5m`."""
    if isinstance(keep_alive, str):
        return keep_alive
    return int(keep_alive) if float(keep_alive).is_integer() else keep_alive


def _named(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the tool's name on each result; a result without its call is told as the user's word."""
    names: dict[str, str] = {}
    named = []
    for message in messages:
        names.update((call.id, call.name) for call in message.tool_calls)
        if message.role == "tool":
            name = message.tool_name or names.get(message.tool_call_id, "")
            if message.tool_call_id in names:
                message = replace(message, tool_name=name) if name != message.tool_name else message
            else:
                message = Message("user", f"Result of {name or 'a tool'}:\n{fenced(message.content)}")
        named.append(message)
    return named


def _encode_message(message: Message, plain_names: bool) -> bytes:
    return _PIECES.made((message, plain_names), lambda: _encoded(message, plain_names), size_with_key)


def _encoded(message: Message, plain_names: bool) -> bytes:
    sent = plain_name if plain_names else str
    data: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        if message.thought:  # after a final answer the thought is dropped
            data["thinking"] = message.thought
        data["tool_calls"] = [
            {"id": call.id, "function": {"name": sent(call.name), "arguments": _arguments(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        data["tool_name"] = sent(message.tool_name)
        data["tool_call_id"] = message.tool_call_id
    return encode_json(data)


def _arguments(text: str) -> dict[str, Any]:
    """Return arguments as the object that Ollama insists on; a text that is none is wrapped into one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = next(objects_in(text), None)
    return value if isinstance(value, dict) else {"arguments": text}


def _function(function: Function) -> dict[str, Any]:
    data = {"name": function.name, "description": function.description, "parameters": dict(function.parameters)}
    return {"type": "function", "function": data}
