"""mypy, as it prints with --no-pretty: `path:line: severity: message  [code]`."""

from __future__ import annotations

import re

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, Linter, LinterReport, make_finding

_LINE = re.compile(
    r"^(?P<path>\S.*?)(?::(?P<line>\d{1,9}))?(?::\d{1,9}){0,3}: (?P<severity>error|warning|note): (?P<message>.*)$"
)
_CODE = re.compile(r"  \[([\w-]+)\]$")


def _read(output: str) -> LinterReport:
    findings: list[Finding] = []
    for line in output.splitlines():
        match = _LINE.match(line)
        if match and match["severity"] != "note" and len(findings) < MAXIMUM_FINDINGS:  # notes explain what is above
            message = match["message"]
            code = _CODE.search(message[-200:])
            rule = code[1] if code else ""
            text = message.removesuffix(f"  [{rule}]")
            findings.append(
                make_finding(
                    "mypy",
                    match["path"],
                    int(match["line"] or 0),
                    match["severity"],
                    text,
                    rule,
                    category=_category(rule),
                )
            )
    return LinterReport(tuple(findings), output)


def _category(rule: str) -> str:
    return "compile" if rule == "syntax" else "type"


MYPY = Linter(
    "mypy",
    re.compile(r"\b(?:-m mypy|mypy|dmypy run)\b(?! --(?:version|install-types)\b)"),
    _read,
    ("*.py", "*.pyi"),
)
