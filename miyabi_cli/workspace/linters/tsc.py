"""tsc, as it prints with --pretty false: `path(line,column): severity TS1234: message`."""

from __future__ import annotations

import re

from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, Linter, LinterReport, make_finding

_LINE = re.compile(
    r"^(?P<path>[^\s(][^(]*)\((?P<line>\d{1,9}),\d{1,9}\): "
    r"(?P<severity>error|warning) (?P<rule>TS\d+): (?P<message>.*)$"
)
_GLOBAL = re.compile(r"^error (?P<rule>TS\d+): (?P<message>.*)$")


def _read(output: str) -> LinterReport:
    findings, lines = [], []
    for line in output.splitlines():
        if match := _LINE.match(line):
            found = match.group("path", "line", "severity", "message", "rule")
            path, number, severity, message, rule = found
            findings.append(make_finding("tsc", path, int(number), severity, message, rule, category="type"))
            lines.append(f"{path}:{number}: {severity}: {message} [{rule}]")
        else:
            if match := _GLOBAL.match(line):
                findings.append(
                    make_finding("tsc", "tsconfig.json", 0, "error", match["message"], match["rule"], category="type")
                )
            lines.append(line)
    return LinterReport(tuple(findings[:MAXIMUM_FINDINGS]), "\n".join(lines))


TSC = Linter(
    "tsc", re.compile(r"(?:^|[\s/])(?:vue-)?tsc\b"), _read, ("*.ts", "*.tsx", "*.[cm]ts", "*.vue", "tsconfig*.json")
)
