"""Tests that lie in the code's own files: the `#[cfg(test)]` modules of Rust, taken from one text to another."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAXIMUM = 1_000_000  # characters of a source that is looked into
_TOKEN = re.compile(r"""//|/\*|\bb?r#{0,20}"|\bb?"|"|b?'(?:\\[^\n']{1,12}|\\'|[^\\'\n])'""")
_STRING_END = re.compile(r'(?:[^"\\]|\\.)*+"', re.DOTALL)
_COMMENT_MARK = re.compile(r"/\*|\*/")
_BRACE = re.compile(r"[{}]")
_MODULE = re.compile(
    r"#\[cfg\((?:test|all\(test\b[^\]\n]{0,200})\)\]\s*(?:#\[[^\]\n]{0,200}\]\s*){0,8}"
    r"(?:pub(?:\([^)\n]{0,50}\))?\s+)?mod\s+(?P<name>\w{1,100})\s*\{"
)


@dataclass(frozen=True, slots=True)
class _Module:
    """A module of tests: the how-manieth of its name, and where it lies in the text."""

    name: str
    number: int
    start: int
    end: int


def with_base_tests(base: str, patched: str) -> str | None:
    """Return a patched Rust source with the test modules that the base has, in place of its own.

    A module that only the base has comes at the end, one that only the patch has goes. None where both have the same
    modules, or one of the texts is too large or its braces do not match.
    """
    ours, theirs = _modules(patched), _modules(base)
    if ours is None or theirs is None:
        return None
    texts = {(one.name, one.number): base[one.start : one.end] for one in theirs}
    if texts == {(one.name, one.number): patched[one.start : one.end] for one in ours}:
        return None
    pieces, position = [], 0
    for one in ours:
        pieces += [patched[position : one.start], texts.pop((one.name, one.number), "")]
        position = one.end
    return "".join([*pieces, patched[position:], *(f"\n{text}\n" for text in texts.values())])


def _modules(text: str) -> list[_Module] | None:
    """Return the modules of tests that lie in no other of them; None where that can't be told."""
    if len(text) > _MAXIMUM:
        return None
    code = _blanked(text)
    found: list[_Module] = []
    counts: dict[str, int] = {}
    position = 0
    while head := _MODULE.search(code, position):
        end = _closing(code, head.end())
        if end is None:
            return None
        number = counts[head["name"]] = counts.get(head["name"], 0) + 1
        found.append(_Module(head["name"], number, head.start(), end))
        position = end
    return found


def _closing(code: str, start: int) -> int | None:
    """Return where the block ends whose opening brace is before `start`."""
    depth = 1
    for brace in _BRACE.finditer(code, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return None


def _blanked(text: str) -> str:
    """Return the text with comments, strings and characters as spaces, every other character where it was."""
    pieces, position = [], 0
    while token := _TOKEN.search(text, position):
        end = _end_of(text, token)
        pieces += [text[position : token.start()], " " * (end - token.start())]
        position = end
    return "".join([*pieces, text[position:]])


def _end_of(text: str, token: re.Match[str]) -> int:
    opening = token[0]
    if opening == "//":
        return _after(text, "\n", token.end())
    if opening == "/*":
        return _comment_end(text, token.end())
    if not opening.endswith('"'):
        return token.end()  # a character
    if "r" in opening:
        return _after(text, '"' + "#" * opening.count("#"), token.end())
    closing = _STRING_END.match(text, token.end())
    return closing.end() if closing else len(text)


def _comment_end(text: str, start: int) -> int:
    """Return where a comment ends, which may hold others."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def _after(text: str, ending: str, start: int) -> int:
    found = text.find(ending, start)
    return len(text) if found < 0 else found + len(ending)
