"""Parts of a codegen result in Markdown, as GitHub shows it: checks, warnings, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.markdown import code_block, inline_code
from miyabi_cli.report.display import counted, safe_text
from miyabi_cli.report.text import spent

ROWS = 30
NAMES = 5


def block(text: str, limit: int = 4000) -> str:
    """Return what others wrote as a block of code, without controls and orders to a runner."""
    return code_block(safe_text(text), limit)


def code(text: str, limit: int = 200) -> str:
    """Return what others wrote as code within a line."""
    return inline_code(safe_text(text), limit)


def joined(*parts: str) -> str:
    """Return the parts that there are as paragraphs."""
    return "\n\n".join(part for part in parts if part) + "\n"


def checks_table(result: Mapping[str, Any]) -> str:
    """Return a table of the checks before and after; "" where none ran."""
    checks = result["checks"]
    if not checks:
        return ""
    rows = ["| check | before | after | tests |", "|---|---|---|---|"]
    rows += [
        f"| {code(check['name'])} | {check['before']} | {check['after']} | {_tests(check['tests'])} |"
        for check in checks[:ROWS]
    ]
    return "\n".join([*rows, *_more(checks, "check")])


def warnings_list(result: Mapping[str, Any]) -> str:
    """Return the warnings as a list; "" for none."""
    warnings = result["warnings"]
    lines = [
        f"- {' '.join(filter(None, (code(warning['path']), code(warning['message'], 400))))}"
        for warning in warnings[:ROWS]
    ]
    return "\n".join(["**Warnings**", "", *lines, *_more(warnings, "warning")]) if lines else ""


def figures(result: Mapping[str, Any]) -> str:
    """Return what the run has changed and cost."""
    files = sum(len(result[key]) for key in ("files_created", "files_modified", "files_deleted"))
    changed = f"{counted(files, 'file')}, +{result['lines_added']} -{result['lines_removed']}; " if files else ""
    return f"{changed}{code(spent(result))}; run {code(result['run_id'])}"


def _tests(tests: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for key in ("fixed", "broken", "still_failing"):
        if names := tests[key]:
            shown = ", ".join(code(name, 120) for name in names[:NAMES])
            more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
            parts.append(f"{len(names)} {key.replace('_', ' ')}: {shown}{more}")
    return "; ".join(parts)


def _more(rows: Sequence[Any], noun: str) -> list[str]:
    return ["", f"and {counted(len(rows) - ROWS, f'more {noun}')}"] if len(rows) > ROWS else []
