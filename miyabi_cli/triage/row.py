"""What triage says of one issue: the row that every output shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from miyabi_cli.messages import Usage

IssueType = Literal["bug", "feature", "refactor", "docs", "test", "deployment", "question"]
Severity = Literal["Sev.1", "Sev.2", "Sev.3", "Sev.4", "Sev.5"]
Impact = Literal["critical", "high", "medium", "low"]
Priority = Literal["P0", "P1", "P2", "P3"]
Owner = Literal["Developer", "TechLead", "PO", "CISO", "DevOps"]
Source = Literal["llm", "rules"]
TYPES: tuple[IssueType, ...] = get_args(IssueType)
LONGEST_ESTIMATE = 10_080  # minutes: a week of days and nights


@dataclass(frozen=True, slots=True)
class Evidence:
    """Words of the issue, letter by letter; `field` is title or body."""

    field: Literal["title", "body"]
    quote: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An issue that may be the same; `score` is 0 to 1, where 1 is the same text."""

    number: int
    score: float


@dataclass(frozen=True, slots=True)
class Row:
    """One issue's row. `type` is always the best guess; `abstained` concerns the labels alone, which are then those of
    an issue that waits. `confidence` is the probability, 0 to 1, that the type is right. `error` says why the model has
    not answered, where it should have.
    """

    number: int
    type: IssueType
    severity: Severity
    impact: Impact
    priority: Priority
    labels: tuple[str, ...]
    confidence: float
    abstained: bool
    evidence: tuple[Evidence, ...]
    duplicates: tuple[Duplicate, ...]
    owner: Owner
    estimate_minutes: int
    missing: tuple[str, ...]
    dependencies: tuple[int, ...]
    summary: str
    source: Source
    error: dict[str, Any] | None = None
    usage: Usage = dataclasses.field(default_factory=Usage)

    @property
    def is_escalated(self) -> bool:
        """Say whether a person is to look at it at once: it is of the gravest severity, or touches security."""
        return self.severity == "Sev.1" or self.owner == "CISO"

    def data(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return {**dataclasses.asdict(self), "confidence": round(self.confidence, 4)}
