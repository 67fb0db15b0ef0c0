"""What a model wrote, where the server refused to take it for a reply: Groq's `tool_use_failed` and its kin.

The server's error carries the text as `failed_generation`: a call whose arguments do not fit the function's schema, a
call of a function that was not offered, arguments without a name, broken JSON, an older model's own markup, or an
answer in prose. A call that a person can read becomes a call, for the tools say best what is wrong with it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from miyabi_cli.errors import ProviderError
from miyabi_cli.llm.chat.encoding import clean_name, encode_json
from miyabi_cli.llm.harmony.salvage import salvage
from miyabi_cli.llm.objects.mending import unwrapped
from miyabi_cli.messages import Function, Message, Reply, ToolCall, Usage

Found = tuple[str, str]  # a call's name and its arguments as the model wrote them

SCHEMA_FAILED = "json_validate_failed"
_CODES = {"tool_use_failed", SCHEMA_FAILED, "output_parse_failed"}
_MESSAGE = re.compile(
    r"tool call validation failed|failed to (?:call a function|parse tool call)|tool choice is (?:no|re)"
)
_NAMED = re.compile(r"attempted to call tool '([^']{1,200})'|for tool (\S{1,200}) did not match")
_UNPARSED = "failed to parse tool call arguments"
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]{1,200})"\s*,\s*"(?:arguments|parameters)"\s*:\s*')
_FUNCTION = re.compile(r"\s*(?:<function=|<tool_call>)?\s*([A-Za-z_][\w.-]{0,100})[=>(\s]{0,4}(\{.*)", re.DOTALL)
_CLOSING = re.compile(r"</(?:function|tool_call)>")
_LOOKS_LIKE_CALL = re.compile(r"\s*(?:\{|\[\s*\{|<\||<function|<tool_call|```\w*\s*\{)")
_MOST_CALLS = 32
_TOLD = 4000  # characters of what failed that the model is shown again


def is_failed_generation(error: ProviderError) -> bool:
    """Say whether a server refused what the model wrote, and not what was asked."""
    detail = error.detail
    if str(detail.get("code")) in _CODES or "failed_generation" in detail:
        return True
    return not detail.get("code") and _MESSAGE.search(error.message.lower()) is not None


def read_failed(
    error: ProviderError, functions: Sequence[Function], *, forced: str = "", text: str = "", thought: str = ""
) -> Reply | None:
    """Return the reply that the model meant, or None where nobody could tell.

    `text` and `thought` are what had been streamed before. Its usage is one request: the server says no more.
    """
    usage = Usage(requests=1, cost_usd=None)
    generation = _generation(error) or text
    if error.detail.get("code") == SCHEMA_FAILED:
        return Reply(generation, thought, (), usage, "stop") if generation.strip() else None
    if calls := _calls(generation, error, functions, forced):
        spoken = text if text.strip() != generation.strip() else ""
        return Reply(spoken, thought, calls, usage, "tool_calls")
    if _UNPARSED in error.message.lower() or _NAMED.search(error.message):
        return None
    if not generation.strip() or _LOOKS_LIKE_CALL.match(generation):
        return None
    return Reply(generation, thought, (), usage, "stop")


def feedback(error: ProviderError, functions: Sequence[Function], thought: str = "") -> tuple[Message, ...]:
    """Return what the model is told of its failed reply, to be put behind the conversation for the next try."""
    names = ", ".join(function.name for function in functions)
    offer = f"Call one of these functions: {names}." if names else "There are no functions: answer in text."
    said = str(error.detail.get("message") or error.message)[:1000]
    shape = " The arguments of a call are one JSON object that fits the function's schema." if names else ""
    told = Message("user", f"Your last reply could not be used: {said}\n{offer}{shape}")
    generation = _generation(error)[:_TOLD]
    return (Message("assistant", generation, thought=thought), told) if generation.strip() else (told,)


def _generation(error: ProviderError) -> str:
    generation = error.detail.get("failed_generation")
    return generation if isinstance(generation, str) else encode_json(generation).decode() if generation else ""


def _calls(generation: str, error: ProviderError, functions: Sequence[Function], forced: str) -> tuple[ToolCall, ...]:
    plain = unwrapped(generation) if generation.lstrip().startswith("```") else generation.strip()
    found = _json_calls(plain) or _broken_call(plain) or _marked_calls(plain)
    if not found and "<|" in plain:
        found = [(call.name, call.arguments) for call in salvage(plain, "", functions)]
    if not found and plain:
        found = _nameless(plain, error, functions, forced)
    return tuple(
        ToolCall(f"call_{uuid.uuid4().hex[:24]}", clean_name(name), arguments)
        for name, arguments in found[:_MOST_CALLS]
    )


def _json_calls(text: str) -> list[Found]:
    """Read one call, several behind each other, a list of them, or `{"tool_calls": [...]}`."""
    found: list[Found] = []
    for value in _values(text):
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]
        for item in value if isinstance(value, list) else [value]:
            call = _json_call(item)
            if call is None:
                return []
            found.append(call)
    return found


def _values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(strict=False)
    at = 0
    for _ in range(_MOST_CALLS):
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
        if at == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None  # text between calls: not a list of calls
            return
        yield value


def _json_call(value: Any) -> Found | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = next((value[key] for key in ("arguments", "parameters") if key in value), None)
    if arguments is None:
        return (value["name"], "{}") if value.keys() <= {"name", "id", "type", "arguments", "parameters"} else None
    return value["name"], arguments if isinstance(arguments, str) else encode_json(arguments).decode()


def _broken_call(text: str) -> list[Found]:
    """Read a call whose name is whole and whose arguments are no JSON, or cut off: they stay as they are."""
    head = _HEAD.match(text)
    if not head:
        return []
    rest = text[head.end() :].rstrip()
    if rest.startswith('"'):
        return [(head[1], _half_string(rest))]
    return [(head[1], rest[:-1].rstrip() if rest.endswith("}") and rest.count("{") < rest.count("}") else rest)]


def _half_string(text: str) -> str:
    for candidate in (text, text.rstrip("}").rstrip(), text.rstrip("\\") + '"'):
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(candidate)
        except ValueError:
            continue
        return str(value)
    return text[1:].replace('\\"', '"')


def _marked_calls(text: str) -> list[Found]:
    """Read `<function=name>{…}</function>` and its like, as Llama models on Groq write them."""
    if not _CLOSING.search(text) and not text.startswith(("<function=", "<tool_call>")):
        return []
    found: list[Found] = []
    for part in _CLOSING.split(text):
        if inner := _json_calls(part.replace("<tool_call>", "").strip()) if part.strip() else []:
            found += inner
        elif call := _FUNCTION.match(part):
            found.append((call[1], call[2].rstrip().rstrip(")>").rstrip()))
    return found


def _nameless(text: str, error: ProviderError, functions: Sequence[Function], forced: str) -> list[Found]:
    """Read arguments alone: the server's message names their function, or only one can be meant."""
    named = _NAMED.search(error.message)
    unparsed = _UNPARSED in error.message.lower()
    if text.startswith("{") or unparsed:
        name = (named[1] or named[2]) if named else forced or (functions[0].name if len(functions) == 1 else "")
        if name and (named or unparsed or _fits(text, functions)):
            return [(name, text)]
    return []


def _fits(text: str, functions: Sequence[Function]) -> bool:
    try:
        keys = json.loads(text, strict=False).keys()
    except (ValueError, AttributeError, RecursionError):
        return False
    return any(keys and keys <= function.parameters.get("properties", {}).keys() for function in functions)
