"""Finds public definitions that a patch adds without documentation: docstrings, rustdoc, JSDoc, Go's comments."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MAXIMUM_BYTES = 1_000_000
_MEMBERS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Undocumented:
    """A definition without documentation: its name, and its line in the new file, from 1."""

    path: str
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class _Comments:
    """A language whose documentation is comments before a definition.

    public: matches the line of a public definition, with its name as a group. ends: what the last line of such a
    comment looks like. between: lines that may stand between the two, such as attributes.
    """

    public: re.Pattern[str]
    ends: re.Pattern[str]
    between: re.Pattern[str]

    def undocumented(self, text: str) -> Iterator[tuple[str, int]]:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            match = self.public.match(line[:500])
            if match and not self._is_documented(lines, number):
                yield match["name"], number + 1

    def _is_documented(self, lines: Sequence[str], number: int) -> bool:
        above = number - 1
        while above >= 0 and self.between.match(lines[above][:500]):
            above -= 1
        return above >= 0 and self.ends.match(lines[above][:500]) is not None


def _python(text: str) -> Iterator[tuple[str, int]]:
    """Yield the public functions, classes and methods without a docstring; nothing where the text is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes and the like, which are not ours to tell
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
    yield from _members(tree)


def _members(parent: ast.Module | ast.ClassDef) -> Iterator[tuple[str, int]]:
    for node in parent.body:
        if not isinstance(node, _MEMBERS) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node, clean=False) is None and not _is_stub(node):
            yield node.name, node.lineno
        if isinstance(node, ast.ClassDef):
            yield from _members(node)


def _is_stub(node: ast.AST) -> bool:
    """Say whether it is an overload or overrides another one: what documents it stands elsewhere."""
    decorators = getattr(node, "decorator_list", [])
    names = {getattr(one, "attr", getattr(one, "id", "")) for one in decorators}
    return bool(names & {"overload", "override", "setter", "deleter"})


_BLOCK_END = r"\s*(?:.*\*/\s*|///?.*)$"

RUST = _Comments(
    public=re.compile(r"\s*pub(?:\([^)]*\))?\s+(?:(?:const|async|unsafe|extern(?: \"\w+\")?)\s+)*"
                      r"(?:fn|struct|enum|trait|type|mod|static|const|union)\s+(?P<name>\w+)"),
    ends=re.compile(r"\s*(?:///|//!|#\[doc|.*\*/\s*$)"),
    between=re.compile(r"\s*(?:#\[(?!doc)|#!\[)"),
)  # fmt: skip
JAVASCRIPT = _Comments(
    public=re.compile(r"export\s+(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?"
                      r"(?:function\*?|class|const|let|interface|type|enum)\s+(?P<name>[\w$]+)"),
    ends=re.compile(r".*\*/\s*$"),
    between=re.compile(r"\s*@\w"),
)  # fmt: skip
GO = _Comments(
    public=re.compile(r"(?:func\s+(?:\([^)]*\)\s*)?|type\s+|var\s+|const\s+)(?P<name>[A-Z]\w*)"),
    ends=re.compile(r"(?://|.*\*/\s*$)"),
    between=re.compile(r"//(?:go|nolint|line):?\w"),
)
C = _Comments(
    public=re.compile(r"(?!static|typedef|return|else|if|for|while|switch|using|namespace|#)"
                      r"[A-Za-z_][\w:<>,*& ]{0,100}?[ *&](?P<name>[A-Za-z_]\w*)\([^;{}]*\)\s*(?:const\s*)?[;{]?\s*$"),
    ends=re.compile(_BLOCK_END),
    between=re.compile(r"\s*(?:template\s*<|\[\[)"),
)  # fmt: skip

_Finder = Callable[[str], Iterator[tuple[str, int]]]
_FINDERS: dict[str, _Finder] = {
    **dict.fromkeys((".py", ".pyi"), _python),
    **dict.fromkeys((".rs",), RUST.undocumented),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"), JAVASCRIPT.undocumented),
    **dict.fromkeys((".go",), GO.undocumented),
    **dict.fromkeys((".h", ".hh", ".hpp", ".hxx"), C.undocumented),
}


def is_documentable(path: str) -> bool:
    """Say whether documentation can be looked for in a file of this name."""
    return PurePosixPath(path).suffix.lower() in _FINDERS


def undocumented(path: str, content: bytes, added: Collection[int]) -> tuple[Undocumented, ...]:
    """Return the public definitions of a file that begin on one of the `added` lines (from 1) without documentation.

    A file of another language, or over 1 MB, has none.
    """
    find = _FINDERS.get(PurePosixPath(path).suffix.lower())
    if find is None or len(content) > MAXIMUM_BYTES:
        return ()
    text = content.decode("utf-8", "replace")
    return tuple(Undocumented(path, name, line) for name, line in find(text) if line in added)
