"""ruff, as it prints with RUFF_OUTPUT_FORMAT=concise: `path:line:column: RULE message`."""

from __future__ import annotations

import re

from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, Linter, LinterReport, make_finding

_LINE = re.compile(r"^(?P<path>\S.*?):(?P<line>\d{1,9}):\d{1,9}: (?P<rule>[A-Z]+\d+|[a-z-]+:) (?P<message>.*)$")
_FIXABLE = "[*] "


def _read(output: str) -> LinterReport:
    matches = [match for line in output.splitlines() if (match := _LINE.match(line))]
    findings = [
        make_finding(
            "ruff",
            match["path"],
            int(match["line"]),
            "error" if match["rule"].endswith(":") else "warning",  # what is no Python at all has no code
            match["message"].removeprefix(_FIXABLE),
            match["rule"].removesuffix(":"),
            category=_category(match["rule"]),
        )
        for match in matches[:MAXIMUM_FINDINGS]
    ]
    return LinterReport(tuple(findings), output)


def _category(rule: str) -> str:
    """Return that of a rule; those of bandit, which ruff has taken over, begin with S and a digit."""
    return "compile" if rule.endswith(":") else "security" if re.match(r"S\d", rule) else ""


RUFF = Linter("ruff", re.compile(r"\bruff check\b"), _read, ("*.py", "*.pyi", "*.ipynb"))
