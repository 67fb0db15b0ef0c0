"""Fences around text in a prompt that somebody else wrote, which it can't close."""

from __future__ import annotations

import hashlib
import re


def fenced(text: str) -> str:
    """Return a text between `<data ID>` and `</data ID>`; "" for none.

    The id comes of the text, so that the same text gives the same prompt and a server's prefix cache holds. It is one
    that does not stand in the text: whoever wrote that can't have put the fence's end into it.
    """
    if not text.strip():
        return ""
    name = _digest(text)
    while name in text:
        name = _digest(name + text)
    return f"<data {name}>\n{text}\n</data {name}>"


def backticks(text: str) -> str:
    """Return a Markdown fence that is longer than any in the text, and three letters at the least."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    return "`" * (longest + 1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
