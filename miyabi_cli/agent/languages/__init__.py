"""The languages in which a small model is shown functions and gives them back: one record each."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from miyabi_cli.agent.languages.c import C
from miyabi_cli.agent.languages.go import GO
from miyabi_cli.agent.languages.javascript import JAVASCRIPT, TYPESCRIPT
from miyabi_cli.agent.languages.language import Language
from miyabi_cli.agent.languages.python import PYTHON
from miyabi_cli.agent.languages.rust import RUST

LANGUAGES: tuple[Language, ...] = (PYTHON, RUST, JAVASCRIPT, TYPESCRIPT, GO, C)

_BY_SUFFIX = {suffix: language for language in LANGUAGES for suffix in language.suffixes}
# How a failure names a place: `path:line` as most tools do, and Python's tracebacks. A run of these characters is
# looked at once, however long it is.
PLACE = re.compile(
    rf"(?<![\w./+@-])([\w./+@-]+(?:{'|'.join(map(re.escape, sorted(_BY_SUFFIX, key=len, reverse=True)))}))"
    r'(?::|", line )(\d{1,9})'
)


def language_of(path: str) -> Language | None:
    """Return the language of a file, by its name; None where it is none of these."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix)
