"""JavaScript and TypeScript: functions, variables that are functions, and methods of classes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from miyabi_cli.agent.languages.braces import brace_language
from miyabi_cli.agent.languages.functions import Syntax
from miyabi_cli.agent.languages.language import ending_in

_IMPORT = re.compile(r"""(?:\bfrom|\brequire\s*\(|\bimport(?:\s*\()?)\s*['"](\.{1,2}/[^'"\n]{1,300})['"]""")
_SUFFIX = re.compile(r"\.[cm]?[jt]sx?$")

SYNTAX = Syntax(
    skipped=re.compile(
        r"(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"
        r'|"(?>[^"\\\n]|\\(?s:.))*+(?:"|(?=\n)|\\?\Z)'
        r"|'(?>[^'\\\n]|\\(?s:.))*+(?:'|(?=\n)|\\?\Z)"
        r"|(?P<template>`)|(?P<brace>[{}])"
        r"|(?P<regex>/(?>[^/\\\[\n]|\\.|\[(?>[^\]\\\n]|\\.){0,200}+\]){1,500}+/\w*)"
    ),
    functions=re.compile(
        r"^[ \t]*+(?:export[ \t]++)?(?:default[ \t]++)?(?P<core>)"
        r"(?:async[ \t]++)?function[ \t]*+\*?[ \t]*+(?P<name>[\w$]+)",
        re.MULTILINE,
    ),
    values=re.compile(
        r"^[ \t]*+(?:export[ \t]++)?(?P<core>)"
        r"(?:(?:const|let|var)[ \t]++|(?:[\w$]{1,100}\.){1,4})(?P<name>[\w$]+)[ \t]*+(?::[^=\n;]{1,300})?"
        r"=\s*+(?=async\b|function\b|[(\w$<])",
        re.MULTILINE,
    ),
    methods=re.compile(
        r"^[ \t]*+(?:(?:public|private|protected|static|override)[ \t]++){0,4}(?P<core>)"
        r"(?:(?:async|get|set)[ \t]++){0,2}(?:\*[ \t]*+)?(?P<name>#?[\w$]+)[ \t]*+(?:<[^>\n]{0,200}>)?(?=\()",
        re.MULTILINE,
    ),
    owners=re.compile(
        r"^[ \t]*+(?:export[ \t]++)?(?:default[ \t]++)?(?:abstract[ \t]++)?(?:const[ \t]++\w+[ \t]*+=[ \t]*+)?"
        r"class[ \t]++(?P<name>[\w$]+)[^{};\n]{0,500}\{",
        re.MULTILINE,
    ),
    attribute=re.compile(r"\s*@\w"),
    imports=re.compile(r"^import\b[^;\n]{0,500}?(?:\{[^}]{0,1000}\}[^;\n]{0,500})?;?$", re.MULTILINE),
    type_brace=re.compile(r"(?:[:|&<,]|=>)\s*\Z"),
    wrapper=("class Wrapped {\n", "\n}\n"),
)


def _imported(source: str, path: str, sources: Sequence[str]) -> Iterable[str]:
    """Return what a file imports by a path relative to it."""
    folder = posixpath.dirname(path)
    stems = [posixpath.normpath(posixpath.join(folder, _SUFFIX.sub("", name))) for name in _IMPORT.findall(source)]
    return ending_in(stems, sources, ("index",))


JAVASCRIPT = brace_language("javascript", "JavaScript", (".js", ".mjs", ".cjs", ".jsx"), SYNTAX, _imported)
TYPESCRIPT = brace_language("typescript", "TypeScript", (".ts", ".mts", ".cts", ".tsx"), SYNTAX, _imported)
