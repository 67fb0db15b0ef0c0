"""A baseline: findings that were accepted, by fingerprint, so that they are not told again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.review.findings import Dropped, Finding
from miyabi_cli.workspace.regular_files import read_regular

ACCEPTED = "accepted in the baseline"
VERSION = 1
_MAXIMUM_BYTES = 64 << 20
HINT = "miyabi review --write-baseline FILE writes one"


def read_baseline(path: Path) -> frozenset[str]:
    """Return the fingerprints of a baseline; the JSON result of a review is one, too. Raises UsageError."""
    data = read_regular(path, _MAXIMUM_BYTES)
    if data is None:
        raise UsageError(f"the baseline {path} can't be read", hint=HINT)
    try:
        document = json.loads(data)
        version, accepted = document["version"], frozenset(str(found["fingerprint"]) for found in document["findings"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path} is no baseline", hint=HINT) from None
    if version != VERSION:
        raise UsageError(f"the baseline {path} has version {version!r}; this miyabi reads {VERSION}", hint=HINT)
    return accepted


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Write a baseline that accepts these findings, sorted so that its diffs are short. Raises MachineError."""
    rows = sorted((_row(finding) for finding in findings), key=lambda row: (row["path"], row["fingerprint"]))
    text = json.dumps({"version": VERSION, "findings": rows}, indent=2) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None


def without_accepted(
    findings: Sequence[Finding], accepted: frozenset[str]
) -> tuple[tuple[Finding, ...], tuple[Dropped, ...]]:
    """Return the findings that a baseline does not accept, and how many it does."""
    left = tuple(finding for finding in findings if finding.fingerprint not in accepted)
    count = len(findings) - len(left)
    return left, (Dropped(ACCEPTED, count),) if count else ()


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path.encode("utf-8", "replace").decode(),
        "source": finding.source,
        "rule": finding.rule,
        "fingerprint": finding.fingerprint,
    }
