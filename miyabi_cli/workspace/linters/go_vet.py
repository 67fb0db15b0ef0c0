"""go vet and the compilers behind it: `path:line:column: message`, those of vet's own type checker after `vet: `."""

from __future__ import annotations

import re

from miyabi_cli.workspace.linters.linter import MAXIMUM_FINDINGS, Linter, LinterReport, make_finding

_LINE = re.compile(r"^(?P<vet>vet: )?(?P<path>[^\s:#][^:]*\.go):(?P<line>\d{1,9}):(?:\d{1,9}:)? (?P<message>.*)$")


def _read(output: str) -> LinterReport:
    matches = [match for line in output.splitlines() if (match := _LINE.match(line))]
    findings = [
        make_finding(
            "go vet",
            match["path"],
            int(match["line"]),
            "error" if match["vet"] else "warning",
            match["message"],
            category="compile" if match["vet"] else "",
        )
        for match in matches[:MAXIMUM_FINDINGS]
    ]
    return LinterReport(tuple(findings), output)


GO_VET = Linter("go vet", re.compile(r"\bgo vet\b(?!.* -json\b)"), _read, ("*.go", "go.mod"))
