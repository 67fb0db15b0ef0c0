"""Finds calls that a model wrote into its text, where a server did not read them as calls.

What is found is a call as a whole and nothing beside it, or one that Harmony's recipient leads in behind other text.
JSON behind text is none: it may be quoted from a file that a stranger wrote. Examples are left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.llm.harmony.offered import Offered, json_object, leading_objects
from miyabi_cli.messages import Function, ToolCall

Found = list[tuple[str, str]]  # name and arguments of each call

# The beginning of a line that may begin a call, and of a text that may be one.
DEEPEST_INDENT = 9  # blanks before a line that opens no call any more
_LEADS = r"(?:(?:assistant|commentary|analysis)[ \t]{0,4}){0,4}"
OPENER = re.compile(rf"^[ \t]{{0,8}}(?:\{{|\[|```|<\||<tool_call>|{_LEADS}to ?=)", re.MULTILINE)
_CALLEE = r"[A-Za-z_][\w.]{0,120}[ \t]{0,4}"
FIRST_OPENER = re.compile(rf"{OPENER.pattern}|[ \t]{{0,8}}{_CALLEE}(?:\(\s{{0,4}})?\{{", re.MULTILINE)


def _begun(word: str) -> str:
    """Return a pattern for the beginnings of a word, "" and the word among them."""
    pattern = ""
    for letter in reversed(word):
        pattern = f"(?:{re.escape(letter)}{pattern})?"
    return pattern


# What may go on to be such a beginning.
_LEAD_BEGUN = "|".join(map(_begun, ("assistant", "commentary", "analysis", "to ")))
MAY_OPEN = re.compile(rf"[ \t]{{0,8}}(?:`{{0,2}}|{_begun('<tool_call>')}|{_LEADS}(?:{_LEAD_BEGUN}))")
MAY_OPEN_FIRST = re.compile(rf"{MAY_OPEN.pattern}|[ \t]{{0,8}}{_CALLEE}(?:\(\s{{0,4}})?")
_EXAMPLE = re.compile(
    r"\b(examples?|e\.g\.|for instance|such as|would|could|like this|format|syntax|is (?:how|what|called)"
    r"|looks (?:like|as follows))\b",
    re.IGNORECASE,
)
_WORD = r"assistant|commentary|analysis|final|code|json"
# Words of a header may be glued to each other, but a name may begin with one of them.
_WORDS = rf"(?:<\|\w{{1,12}}\|>|[ \t\r\n]|(?:{_WORD})(?={_WORD}|to ?=|[^A-Za-z_.]|$)){{0,60}}"
_MARKUP = re.compile(rf"{_WORDS}(?:to ?= ?)?([A-Za-z_][\w.-]{{0,120}}){_WORDS}(?=\{{)")
_LEAKED = re.compile(r"(?:assistant)?(?:commentary|analysis) ?to=[\w.]{1,100}[^{}\n]{0,40}\{|<\|(?:start|channel)\|>")
_FENCES = ("", "json", "tool_call", "tool_code", "tool", "harmony", "text")
_CALLED = re.compile(r"([A-Za-z_][\w.]{0,120})\s{0,4}\(\s{0,4}(\{.*\})\s{0,4}\)", re.DOTALL)
_TRAILING_MARK = re.compile(r"<\|(?:call|end|return)\|>\Z")
_NAME_KEYS = ("name", "tool", "function", "tool_name", "function_name", "recipient", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "params", "input", "tool_input")
_OTHER_KEYS = {"type", "id", "call_id", "index"}
_LISTS = {"tool_calls", "tool_uses"}
_MOST_PLACES = 4


def salvage(text: str, thought: str, functions: Sequence[Function], *, prefix: str = "call") -> tuple[ToolCall, ...]:
    """Return the calls in a reply that has none: those in its text, or in its thought where there is no text.

    For servers whose text leaks Harmony, or which give back what they could not parse. Ids are `prefix` and a number.
    """
    offered = Offered(functions)
    found = find_calls(text, offered, leaked=True)
    if found is None and not text.strip():
        found = find_calls(thought, offered, leaked=True, in_thought=True)
    calls = found[1] if found else []
    return tuple(ToolCall(f"{prefix}_{index}", name, arguments) for index, (name, arguments) in enumerate(calls))


def find_calls(
    text: str, offered: Offered, start: int = 0, *, leaked: bool = False, in_thought: bool = False
) -> tuple[int, Found] | None:
    """Return the calls that a text ends in and where they begin, None where there are none.

    They begin at `start` or later, at the start of a line; `leaked`: also behind the words of a header in a line.
    `in_thought`: behind text, JSON alone is a call as well. In an answer it may be what a file says.
    """
    if not offered.functions:
        return None
    for place in _places(text, start, leaked):
        before = text[:place].rstrip()
        if before and _EXAMPLE.search(before[-200:].rpartition("\n")[2]):
            continue
        if not (before and not in_thought and _is_unmarked(text, place)) and (
            calls := _read(text[place:].strip(), offered, whole=not before)
        ):
            return place, calls
    return None


def _places(text: str, start: int, leaked: bool) -> list[int]:
    """Return where calls may begin: the first and the last lines that look so, which bounds the work."""
    first: list[int] = [start] if not text[:start].strip() else []
    last: list[int] = []
    for line in OPENER.finditer(text, start):
        (first if len(first) < _MOST_PLACES else last).append(line.start())
        del last[:-_MOST_PLACES]
    markup = [match.start() for match in _LEAKED.finditer(text)] if leaked else []
    return sorted({*first, *last, *markup[:_MOST_PLACES], *markup[-_MOST_PLACES:]})


def _is_unmarked(text: str, place: int) -> bool:
    """Say whether what begins there is JSON or a tag, without a mark or a recipient of Harmony."""
    return text[place : place + DEEPEST_INDENT + 2].lstrip().startswith(("{", "[", "```", "<t"))


def _read(text: str, offered: Offered, whole: bool) -> Found:
    while mark := _TRAILING_MARK.search(text, max(0, len(text) - 12)):
        text = text[: mark.start()].rstrip()
    for opening, closing in (("```", "```"), ("<tool_call>", "</tool_call>")):
        if text.startswith(opening):
            text = text.removeprefix(opening).removesuffix(closing) if text.endswith(closing) else ""
            if opening == "```":
                language, _, text = text.partition("\n")
                text = text if whole and language.strip() in _FENCES else ""
    return _read_plain(text.strip(), offered, whole)


def _read_plain(text: str, offered: Offered, whole: bool) -> Found:
    if text.startswith(("{", "[")):
        return _read_json(text, offered, whole)
    markup = _MARKUP.match(text)
    if markup and (objects := leading_objects(text[markup.end() :])):
        addressed = "to=" in markup[0].replace(" ", "") or "<|" in markup[0]
        name = offered.named(markup[1])
        if name and (offered.known(markup[1]) or (addressed and "." in markup[1]) or (addressed and whole)):
            return [(name, one) for one in dict.fromkeys(objects)]
    called = _CALLED.fullmatch(text)
    if whole and called and offered.known(called[1]) and json_object(called[2]) is not None:
        return [(offered.named(called[1]), called[2])]
    return []


def _read_json(text: str, offered: Offered, whole: bool) -> Found:
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict) and len(value) == 1 and value.keys() <= _LISTS:
        value = next(iter(value.values()))
    items = value if isinstance(value, list) else [value]
    calls = [_read_object(item, offered, text if len(items) == 1 else "", whole) for item in items]
    return [call for call in calls if call] if all(calls) else []


def _read_object(value: Any, offered: Offered, text: str, whole: bool) -> tuple[str, str] | None:
    """Read `{"name": …, "arguments": …}` in its spellings."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict) and value.keys() <= {"function", *_OTHER_KEYS}:
        value = value["function"]
    name_key = next((key for key in _NAME_KEYS if isinstance(value.get(key), str)), "")
    if not name_key:
        return None
    name = value[name_key]
    rest = {key: item for key, item in value.items() if key != name_key and key not in _OTHER_KEYS}
    argument_key = next((key for key in _ARGUMENT_KEYS if key in rest), "")
    if not argument_key or len(rest) > 1:
        inline = json.dumps(rest, ensure_ascii=False)
        known = offered.known(name)
        return (known, inline) if whole and known and offered.fitting(inline, [known]) else None
    certain = whole and name_key == "name" and argument_key in ("arguments", "parameters") and offered.named(name)
    arguments = _arguments(rest[argument_key], argument_key, text)
    return (offered.named(name), arguments) if (certain or offered.known(name)) and arguments is not None else None


def _is_schema(value: Mapping[str, Any]) -> bool:
    """Say whether these are no arguments but what a function's definition says of them."""
    return value.get("type") == "object" and isinstance(value.get("properties"), Mapping)


def _arguments(value: Any, key: str, text: str) -> str | None:
    """Return arguments, as they were written in a text where they can be found there."""
    if isinstance(value, str):
        return value if json_object(value) is not None else None
    if not isinstance(value, Mapping) or _is_schema(value):
        return None
    if written := re.search(rf'"{key}"\s{{0,8}}:\s{{0,8}}(?=\{{)', text):
        try:
            found, end = json.JSONDecoder(strict=False).raw_decode(text, written.end())
        except (ValueError, RecursionError):
            found, end = None, 0
        if found == value:
            return text[written.end() : end]
    return json.dumps(value, ensure_ascii=False)
