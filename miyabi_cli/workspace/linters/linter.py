"""What a linter's record holds, and how findings are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from miyabi_cli.workspace.check_records import Finding

MAXIMUM_FINDINGS = 50_000
MAXIMUM_MESSAGE = 2_000  # characters
MAXIMUM_RULE = 200  # characters
NO_RESULT = "it printed no result that can be read"


@dataclass(frozen=True, slots=True)
class LinterReport:
    """What a linter said: its findings, and its output as a person reads it.

    `unread` says why findings may be missing, "" where all that there are have been read.
    """

    findings: tuple[Finding, ...] = ()
    output: str = ""
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Linter:
    """A linter, a type checker or a compiler whose output is known.

    command: the shell command of a check that runs it, in the output format that is read. read: its findings; paths
    are as it prints them, and where they are absolute the caller makes them relative. files: globs of the names of the
    files that it looks at.
    """

    name: str
    command: re.Pattern[str]
    read: Callable[[str], LinterReport]
    files: tuple[str, ...] = ("*",)


def make_finding(
    source: str,
    path: str,
    line: int,
    severity: str,
    message: str,
    rule: str = "",
    *,
    end_line: int = 0,
    category: str = "",
    level: str = "",
) -> Finding:
    """Return a finding, of one line unless it ends later, bounded; a severity that is not known is a warning."""
    word = severity.lower()
    return Finding(
        path=re.sub(r"^(?:\./)+", "", path),
        line=line,
        end_line=max(line, end_line),
        severity="error" if word == "error" else "note" if word in ("note", "help", "info") else "warning",
        rule=rule[:MAXIMUM_RULE],
        source=source,
        message=message[:MAXIMUM_MESSAGE],
        category=category,
        level=level,
    )


def told(findings: Iterable[Finding]) -> str:
    """Return findings as text, one a line: `path:line: severity: message [rule]`."""
    return "".join(f"{_place(finding)}: {finding.severity}: {_text(finding)}\n" for finding in findings)


def _place(finding: Finding) -> str:
    return f"{finding.path}:{finding.line}" if finding.line else finding.path


def _text(finding: Finding) -> str:
    message = " ".join(finding.message.split())
    return f"{message} [{finding.rule}]" if finding.rule else message
