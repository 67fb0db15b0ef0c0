"""Any tool that prints SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, LinterReport, make_finding, told

_START = re.compile(r"^\{", re.MULTILINE)
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_MAXIMUM_STARTS = 20


def read_sarif(output: str) -> LinterReport | None:
    """Return the results of a SARIF log in what was printed, None where there is none."""
    if '"runs"' not in output:
        return None
    for start in list(_START.finditer(output))[:_MAXIMUM_STARTS]:
        try:
            document, end = json.JSONDecoder().raw_decode(output, start.start())
        except (ValueError, RecursionError):
            continue
        runs = document.get("runs") if isinstance(document, dict) else None
        if isinstance(runs, list):
            findings = tuple(_bounded(finding for run in runs if isinstance(run, dict) for finding in _results(run)))
            return LinterReport(findings, told(findings) + output[: start.start()] + output[end:])
    return None


def _bounded(findings: Iterator[Finding]) -> Iterator[Finding]:
    for _, finding in zip(range(MAXIMUM_FINDINGS), findings, strict=False):
        yield finding


def _results(run: dict[str, Any]) -> Iterator[Finding]:
    driver = _part(_part(run, "tool"), "driver")
    name = str(driver.get("name") or "sarif")[:50]
    rules = [rule for rule in _list(driver, "rules") if isinstance(rule, dict)]
    by_id = {str(rule.get("id")): rule for rule in rules}
    for result in _list(run, "results"):
        if not isinstance(result, dict) or _list(result, "suppressions") or result.get("kind", "fail") != "fail":
            continue
        rule_id = str(result.get("ruleId") or _part(result, "rule").get("id") or "")
        rule = by_id.get(rule_id) or _numbered(rules, result)
        yield _finding(name, result, rule, rule_id or str(rule.get("id") or ""))


def _finding(name: str, result: dict[str, Any], rule: Mapping[str, Any], rule_id: str) -> Finding:
    location = next((place for place in _list(result, "locations") if isinstance(place, dict)), {})
    place = _part(location, "physicalLocation")
    region = _part(place, "region")
    line = _number(region.get("startLine"))
    properties = _part(rule, "properties")
    security = _security(properties)
    default = _part(rule, "defaultConfiguration").get("level")
    severity = _LEVELS.get(str(result.get("level") or default or "warning"), "note")
    return make_finding(
        name,
        _path(str(_part(place, "artifactLocation").get("uri") or "")),
        line,
        severity,
        str(_part(result, "message").get("text") or _part(rule, "shortDescription").get("text") or rule_id),
        rule_id,
        end_line=_number(region.get("endLine")),
        category="security" if security or "security" in map(str, _list(properties, "tags")) else "",
        level=security,
    )


def _security(properties: Mapping[str, Any]) -> str:
    """Return how grave a rule's findings are, by the score that GitHub reads too, "" where there is none."""
    try:
        score = float(properties["security-severity"])
    except (KeyError, TypeError, ValueError):
        return ""
    return "critical" if score >= 9 else "high" if score >= 7 else "medium" if score >= 4 else "low"


def _path(uri: str) -> str:
    """Return the path of a `file:` address or of a relative one."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    return unquote(parts.path) if parts.scheme in ("", "file") else uri


def _numbered(rules: list[dict[str, Any]], result: dict[str, Any]) -> Mapping[str, Any]:
    number = result.get("ruleIndex")
    return rules[number] if isinstance(number, int) and 0 <= number < len(rules) else {}


def _part(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = data.get(key)
    return part if isinstance(part, dict) else {}


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    part = data.get(key)
    return part if isinstance(part, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**9 else 0
