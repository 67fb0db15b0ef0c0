"""Characters that make code read other than it runs, as a source: bidi controls and invisible letters in added lines.

They are those of "Trojan Source: Invisible Vulnerabilities" (CVE-2021-42574) and of Unicode's UTR 36.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import Dropped, Finding, SourceResult
from miyabi_cli.review.means import ReviewMeans

SOURCE = "unicode"
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u00ad\u115f\u1160\u180e\u200b\u2060-\u2064\u3164\uffa0\U000e0000-\U000e007f]")
_MAXIMUM = 100  # findings; who needs more has seen enough


async def find_hidden_characters(change: Change, _means: ReviewMeans) -> SourceResult:
    """Return a finding for each added line with such characters, and for each path that has them."""
    findings = [finding for file in change.reviewed for finding in _findings(file)]
    left = len(findings) - _MAXIMUM
    dropped = (Dropped("hidden characters beyond the first of many", left),) if left > 0 else ()
    return SourceResult(findings=tuple(findings[:_MAXIMUM]), dropped=dropped)


def hidden_character(text: str) -> str:
    """Return the first such character of a text, bidi controls before invisible letters; "" where there is none."""
    found = _BIDI.search(text) or _INVISIBLE.search(text)
    return found[0] if found else ""


def _findings(file: ChangedFile) -> Iterator[Finding]:
    if file.status in ("created", "renamed") and (found := hidden_character(file.path)):
        yield _finding(file.path, 0, found, "the file's name", "", bidi=True)
    for number, text in file.added.items():
        if bidi := _BIDI.search(text):
            yield _finding(file.path, number, bidi[0], "the line", text, bidi=True)
        elif hidden := _INVISIBLE.search(text):
            yield _finding(file.path, number, hidden[0], "the line", text, bidi=False)


def _finding(path: str, line: int, character: str, where: str, quote: str, *, bidi: bool) -> Finding:
    name = f"U+{ord(character):04X}"
    message = (
        f"{where} has the bidirectional control {name}: it may read other than it runs"
        if bidi
        else f"{where} has the invisible character {name}"
    )
    return Finding(
        path=path,
        line=line,
        end_line=line,
        severity="error" if bidi else "warning",
        category="security",
        rule="bidi-control" if bidi else "invisible-character",
        source=SOURCE,
        message=f"{message}; take it out, or write it as an escape",
        quote=quote,
        level="critical" if bidi else "medium",
    )
