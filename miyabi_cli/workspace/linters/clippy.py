"""clippy and rustc, as cargo prints them with --message-format=json (the Cargo book, "External tools")."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import (
    MAXIMUM_FINDINGS,
    MAXIMUM_MESSAGE,
    Linter,
    LinterReport,
    make_finding,
    told,
)


def _read(output: str) -> LinterReport:
    """Read cargo's messages; lines that are none, such as `Checking calc v0.1.0`, are kept.

    A library is compiled once more for its tests: the same finding counts once.
    """
    findings: dict[Finding, None] = {}
    others = []
    for line in output.splitlines():
        if not line.startswith('{"'):
            others.append(line)
        elif found := _finding(line):
            findings[found] = None
    kept = tuple(findings)[:MAXIMUM_FINDINGS]
    return LinterReport(kept, told(kept) + "\n".join(others))


def _finding(line: str) -> Finding | None:
    try:
        document = json.loads(line)
        message = document["message"] if document.get("reason") == "compiler-message" else None
        return _of_message(message) if message else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _of_message(message: dict[str, Any]) -> Finding | None:
    """Return the finding of a diagnostic; None for a summary ("3 warnings emitted"), which names no place."""
    span = next((span for span in message["spans"] if span["is_primary"]), None)
    if span is None:
        return None
    code = message["code"]["code"] if message.get("code") else ""
    line, end = int(span["line_start"]), int(span["line_end"])
    source, level = "clippy" if str(code).startswith("clippy::") else "rustc", str(message["level"])
    category = "compile" if source == "rustc" and level.startswith("error") else ""
    found = make_finding(
        *(source, str(span["file_name"]), line, level, str(message["message"]), str(code)),
        end_line=end,
        category=category,
    )
    return replace(found, suggestion=_suggestion(message))


def _suggestion(message: dict[str, Any]) -> str:
    helps = [child for child in message["children"] if child["level"] == "help"]
    texts = [str(child["message"]) for child in helps if not child["message"].startswith("for further information")]
    return "\n".join(texts)[:MAXIMUM_MESSAGE]


CLIPPY = Linter(
    "clippy",
    re.compile(r"\bcargo (?:\+\S+ )?(?:clippy|check|build)\b.*--message-format[= ]json"),
    _read,
    ("*.rs", "Cargo.toml"),
)
