"""Go: functions and methods; a test's package are the files beside it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from miyabi_cli.agent.languages.braces import brace_language
from miyabi_cli.agent.languages.functions import Syntax

_SPECIFICATION = re.compile(r'"[^"\n]{1,300}/([^"/\n]{1,100})"')

SYNTAX = Syntax(
    skipped=re.compile(
        r"(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"
        r"|`[^`]*(?:`|\Z)"
        r'|"(?>[^"\\\n]|\\(?s:.))*+(?:"|(?=\n)|\\?\Z)'
        r"|'(?:\\[^\n']{1,12}|\\'|[^\\'\n])'"
    ),
    functions=re.compile(
        r"^(?P<core>)func[ \t]++(?:\([ \t]*+(?:\w+[ \t]++)?\*?[ \t]*+(?P<owner>\w+)[^)\n]{0,200}\)[ \t]*+)?"
        r"(?P<name>\w+)",
        re.MULTILINE,
    ),
    imports=re.compile(r'^import[ \t]++(?:\([^)]{0,3000}\)|(?:[\w.]+[ \t]++)?"[^"\n]{1,300}")', re.MULTILINE),
    type_brace=re.compile(r"\b(?:interface|struct)\s*\Z"),
)


def _imported(source: str, path: str, sources: Sequence[str]) -> Iterable[str]:
    """Return the files of the folders that a file imports, by the folder's name, and of its own."""
    names = set(_SPECIFICATION.findall(source))
    own = posixpath.dirname(path)
    for other in sources:
        folder = posixpath.dirname(other)
        if other.endswith(".go") and (folder == own or posixpath.basename(folder) in names):
            yield other


GO = brace_language("go", "Go", (".go",), SYNTAX, _imported)
