"""bandit, as it prints with --format json."""

from __future__ import annotations

import json
import re
from typing import Any

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, NO_RESULT, Linter, LinterReport, make_finding, told

_SEVERITIES = {"HIGH": "error", "MEDIUM": "warning", "LOW": "note"}
_START = re.compile(r"^\{", re.MULTILINE)  # what it logs comes before


def _read(output: str) -> LinterReport:
    start = _START.search(output)
    if start is None:
        return LinterReport((), output, NO_RESULT)
    try:
        document, _ = json.JSONDecoder().raw_decode(output, start.start())
        results = document["results"]
        findings = tuple(_finding(result) for result in results[:MAXIMUM_FINDINGS])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return LinterReport((), output, NO_RESULT)
    return LinterReport(findings, told(findings) + output[: start.start()], _unread(document.get("errors")))


def _unread(errors: object) -> str:
    """Return what bandit could not parse: it goes on without those files, and ends as if all were well."""
    if not isinstance(errors, list) or not errors:
        return ""
    first = errors[0].get("filename") if isinstance(errors[0], dict) else ""
    return f"{re.sub(r'^(?:[.]/)+', '', str(first))[:200]} can't be parsed ({len(errors)} in all)"


def _finding(result: dict[str, Any]) -> Finding:
    severity = str(result["issue_severity"]).upper()
    lines = [int(line) for line in result.get("line_range") or ()]
    return make_finding(
        "bandit",
        str(result["filename"]),
        int(result["line_number"]),
        _SEVERITIES.get(severity, "warning"),
        str(result["issue_text"]),
        str(result["test_id"]),
        end_line=max(lines, default=0),
        category="security",
        level=severity.lower() if severity in _SEVERITIES else "",
    )


BANDIT = Linter("bandit", re.compile(r"\bbandit\b.*\s(?:--format|-f)[= ]json\b"), _read, ("*.py", "*.pyw"))
