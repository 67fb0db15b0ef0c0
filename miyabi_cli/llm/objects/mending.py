"""Reads JSON as models write it: the values that a text holds, also where it is not quite JSON.

Nothing is made up: what was cut off, or can be read in two ways, is refused. Time grows with the text's length alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DEEPEST = 100  # values within values
_STARTS = 32  # places in a text where an object is looked for
_WRAPPERS = ("arguments", "parameters")
_BESIDE = {"name", "type", "id", "function", "recipient"}

_TOKEN = re.compile(r"<\|[^|>]{0,100}\|>")
# Blanks and comments: //, # and /* */. Possessive, as all that runs over hostile text.
_SPACE = re.compile(r"(?:\s++|//[^\n]*+|#[^\n]*+|/\*[^*]*+(?:\*(?!/)[^*]*+)*+\*/)*+")
_NUMBER = re.compile(
    r"[-+]?(?:(?:0(?!\d)|[1-9]\d{0,300}+)(?:\.\d{0,300}+)?|\.\d{1,300}+)(?:[eE][-+]?\d{1,5}+)?(?![\w.])"
)
_WORD = re.compile(r"[A-Za-z_$][\w$-]*+")
_TEXTS = {
    quote: re.compile(rf"[^{quote[0]}\\]*+(?:(?:\\.|{quote[0]}(?!{quote[1:]}))[^{quote[0]}\\]*+)*+", re.DOTALL)
    if len(quote) == 3
    else re.compile(rf"[^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+", re.DOTALL)
    for quote in ('"""', "'''", '"', "'")
}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_PYTHON_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\n": "", **{mark: mark for mark in "\"'\\/"}}
_CONSTANTS = {
    **{word: True for word in ("true", "True")},
    **{word: False for word in ("false", "False")},
    **{word: None for word in ("null", "None")},
}
_UNPAIRED = re.compile("[\ud800-\udfff]")


class Cut(ValueError):
    """A text that ends before its value does."""


def read_value(text: str, at: int = 0) -> tuple[Any, int]:
    """Return the value that begins at a place of a text, and where it ends.

    Beside JSON (RFC 8259) these are understood: raw newlines, wrong escapes, single and tripled quotes, Python's
    words, tuples and escapes, commas at the end, keys without quotes, comments. Raises ValueError, and Cut where the
    text ends too early.
    """
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, at)
    except (ValueError, RecursionError):
        reader = _Reader(text, at)
        return reader.value(0), reader.at


def read_json(text: str) -> Any:
    """Return the value that a whole text is, but for blanks, a fence and Harmony's tokens around it.

    Raises ValueError.
    """
    plain = unwrapped(text)
    value, end = read_value(plain)
    if plain[end:].strip():
        raise ValueError("text follows the JSON value")
    return value


def unwrapped(text: str) -> str:
    """Leave out blanks and Harmony's tokens at the end, and a code fence around a text."""
    text = text.strip()
    while text.endswith("|>") and _TOKEN.fullmatch(text, start := text.rfind("<|")):
        text = text[:start].rstrip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3].strip()
    return text


def objects_in(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects that stand in a text, in their order; none of the parts of one that was cut off."""
    at = 0
    for _ in range(_STARTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            value, at = read_value(text, at)
        except Cut:
            return
        except ValueError:
            at += 1
        else:
            yield value


def inner_arguments(value: dict[str, Any], *wrappers: str) -> Any:
    """Return what an object only wraps, None where it is none: `{"name": …, "arguments": …}` and its like.

    `wrappers`: further keys whose value alone is meant.
    """
    for key in (*_WRAPPERS, *wrappers, "function"):
        inner = value.get(key)
        if inner is not None and set(value) <= {key, *_BESIDE}:
            if isinstance(inner, dict):
                return inner
            if isinstance(inner, str) and key != "function":
                return inner
    return None


@dataclass(slots=True)
class _Reader:
    """Reads one value by descent. In a document whose first text has single quotes, escapes are Python's."""

    text: str
    at: int
    python: bool | None = None

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("the JSON is nested too deeply")
        self.skip()
        mark = self.mark()
        if mark == "{":
            return self.members(depth)
        if mark in ("[", "("):
            return self.items("]" if mark == "[" else ")", depth)
        if mark in ('"', "'"):
            return self.string()
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            return _number(number[0])
        return self.constant()

    def members(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.at += 1
        while not self.closes("}"):
            key = self.string() if self.mark() in ('"', "'") else self.word()
            self.skip()
            self.take(":")
            members[key] = self.value(depth + 1)
            self.separate("}")
        return members

    def items(self, end: str, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        while not self.closes(end):
            items.append(self.value(depth + 1))
            self.separate(end)
        return items

    def closes(self, end: str) -> bool:
        self.skip()
        if self.mark() != end:
            return False
        self.at += 1
        return True

    def separate(self, end: str) -> None:
        self.skip()
        if self.mark() != end:
            self.take(",")

    def string(self) -> str:
        quote = self.mark()
        if self.python is None:
            self.python = quote == "'"
        if self.text.startswith(quote * 3, self.at):
            quote *= 3
        inner = _TEXTS[quote].match(self.text, self.at + len(quote))
        if inner is None or not self.text.startswith(quote, inner.end()):
            raise Cut("the reply ends in the middle of a text")
        self.at = inner.end() + len(quote)
        pattern = _PYTHON_ESCAPE if self.python else _ESCAPE
        text = pattern.sub(_unescape, inner[0]) if "\\" in inner[0] else inner[0]
        if _UNPAIRED.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return text

    def constant(self) -> Any:
        word = self.word()
        if word not in _CONSTANTS:
            raise ValueError(f"{word[:40]!r} is no JSON value")
        return _CONSTANTS[word]

    def word(self) -> str:
        word = _WORD.match(self.text, self.at)
        if word is None:
            raise ValueError(f"{self.mark()!r} at character {self.at} is not JSON")
        self.at = word.end()
        return word[0]

    def take(self, mark: str) -> None:
        if self.mark() != mark:
            raise ValueError(f"{mark!r} is missing at character {self.at}")
        self.at += 1

    def skip(self) -> None:
        if space := _SPACE.match(self.text, self.at):
            self.at = space.end()

    def mark(self) -> str:
        if self.at >= len(self.text):
            raise Cut("the reply ends in the middle of the JSON")
        return self.text[self.at]


def _number(text: str) -> int | float:
    digits = text.lstrip("+")
    return int(digits) if re.fullmatch(r"-?\d+", digits) else float(digits)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else match[0]
    return _ESCAPED.get(code, match[0])
