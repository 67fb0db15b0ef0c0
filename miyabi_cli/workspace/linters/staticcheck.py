"""staticcheck, as it prints with -f json: an object a line (staticcheck.dev, "Output formats")."""

from __future__ import annotations

import json
import re

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, Linter, LinterReport, make_finding, told


def _read(output: str) -> LinterReport:
    findings: list[Finding] = []
    others = []
    for line in output.splitlines():
        found = _finding(line) if line.startswith("{") else None
        if found is None:
            others.append(line)
        elif len(findings) < MAXIMUM_FINDINGS:
            findings.append(found)
    return LinterReport(tuple(findings), told(findings) + "\n".join(others))


def _finding(line: str) -> Finding | None:
    try:
        data = json.loads(line)
        place, end, code = data["location"], data.get("end") or {}, str(data["code"])
        return make_finding(
            "staticcheck",
            str(place["file"]),
            int(place["line"]),
            "error" if code == "compile" else "warning",  # it calls all that it finds an error
            str(data["message"]),
            code,
            end_line=int(end.get("line") or 0),
            category="compile" if code == "compile" else "",
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


STATICCHECK = Linter("staticcheck", re.compile(r"\bstaticcheck\b.*\s-f[= ]json\b"), _read, ("*.go", "go.mod"))
