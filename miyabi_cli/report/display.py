"""What a model, a repository or an issue wrote, made safe for a terminal or a page."""

from __future__ import annotations

import os
import re

# The text within a window title's sequence and the like stays: in a patch it may be a program's, and must be seen.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
# ESC, C0 and C1 controls but tab and newline, and what hides or reorders text: bidi and zero-width characters, fillers
# without a shape, selectors of variants beyond those of emoji, marks of annotations and of music, and tags.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# A line that GitHub's runner obeys: `::add-mask::x` and, anywhere in it, `##[command]` (actions/runner, ActionCommand).
_ORDERS = re.compile(r"^((?:[^\S\n]|[+-])*+:)(?=:)|(#)(?=#\[)", re.MULTILINE)


def safe_text(text: str) -> str:
    """Return text without terminal escapes, control, bidi and invisible characters; tabs and newlines stay.

    On a runner of GitHub Actions no line of it is an order to the runner.
    """
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    return _ORDERS.sub(r"\1\2 ", text) if os.environ.get("GITHUB_ACTIONS") == "true" else text


def visible_text(text: str) -> str:
    """Return text without terminal escapes; a character that `safe_text` takes out is named instead: `⟨U+202E⟩`."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    return _CONTROLS.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def plain_text(text: str, lead: str = "") -> str:
    """Return safe text on one line, behind the words that lead to it."""
    return lead + " ".join(safe_text(text).split())


def indented(text: str) -> str:
    """Return safe text whose lines stand apart from those that miyabi writes itself."""
    return "\n".join(f"  {line}" for line in safe_text(text).split("\n"))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
