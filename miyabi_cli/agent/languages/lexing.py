"""Source text without what is not code: comments and strings blanked out, brackets in pairs; linear in its length.

Own code where a parser generator's library would do: tree-sitter's grammars take all memory, or time that grows with
the square, for some files of 100 kB, and nothing bounds them within a process. What is wrongly read here costs a try.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from miyabi_cli.agent.languages.language import MAXIMUM_SOURCE, CodeRefused

_BRACKET = re.compile(r"[()\[\]{}]")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_TEMPLATE = re.compile(r"(?>[^`\\$]|\\.|\$(?!\{))*+(?:`|\$\{|\Z)", re.DOTALL)
_TOKEN = re.compile(r"\w+|[^\s\w]")
_BEFORE_REGEX = re.compile(
    r"(?:^|[^\w$)\]}\s]|\b(?:return|typeof|case|in|of|delete|void|throw|new|else|do|yield|await))\s*$"
)
_LOOKED_BACK = 80


@dataclass(frozen=True, slots=True)
class Code:
    """A source as code alone: `text` has the same length, with spaces for comments, strings and directives.

    comments: where each begins and ends. pairs: where brackets that open close again. balanced: whether all do.
    """

    source: str
    text: str
    comments: tuple[tuple[int, int], ...]
    pairs: Mapping[int, int]
    balanced: bool
    _places: tuple[int, ...]
    _tops: tuple[int, ...]

    def innermost(self, position: int) -> int:
        """Return where the bracket opens in which a position lies; -1 outside of all."""
        index = bisect_right(self._places, position - 1) - 1
        return self._tops[index] if index >= 0 else -1

    def tokens(self) -> tuple[str, ...]:
        """Return what the source says, whatever its comments and white space."""
        pieces, position = [], 0
        for start, end in self.comments:
            pieces += [self.source[position:start], " "]
            position = end
        return tuple(_TOKEN.findall("".join([*pieces, self.source[position:]])))


def read_code(source: str, skipped: re.Pattern[str]) -> Code:
    """Read a source; raises CodeRefused where it is too large.

    `skipped` matches what is not code, with named groups: `comment`; `regex`, which counts only where a value may
    begin; `template`, the quote that begins JavaScript's; `brace`, which is code, where there are templates.
    """
    if len(source) > MAXIMUM_SOURCE:
        raise CodeRefused("the file is too large")
    pieces: list[str] = []
    comments: list[tuple[int, int]] = []
    substitutions: list[bool] = []  # for each open brace, whether it is one of a template's
    copied = position = 0
    while token := skipped.search(source, position):
        start, position = token.span()
        kind = token.lastgroup
        if kind == "regex" and not _BEFORE_REGEX.search(source[max(0, start - _LOOKED_BACK) : start]):
            position = start + 1
            continue
        if kind == "brace" and not _ends_substitution(token[0], substitutions):
            continue
        if kind in ("template", "brace"):
            position = _template_end(source, position, substitutions)
        if kind == "comment":
            comments.append((start, position))
        pieces += [source[copied:start], _blank(source[start:position])]
        copied = position
    text = "".join([*pieces, source[copied:]])
    return Code(source, text, tuple(comments), *_brackets(text))


def _ends_substitution(brace: str, substitutions: list[bool]) -> bool:
    """Keep account of a brace; say whether template text goes on after it."""
    if brace == "{":
        substitutions.append(False)
        return False
    return bool(substitutions) and substitutions.pop()


def _template_end(source: str, position: int, substitutions: list[bool]) -> int:
    """Return where a template's text ends, at its quote or with the beginning of a substitution."""
    found = _TEMPLATE.match(source, position)
    end = found.end() if found else len(source)
    if source[position:end].endswith("${"):
        substitutions.append(True)
    return end


def _blank(text: str) -> str:
    return "\n".join(" " * len(line) for line in text.split("\n"))


def _brackets(text: str) -> tuple[dict[int, int], bool, tuple[int, ...], tuple[int, ...]]:
    """Return the pairs, whether all brackets are in one, the brackets' places, and what is open after each of them."""
    pairs: dict[int, int] = {}
    open_ones: list[int] = []
    places: list[int] = []
    tops: list[int] = []
    balanced = True
    for bracket in _BRACKET.finditer(text):
        place = bracket.start()
        if bracket[0] in _CLOSING:
            open_ones.append(place)
        elif open_ones and _CLOSING[text[open_ones[-1]]] == bracket[0]:
            pairs[open_ones.pop()] = place
        else:
            balanced = False
            continue
        places.append(place)
        tops.append(open_ones[-1] if open_ones else -1)
    return pairs, balanced and not open_ones, tuple(places), tuple(tops)
