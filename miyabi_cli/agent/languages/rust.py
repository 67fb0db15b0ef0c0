"""Rust: functions, those of `impl` blocks, and tests beside the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from miyabi_cli.agent.languages.braces import brace_language
from miyabi_cli.agent.languages.functions import Syntax
from miyabi_cli.agent.languages.language import ending_in

_USE = re.compile(r"^[ \t]*(?:pub[ \t]+)?(?:use|mod)[ \t]+([\w:]{1,300})", re.MULTILINE)
_CRATE_FILES = ("lib", "main")

SYNTAX = Syntax(
    skipped=re.compile(
        r"(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"
        r'|\bb?r(?P<hashes>#{0,20})"(?s:.*?)(?:"(?P=hashes)|\Z)'
        r'|"(?>[^"\\]|\\(?s:.))*+(?:"|\\?\Z)'
        r"|'(?:\\[^\n']{1,12}|\\'|[^\\'\n])'"
    ),
    functions=re.compile(
        r"^[ \t]*+(?:pub(?:\([^)\n]{0,50}\))?[ \t]++)?(?P<core>)"
        r"(?:(?:default|const|async|unsafe|extern)[ \t]++){0,5}fn[ \t]++(?P<name>\w+)",
        re.MULTILINE,
    ),
    imports=re.compile(r"^use[ \t][^;]{1,500};", re.MULTILINE),
    owners=re.compile(
        r"^[ \t]*+(?:pub(?:\([^)\n]{0,50}\))?[ \t]++)?(?:unsafe[ \t]++)?"
        r"(?:mod[ \t]++(?:(?P<tests>tests?)|\w+)"
        r"|(?:impl\b(?:[^{};\n]{0,300}?\bfor[ \t]++)?(?:<[^{};\n]{0,200}>)?[ \t]*+|trait[ \t]++)(?:[\w&' ]{0,50}::)?"
        r"(?P<name>\w+)[^{};]{0,500}?)\s*\{",
        re.MULTILINE,
    ),
    attribute=re.compile(r"\s*#!?\["),
    test=re.compile(r"#\[(?:\w+::)*(?:test|rstest|test_case)\b"),
)


def _imported(source: str, path: str, sources: Sequence[str]) -> Iterable[str]:
    """Return the modules that a file names, the crate's own file, and itself: tests lie beside the code."""
    stems = [part for name in _USE.findall(source) for part in name.split("::") if part not in ("", "std", "core")]
    own = [path] if path in sources else []
    return [*own, *ending_in([*stems, *_CRATE_FILES], sources, ("mod",))]


RUST = brace_language("rust", "Rust", (".rs",), SYNTAX, _imported)
