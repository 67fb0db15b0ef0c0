"""Linters, type checkers and compilers whose findings are read, one record each."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters.bandit import BANDIT
from miyabi_cli.workspace.linters.clippy import CLIPPY
from miyabi_cli.workspace.linters.eslint import ESLINT
from miyabi_cli.workspace.linters.go_vet import GO_VET
from miyabi_cli.workspace.linters.linter import Linter
from miyabi_cli.workspace.linters.mypy import MYPY
from miyabi_cli.workspace.linters.ruff import RUFF
from miyabi_cli.workspace.linters.staticcheck import STATICCHECK
from miyabi_cli.workspace.linters.tsc import TSC

LINTERS: tuple[Linter, ...] = (RUFF, MYPY, BANDIT, CLIPPY, ESLINT, TSC, GO_VET, STATICCHECK)


def linter_of(command: str) -> Linter | None:
    """Return the linter that a check's command runs, None where it runs none or several."""
    found = _matching(command)
    if len(found) > 1:  # a file that is named may be called mypy.py
        found = _matching(_without_files(command))
    return found[0] if len(found) == 1 else None


def _matching(command: str) -> list[Linter]:
    return [linter for linter in LINTERS if linter.command.search(command)]


def _without_files(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return " ".join(word for word in words if not (word.startswith("./") and word.endswith(".py")))


def new_findings(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return those of `after` that were not there before; a patch moves lines, so these are not compared.

    Where one thing is found in a file more often than before, the last of them count as new.
    """
    known = Counter(map(_identity, before))
    new = []
    for finding in after:
        identity = _identity(finding)
        if known[identity] > 0:
            known[identity] -= 1
        else:
            new.append(finding)
    return tuple(new)


def _identity(finding: Finding) -> tuple[str, str, str, str]:
    return finding.source, finding.path, finding.rule, finding.message
