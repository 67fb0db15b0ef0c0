"""A review as SARIF 2.1.0, as GitHub's code scanning reads it.

Formats: docs.oasis-open.org/sarif/sarif/v2.1.0 and docs.github.com, "SARIF support for code scanning".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from miyabi_cli import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "note": "note"}
ROOT = "%SRCROOT%"
MOST = 5_000  # results that GitHub takes of a run are 25,000, and it shows 5,000
# GitHub reads how grave a security finding is from its rule.
SECURITY = {"error": "8.0", "warning": "5.0", "note": "3.0"}


def sarif_log(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the log of a review's result, the object of `--format json`; a rule for each source's own."""
    findings = result["findings"][:MOST]
    rules: dict[str, dict[str, Any]] = {}
    for finding in findings:
        rules.setdefault(_rule_id(finding), _rule(finding))
    numbers = {rule: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "miyabi",
                "semanticVersion": __version__,
                "rules": list(rules.values()),
            }
        },
        "automationDetails": {"id": "miyabi/review/"},
        "columnKind": "utf16CodeUnits",
        "originalUriBaseIds": {ROOT: {"description": {"text": "the root of the repository"}}},
        "invocations": [_invocation(result)],
        "results": [_result(finding, numbers) for finding in findings],
        "properties": {
            "score": result["score"],
            "passed": result["passed"],
            "complete": result["complete"],
            "breakdown": result["breakdown"],
        },
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule_id(finding: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (finding["source"], finding["rule"] or finding["category"])))


def _rule(finding: Mapping[str, Any]) -> dict[str, Any]:
    name = _rule_id(finding)
    is_security = finding["category"] in ("security", "secret")
    properties: dict[str, Any] = {"tags": ["security"] if is_security else [finding["category"] or "lint"]}
    if is_security:
        properties["security-severity"] = "9.5" if finding["category"] == "secret" else SECURITY[finding["severity"]]
    precision = "high" if finding["confidence"] >= 0.8 else "medium" if finding["confidence"] >= 0.5 else "low"
    return {
        "id": name,
        "name": name.replace("/", "-"),
        "shortDescription": {"text": f"{finding['source']}: {finding['rule'] or finding['category']}"},
        "fullDescription": {"text": f"{finding['category']} found by {finding['source']}"},
        "help": {"text": f"{finding['category']} found by {finding['source']} in a review by miyabi."},
        "defaultConfiguration": {"level": LEVELS[finding["severity"]]},
        "properties": {**properties, "precision": precision},
    }


def _result(finding: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    first = max(1, finding["line"])  # GitHub wants a line for every result
    region: dict[str, Any] = {"startLine": first, "endLine": max(first, finding["end_line"])}
    if finding["quote"] and finding["category"] != "secret":
        region["snippet"] = {"text": finding["quote"]}
    place = {"artifactLocation": {"uri": _uri(finding["path"]), "uriBaseId": ROOT}, "region": region}
    fixes = {"fixes": [_fix(finding, place["artifactLocation"])]} if finding["suggestion"] else {}
    return {
        "ruleId": _rule_id(finding),
        "ruleIndex": numbers[_rule_id(finding)],
        "level": LEVELS[finding["severity"]],
        "message": {"text": _unlinked(finding["message"]) or "finding"},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {
            "miyabi/v1": finding["fingerprint"],
            # GitHub makes this one of the lines around where it is missing, and needs the files for that.
            "primaryLocationLineHash": f"{_short(finding['fingerprint'])}:1",
        },
        "rank": round(100 * finding["confidence"], 1),
        "properties": {"category": finding["category"], "confidence": finding["confidence"]},
        **fixes,
    }


def _unlinked(text: str) -> str:
    """Return a message without links, which are `[text](address)` in SARIF (3.11.6): others wrote it."""
    return text.replace("](", "] (")


def _fix(finding: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return code in the place of whole lines; without columns a region ends before the end of its last line."""
    lines = {"startLine": finding["line"], "endLine": finding["end_line"]}
    replacement = {"deletedRegion": lines, "insertedContent": {"text": finding["suggestion"]}}
    return {"artifactChanges": [{"artifactLocation": file, "replacements": [replacement]}]}


def _invocation(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the review ended; what was left out is a notification, so that no reader takes it for looked at."""
    told = [": ".join(filter(None, (one["path"], one["reason"]))) for one in result["skipped"][:MOST]]
    if (left := len(result["findings"]) - MOST) > 0:
        told.append(f"{left} findings more than GitHub shows are left out here")
    notifications = [{"level": "warning", "message": {"text": _unlinked(text)}} for text in told]
    return {"executionSuccessful": result["complete"], "toolExecutionNotifications": notifications}


def _uri(path: str) -> str:
    """Return a relative address of a path; one that is no UTF-8 has U+FFFD in it already."""
    return quote(path, safe="/")


def _short(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
