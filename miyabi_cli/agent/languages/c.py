"""C: functions that begin at the beginning of a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from miyabi_cli.agent.languages.braces import brace_language
from miyabi_cli.agent.languages.functions import Syntax
from miyabi_cli.agent.languages.language import ending_in

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"(?:\.{1,2}/)*([^"\n]{1,300}?)\.\w+"', re.MULTILINE)

SYNTAX = Syntax(
    skipped=re.compile(
        r"(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"
        r'|"(?>[^"\\\n]|\\(?s:.))*+(?:"|(?=\n)|\\?\Z)'
        r"|'(?>[^'\\\n]|\\.){0,12}'"
        r"|^[ \t]*+#(?>[^\n\\]|\\(?s:.))*+",
        re.MULTILINE,
    ),
    functions=re.compile(
        r"^(?P<core>)(?!(?:else|return|typedef|case|goto|do)\b)(?:[A-Za-z_]\w*+[ \t*]++){0,6}[A-Za-z_]\w*+[\s*]++"
        r"(?P<name>(?!(?:if|for|while|switch|return|sizeof)\b)[A-Za-z_]\w*)[ \t]*+(?=\()",
        re.MULTILINE,
    ),
    imports=re.compile(r"^[ \t]*+#[ \t]*+(?:include|define)\b[^\n]{0,300}", re.MULTILINE),
)


def _imported(source: str, path: str, sources: Sequence[str]) -> Iterable[str]:
    """Return the files of the headers that a file includes, and the code of the same name."""
    return [one for one in ending_in(_INCLUDE.findall(source), sources) if one != path]


C = brace_language("c", "C", (".c", ".h"), SYNTAX, _imported)
