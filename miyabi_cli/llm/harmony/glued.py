"""Harmony whose marks a server cut out: `analysis…assistantcommentary to=functions.NAME json{…}assistantfinal…`."""

from __future__ import annotations

import re

from miyabi_cli.llm.harmony.tokens import CHANNEL, END, MESSAGE, START, Lexeme

_BEGINNING = re.compile(r"\s{0,4}(?:assistant)?analysis(?=[A-Z0-9\"'“(`*])")
# The header of the next message: of a call, or of another channel.
_NEXT = re.compile(
    r"assistant ?((?:commentary|analysis)? ?to=[\w.-]{1,120}[^{}\n]{0,40})(?=\{)|assistant(analysis|commentary|final)"
)


def may_be_glued(text: str) -> bool:
    """Say whether a text begins like thought whose marks are missing: what follows it tells."""
    return _BEGINNING.match(text) is not None


def unglued(text: str) -> list[Lexeme]:
    """Return the lexemes with their marks, [] where the text is not Harmony without marks."""
    beginning = _BEGINNING.match(text)
    headers = list(_NEXT.finditer(text, beginning.end())) if beginning else []
    if not beginning or not headers:
        return []
    lexemes: list[Lexeme] = [CHANNEL, "analysis", MESSAGE]
    at = beginning.end()
    for header in headers:
        lexemes += [text[at : header.start()], END, START, "assistant", CHANNEL, header[1] or header[2], MESSAGE]
        at = header.end()
    return [*lexemes, text[at:]]
