"""eslint, as it prints with --format json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, NO_RESULT, Linter, LinterReport, make_finding, told

_FILES = ("*.js", "*.jsx", "*.ts", "*.tsx", "*.[cm]js", "*.[cm]ts", "*.vue", "*.svelte")
_SEVERITIES = {1: "warning", 2: "error"}


def _read(output: str) -> LinterReport:
    """Read eslint's results, an array in one line; what else was printed is kept."""
    findings: list[Finding] = []
    others = []
    unread = NO_RESULT
    for line in output.splitlines():
        results = _results(line) if line.startswith("[") else None
        if results is None:
            others.append(line)
        else:
            unread = ""
            findings += [finding for result in results if isinstance(result, dict) for finding in _findings(result)]
    return LinterReport(tuple(findings[:MAXIMUM_FINDINGS]), told(findings) + "\n".join(others), unread)


def _results(line: str) -> list[Any] | None:
    try:
        results = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return results if isinstance(results, list) else None


def _findings(result: dict[str, Any]) -> Iterator[Finding]:
    messages = result.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        line, end = (_number(message.get(key)) for key in ("line", "endLine"))
        severity = _SEVERITIES.get(_number(message.get("severity")), "warning")
        rule = message.get("ruleId")
        found = make_finding(
            "eslint",
            str(result.get("filePath", "")),
            line,
            severity,
            str(message.get("message", "")),
            rule if isinstance(rule, str) else "",
            category="compile" if message.get("fatal") is True else "",
        )
        yield replace(found, end_line=max(line, end))


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**9 else 0


ESLINT = Linter("eslint", re.compile(r"\beslint\b.*\s(?:--format|-f)[= ]json\b"), _read, _FILES)
