"""What a check is and what a run of it gave: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from miyabi_cli.workspace.regular_files import read_regular

TestStatus = Literal["pass", "fail", "skip"]
CheckStatus = Literal["pass", "fail", "skip"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Check:
    """A command that must hold.

    `command` is shell text run in the root of the tree, `timeout` is in seconds; `requested`: given by `--check`.
    `environment` adds variables; `{tree}` in a value is the tree's path as the command sees it, `{builds}` that of the
    folder for what the next check finds again. An agent's commands get those of all checks, but none of `alone`, which
    stand above them.
    """

    name: str
    command: str
    timeout: float = 600
    requested: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    alone: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TestFailure:
    """One failing test: `message` is what was asserted, `details` the traceback's text, bounded."""

    __test__ = False  # not a test class of pytest's

    name: str
    message: str
    details: str


@dataclass(frozen=True, slots=True)
class TestReport:
    """What a runner told test by test; `tests` is empty where it told nothing.

    `overwritten`: two runs wrote one report, so that it is not known what the first one told.
    """

    __test__ = False

    tests: Mapping[str, TestStatus] = field(default_factory=dict)
    failures: tuple[TestFailure, ...] = ()
    overwritten: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a linter, a type checker or a compiler says of a place in the code.

    `path` is relative to the tree; `line` counts from 1, and is 0 for what concerns the file as a whole; `end_line` is
    at least `line`. `rule` is the linter's own name for it, "" where it has none; `source` the linter. `suggestion` is
    advice, as the linter gives it. `category` is security, type, compile
    or "" for all else; `level` is critical, high, medium or low where the linter tells how grave it is, else "".
    """

    path: str
    line: int
    end_line: int
    severity: Severity
    rule: str
    source: str
    message: str
    suggestion: str = ""
    category: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """One run of one check.

    `skip`: the check can't say anything here (its tool is missing, or there is no test to run).
    `tests` is empty where the runner did not report them; `conclusive` is False after a time-out or a kill;
    `reported` is False where no runner wrote of any test. `findings` are those of a linter whose output is known,
    and `unread` says why some of them, or all, may be missing.
    """

    name: str
    command: str
    status: CheckStatus
    seconds: float
    tests: Mapping[str, TestStatus]
    output: str
    exit_code: int
    failures: tuple[TestFailure, ...] = ()
    conclusive: bool = True
    reported: bool = True
    findings: tuple[Finding, ...] = ()
    unread: str = ""


@dataclass(frozen=True, slots=True)
class TestsDelta:
    """What a change did to tests that were there before it, by name."""

    __test__ = False

    fixed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    still_failing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """The checks of a tree, and one line for each thing that they leave out."""

    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A tree as the toolchains look at it, at one moment: another survey is never the same.

    `tree` is where its files lie now, `files` their paths relative to it (sorted, ignored folders left out);
    `repository` is the user's checkout, where untracked environments such as `.venv` are; `environ` the caller's.
    """

    tree: Path
    files: tuple[str, ...]
    repository: Path
    environ: Mapping[str, str]

    def text(self, path: str, limit: int = 1_000_000) -> str:
        """Return a file's text, or "" where it is absent, not a regular file or over `limit` bytes."""
        return (read_regular(self.tree / path, limit) or b"").decode(errors="replace")
