"""A model's claims as findings: each on a line of the change, or dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from miyabi_cli.review.findings import Finding
from miyabi_cli.review.model.anchoring import find_anchor
from miyabi_cli.review.model.asking import CERTAINTIES, LEVELS
from miyabi_cli.review.model.shown import Part, named

SOURCE = "model"
NO_PLACE = "the quoted line is not in the change"
EMPTY = "it says nothing"
TWICE = "it was said twice"
MOST_LETTERS = 1_000


def findings_of(claims: Iterable[Mapping[str, Any]], part: Part, dropped: Counter[str]) -> tuple[Finding, ...]:
    """Return what a model claims of a part of a change; what is dropped is counted by its reason."""
    lines = tuple(part.lines)
    found: dict[tuple[int, str], Finding] = {}
    for claim in claims:
        message = _text(claim["problem"])
        anchor = find_anchor(claim["quote"], claim.get("line", 0), lines)
        if not message:
            dropped[EMPTY] += 1
        elif anchor is None:
            dropped[NO_PLACE] += 1
        elif (anchor.line, claim["category"]) in found:
            dropped[TWICE] += 1
        else:
            found[anchor.line, claim["category"]] = Finding(
                path=part.file.path,
                line=anchor.line,
                end_line=anchor.end_line,
                severity=LEVELS[claim["severity"]],
                category=claim["category"],
                rule=claim["category"],
                source=SOURCE,
                message=message,
                quote=anchor.quote,
                confidence=CERTAINTIES[claim["certainty"]],
                level=claim["severity"],
            )
    return tuple(found.values())


def _text(text: str) -> str:
    """Return words of a model's on one line, bounded, without what hides or reorders text."""
    return named(" ".join(text[:MOST_LETTERS].split()))
