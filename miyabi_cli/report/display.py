"""What a model, a repository or an issue wrote, made safe for a terminal."""

from __future__ import annotations

import re

# The text within a window title's sequence and the like stays: in a patch it may be a program's, and must be seen.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# ESC, C0 and C1 controls but tab and newline, and the bidi, zero-width and tag characters that hide or reorder text.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def safe_text(text: str) -> str:
    """Return text without terminal escapes, control, bidi and invisible characters; tabs and newlines stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def plain_text(text: str) -> str:
    """Return safe text on one line."""
    return " ".join(safe_text(text).split())


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
