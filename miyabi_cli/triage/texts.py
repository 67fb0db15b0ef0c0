"""Short texts of a row: what strangers and models wrote, on one line, without what would steer a terminal."""

from __future__ import annotations

import re
from typing import Any

from miyabi_cli.errors import MiyabiError
from miyabi_cli.triage.issue import TriageIssue

LONGEST = 200
# CSI, and the strings of OSC, DCS and the like up to their end (ECMA-48, 5.4 and 5.6).
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,50}[ -/]{0,5}[@-~]|\x1b[\]PX^_][^\x07\x1b]{0,500}(?:\x07|\x1b\\)?")


def line_of(text: str) -> str:
    """Return text on one line: escapes, controls and invisible characters are taken out, what is long is cut."""
    cut = _ESCAPES.sub("", text[: 10 * LONGEST])
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in cut).split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1].rstrip()}…"


def summary_of(issue: TriageIssue) -> str:
    """Return the title, or the body's beginning where there is none."""
    return line_of(issue.title) or line_of(issue.body)


def error_data(error: MiyabiError) -> dict[str, Any]:
    """Return an error as a row has it."""
    return {"kind": error.kind, "message": line_of(error.message), "hint": line_of(error.hint or "") or None}
