"""Evidence is held against the issue: a quote that does not stand in it is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.row import Evidence

MOST = 5
LONGEST = 300  # characters of a quote
SHORTEST = 3


def checked_evidence(claims: Iterable[Mapping[str, Any]], issue: TriageIssue) -> tuple[Evidence, ...]:
    """Return the quotes that stand in the issue, in the field that is named or else in the other, as the issue has
    them: spaces and line ends count as one space, and the letters' case does not count.
    """
    found: list[Evidence] = []
    for claim in claims:
        for field in ("title", "body") if claim.get("field") == "title" else ("body", "title"):
            quote = find_quote(str(claim.get("quote", "")), issue.text_of(field))
            if quote:
                found.append(Evidence("title" if field == "title" else "body", quote))
                break
    return tuple(dict.fromkeys(found))[:MOST]


def find_quote(quote: str, text: str) -> str:
    """Return the first place in a text that a quote means, "" for none and for one that holds controls."""
    words = quote.strip().strip("\"'`“”").split()
    if sum(map(len, words)) < SHORTEST or len(quote) > 4 * LONGEST:
        return ""
    place = re.search(r"\s{1,20}".join(map(re.escape, words)), text, re.IGNORECASE)
    if place is None or not all(letter.isprintable() or letter in "\n\t" for letter in place[0]):
        return ""
    return place[0][:LONGEST].rstrip()


def line_around(text: str, start: int, end: int) -> str:
    """Return the line of a text that a place is in, as evidence; the place alone where the line is long or unclean."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    line = text[first : last if last >= 0 else len(text)].strip()
    return line if len(line) <= LONGEST and line.isprintable() else text[start:end]
