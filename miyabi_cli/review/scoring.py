"""The score of a change: 100 less what its findings cost, as docs/review.md explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from miyabi_cli.review.findings import Finding

BEST = 100
BANDS = ((90, "good"), (80, "fair"), (60, "weak"), (0, "poor"))
# Points by category where that decides, by level where a source tells one, else by severity.
WEIGHTS: Mapping[str, float] = {
    "secret": 40,
    "type": 30,
    "compile": 30,
    "critical": 40,
    "high": 20,
    "medium": 10,
    "low": 5,
    "error": 20,
    "warning": 10,
    "note": 0,
}
_ERRORS_ONLY = ("type", "compile")  # a warning of a compiler is a warning


@dataclass(frozen=True, slots=True)
class Deduction:
    """Why the score is lower; `points` are negative."""

    reason: str
    points: int


def deductions(findings: Iterable[Finding], weights: Mapping[str, float] | None = None) -> tuple[Deduction, ...]:
    """Return what findings cost, those of one kind together, the dearest first; what costs nothing is left out.

    `weights` are the user's own, by category, level or severity, each in the place of that of `WEIGHTS`.
    """
    own = weights or {}
    points: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for finding in findings:
        if cost := points_of(finding, own):
            points[_kind(finding)] += cost
            counts[_kind(finding)] += 1
    told = [Deduction(f"{kind}: {counts[kind]}", -points[kind]) for kind in points]
    return tuple(sorted(told, key=lambda one: (one.points, one.reason)))


def points_of(finding: Finding, weights: Mapping[str, float]) -> int:
    """Return what a finding costs, a whole number of points; a model's by its confidence."""
    known = {**WEIGHTS, **weights}
    weight = next(known[key] for key in _keys(finding, weights) if key in known)
    share = min(1.0, max(0.0, finding.confidence)) if finding.source == "model" else 1.0
    return round(weight * share + 1e-9)


def _keys(finding: Finding, weights: Mapping[str, float]) -> Iterator[str]:
    """Yield what a finding's points stand under, the narrowest first; a user's own change no order."""
    if finding.category not in _ERRORS_ONLY or finding.severity == "error" or finding.category in weights:
        yield finding.category
    if finding.level:
        yield finding.level
    yield finding.severity


def score_of(breakdown: Iterable[Deduction]) -> int:
    """Return the score, 0 to 100."""
    return max(0, BEST + sum(deduction.points for deduction in breakdown))


def band_of(score: int) -> str:
    """Return the word for a score."""
    return next(word for least, word in BANDS if score >= least)


def _kind(finding: Finding) -> str:
    """Return what a finding is, for a person: `lint error`, `security high`, `secret`."""
    who = "the model's " if finding.source == "model" else ""
    if finding.category == "secret":
        return f"{who}secret"
    return f"{who}{finding.category} {finding.level or finding.severity}"
