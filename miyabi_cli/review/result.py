"""The result of `review`: plain data, and its JSON form as schemas/review.json describes it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from miyabi_cli.errors import MiyabiError
from miyabi_cli.messages import Usage
from miyabi_cli.review.findings import AddedSecret, Dropped, Finding, Skipped
from miyabi_cli.review.scoring import Deduction
from miyabi_cli.workspace.check_records import Severity

RESULT_VERSION = 1
SourceStatus = Literal["ran", "partial", "skipped", "failed"]
_SURROGATES = re.compile("[\ud800-\udfff]")
_INTERNAL = ("level",)  # of a finding; the breakdown tells it


@dataclass(frozen=True, slots=True)
class Gate:
    """What a review has to hold: the lowest score that passes, and the severity from which on any finding fails."""

    fail_under: float
    fail_on: Severity | None = None


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of a source. `partial`: it left something out; `reason` says what, or why it did not run."""

    name: str
    status: SourceStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What a review gives back.

    `change` names what was reviewed, `base` and `head` its trees (ids of git's, None where they are not known).
    `passed`: it is complete and holds its gate; `failures` say in words what it does not. `error` is what ended a
    source early, `limit` says that a limit did. `secrets` are those that the
    change adds, and never in the data.
    """

    run_id: str
    change: str
    base: str | None
    head: str | None
    score: int
    band: str
    passed: bool
    complete: bool
    breakdown: tuple[Deduction, ...]
    summary: str
    findings: tuple[Finding, ...]
    dropped: tuple[Dropped, ...]
    skipped: tuple[Skipped, ...]
    sources: tuple[SourceReport, ...]
    failures: tuple[str, ...]
    gate: Gate
    files: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    usage: Usage = field(default_factory=Usage)
    provider: str | None = None
    model: str | None = None
    seconds: float = 0.0
    error: MiyabiError | None = None
    limit: bool = False
    secrets: tuple[AddedSecret, ...] = field(default=(), repr=False)

    def data(self) -> dict[str, Any]:
        """Return the object of `--format json`; what is no UTF-8 in the code stands as U+FFFD."""
        data = dataclasses.asdict(dataclasses.replace(self, error=None))
        for finding in data["findings"]:
            for name in _INTERNAL:
                del finding[name]
        error = self.error
        del data["secrets"]
        data["error"] = {"kind": error.kind, "message": error.message, "hint": error.hint} if error else None
        cleaned: dict[str, Any] = _cleaned({"version": RESULT_VERSION, **data})
        return cleaned


def _cleaned(value: Any) -> Any:
    """Return data without lone surrogates, which no JSON reader needs to take."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: _cleaned(part) for key, part in value.items()}
    return [_cleaned(part) for part in value] if isinstance(value, list | tuple) else value
