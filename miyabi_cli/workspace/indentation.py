"""Carries lines over from one indentation to another, as the lines around them show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Reindent = Callable[[str], str | None]
"""A line with the indentation of the text it goes to; None where that can't be told."""


def reindenter(pairs: Iterable[tuple[str, str]]) -> Reindent:
    """Learn from (line as written, the same line as it stands in the text) how to indent further lines.

    What is understood: no difference; the same white space before every line, more or less of it; or a constant ratio
    between indentations that are each of one kind (four spaces written for one tab). Anything else is not guessed.
    """
    indents = {(indent_of(written), indent_of(found)) for written, found in pairs if written.strip()}
    if all(written == found for written, found in indents):
        return lambda line: line
    learned = _deeper(indents) or _shallower(indents) or _scaled(indents) or _unknown
    clean = not any(_mixed(found) for _, found in indents)

    def reindent(line: str) -> str | None:
        if not line.strip():
            return line
        result = learned(line)
        return None if result is None or (clean and _mixed(indent_of(result))) else result

    return reindent


def indent_of(line: str) -> str:
    """Return the white space that a line begins with."""
    return line[: len(line) - len(line.lstrip())]


def _mixed(indent: str) -> bool:
    return len(set(indent)) > 1


def _unknown(_line: str) -> str | None:
    return None


def _deeper(indents: set[tuple[str, str]]) -> Reindent | None:
    extra = {found.removesuffix(written) if found.endswith(written) else None for written, found in indents}
    if len(extra) != 1 or None in extra:
        return None
    (before,) = extra
    return lambda line: f"{before}{line}"


def _shallower(indents: set[tuple[str, str]]) -> Reindent | None:
    extra = {written.removesuffix(found) if written.endswith(found) else None for written, found in indents}
    if len(extra) != 1:
        return None
    (before,) = extra
    if before is None:
        return None
    return lambda line: line.removeprefix(before) if line.startswith(before) else None


def _scaled(indents: set[tuple[str, str]]) -> Reindent | None:
    kinds = {frozenset(written) for written, _ in indents if written}
    found_kinds = {frozenset(found) for _, found in indents if found}
    ratios = {(len(written), len(found)) for written, found in indents if written or found}
    if len(kinds) != 1 or len(found_kinds) != 1 or any(0 in ratio for ratio in ratios):
        return None
    (kind,), (found_kind,) = kinds, found_kinds
    wide, narrow = min(ratios)
    if len(kind) != 1 or len(found_kind) != 1 or any(a * narrow != b * wide for a, b in ratios):
        return None
    (unit,) = found_kind

    def scale(line: str) -> str | None:
        indent = indent_of(line)
        width, rest = divmod(len(indent) * narrow, wide)
        return unit * width + line.lstrip() if not rest and set(indent) <= kind else None

    return scale
