"""Where the functions of a language with braces lie in a source, found by how they begin."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from miyabi_cli.agent.languages.lexing import Code

HEADER_LIMIT = 2_000  # characters from a function's name to its body
HEADER_BRACKETS = 20  # pairs of them there
LOOKED_BACK = 40  # characters
_MARK = re.compile(r"[(\[{;})\]]")
_ARROW = re.compile(r"\s*(?::[^={};\n]{0,300})?=>\s*")
_VALUE = re.compile(r"(?:async\b\s*)?(?:(?P<function>function\b)|(?:<[^>\n(]{0,200}>\s*)?(?P<parameters>\()|[\w$]+)")
_GOES_ON_AFTER = re.compile(r"[-+*/%&|^<>=?:,.(\[{]\s*\Z")
_GOES_ON_WITH = re.compile(r"\s*[-+*/%&|^<>=?:,.)\]}]")
_END = re.compile(r"[(\[{;\n})\]]")


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a language with braces writes functions.

    skipped: see `read_code`. functions: how one begins, up to before its parameters, from the beginning of a line;
    values: how a variable begins that may be one; methods: those that count directly in an owner alone. All have the
    groups `core`, where what a reply replaces begins, and `name`; perhaps `owner`.
    owners: how a class begins, up to its brace; group `name`, or `tests` where all in it are tests.
    attribute: a line above a function that belongs to it; test: one that makes it a test.
    imports: an import. wrapper: what makes a bare method valid. type_brace: what stands before a brace that is of a
    type, not of the body.
    """

    skipped: re.Pattern[str]
    functions: re.Pattern[str]
    imports: re.Pattern[str]
    values: re.Pattern[str] | None = None
    methods: re.Pattern[str] | None = None
    owners: re.Pattern[str] | None = None
    attribute: re.Pattern[str] | None = None
    test: re.Pattern[str] | None = None
    wrapper: tuple[str, str] | None = None
    type_brace: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """Offsets: `first` with all above that belongs to it, `core` of what a reply replaces, `body` of its block."""

    name: str
    line: int
    core: int
    body: int
    end: int
    owner: tuple[str, str]
    in_tests: bool


def find_functions(code: Code, syntax: Syntax) -> Iterator[Function]:
    owners, tests = _owners(code, syntax)
    kinds = ((syntax.functions, _block), (syntax.values, _value), (syntax.methods, _block))
    heads = [
        (match, body_of, pattern is syntax.methods)
        for pattern, body_of in kinds
        if pattern is not None
        for match in pattern.finditer(code.text)
    ]
    last = 0
    for match, body_of, is_method in sorted(heads, key=lambda head: (head[0].start("core"), head[2])):
        core = match.start("core")
        around = code.innermost(core)
        if core < last or (is_method and around not in owners):
            continue
        if (span := body_of(code, match.end(), syntax)) is None:
            continue
        body, last = span
        groups = match.groupdict()
        owner, opening = owners.get(around, ("", ""))
        qualifier = groups.get("owner") or owner
        name = f"{qualifier}.{match['name']}" if qualifier else match["name"]
        line_start = code.text.rfind("\n", 0, core) + 1
        around_it = (opening, "}") if opening else ("", "")
        yield Function(name, line_start, core, body, last, around_it, _within(core, tests))


def _owners(code: Code, syntax: Syntax) -> tuple[dict[int, tuple[str, str]], list[tuple[int, int]]]:
    """Return the owners by where their brace opens, each with its name and header; and where those of tests lie."""
    owners: dict[int, tuple[str, str]] = {}
    tests: list[tuple[int, int]] = []
    for match in syntax.owners.finditer(code.text) if syntax.owners else ():
        opening = match.end() - 1
        if "tests" in match.groupdict() and match["tests"]:
            if not tests or tests[-1][1] < opening:
                tests.append((opening, code.pairs.get(opening, len(code.text))))
        elif match["name"]:
            owners[opening] = (match["name"], code.source[match.start() : match.end()].strip())
    return owners, tests


def _within(position: int, spans: Sequence[tuple[int, int]]) -> bool:
    index = bisect_left(spans, (position, 0)) - 1
    return index >= 0 and position < spans[index][1]


def _block(code: Code, position: int, syntax: Syntax) -> tuple[int, int] | None:
    """Return where the block begins and ends that follows parameters and a result's type; None without one."""
    limit = position + HEADER_LIMIT
    for _ in range(HEADER_BRACKETS):
        mark = _MARK.search(code.text, position, limit)
        closing = code.pairs.get(mark.start()) if mark else None
        if mark is None or closing is None:
            return None
        before = (max(0, mark.start() - LOOKED_BACK), mark.start())
        if mark[0] == "{" and not (syntax.type_brace and syntax.type_brace.search(code.text, *before)):
            return mark.start(), closing + 1
        position = closing + 1
    return None


def _value(code: Code, position: int, syntax: Syntax) -> tuple[int, int] | None:
    """Return where the body of a variable's function begins, and where the variable ends; None for another value."""
    start = _VALUE.match(code.text, position)
    if start is None:
        return None
    if start["function"]:
        span = _block(code, start.end(), syntax)
        return span and (span[0], _with_semicolon(code, span[1]))
    end = start.end()
    if start["parameters"]:
        end = code.pairs.get(end - 1, len(code.text)) + 1
    arrow = _ARROW.match(code.text, end)
    if arrow is None:
        return None
    body = arrow.end()
    if code.text[body : body + 1] == "{":
        return (body, _with_semicolon(code, code.pairs[body] + 1)) if body in code.pairs else None
    return body, _expression_end(code, body)


def _with_semicolon(code: Code, end: int) -> int:
    return end + 1 if code.text[end : end + 1] == ";" else end


def _expression_end(code: Code, position: int) -> int:
    """Return where an expression ends: at a semicolon, or a line's end after which it does not go on."""
    text = code.text
    while mark := _END.search(text, position):
        if mark[0] in "([{" and mark.start() in code.pairs:
            position = code.pairs[mark.start()] + 1
        elif mark[0] == ";":
            return mark.end()
        elif mark[0] != "\n":
            return mark.start()
        elif _GOES_ON_AFTER.search(text, max(0, mark.start() - LOOKED_BACK), mark.start()) or _GOES_ON_WITH.match(
            text, mark.end()
        ):
            position = mark.end()
        else:
            return mark.start()
    return len(text)


def beginning(line: int, code: Code, syntax: Syntax) -> int:
    """Return where the comments and attributes begin that stand right above a line."""
    source = code.source
    while line > 0:
        above = source.rfind("\n", 0, line - 1) + 1
        text = source[above : line - 1]
        index = bisect_left(code.comments, (line, 0)) - 1
        if index >= 0 and source[code.comments[index][1] : line].strip(" \t\r") == "\n":
            start = source.rfind("\n", 0, code.comments[index][0]) + 1
            if code.text[start : line - 1].strip():
                return line
            line = start
        elif syntax.attribute and syntax.attribute.match(text):
            line = above
        else:
            return line
    return line
