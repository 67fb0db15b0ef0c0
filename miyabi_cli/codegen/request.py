"""What a user asks of `codegen`: plain frozen data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from miyabi_cli.llm.profiles import Profile

TESTS_WANTED = "A test, beside those that are there, fails without your change; add it unless one already does."
DOCS_WANTED = "All that you add and that is public is documented in the code: docstrings, rustdoc, JSDoc."

ISSUE = re.compile(r"\s*(#?0*[1-9][0-9]{0,17}|https?://\S+)\s*")  # how one is named: its number, or its address


@dataclass(frozen=True, slots=True)
class Delivery:
    """What becomes of the patch: a commit on a new branch, a change of the working tree, or the patch alone."""

    kind: Literal["branch", "apply", "patch"] = "branch"
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What else a patch is to bring: tests for what it changes, documentation of what it adds."""

    tests: bool = True
    docs: bool = False

    @property
    def criteria(self) -> tuple[str, ...]:
        """The wishes in words, for the model."""
        wanted = ((self.tests, TESTS_WANTED), (self.docs, DOCS_WANTED))
        return tuple(text for is_wanted, text in wanted if is_wanted)


@dataclass(frozen=True, slots=True)
class FromIssue:
    """The issue that a task was taken from."""

    number: int
    title: str


@dataclass(frozen=True, slots=True)
class FromRun:
    """The run from whose result a task goes on: `asked` is what was asked for before, the oldest first, and then now.

    `patch` leads from the base to the files with which the work begins.
    """

    run_id: str
    asked: tuple[str, ...]
    patch: bytes


@dataclass(frozen=True, slots=True)
class CodegenRequest:
    """One run. `attempts` None: as many as the model's profile says. `folder`: where the user stands.

    `all_attempts`: make them all and take the best, rather than the first that is good enough.
    `cost_capped`: the user named a cap for this run, and has to hear where it can't be held. `flags`: what a command
    line said, for the process that goes on with the run should it be stopped.
    """

    task: str
    base: str = "HEAD"
    include_uncommitted: bool = False
    requested_checks: tuple[str, ...] = ()
    checks_wanted: bool = True
    attempts: int | None = None
    all_attempts: bool = False
    jobs: int = 1
    delivery: Delivery = field(default_factory=Delivery)
    keep_worktree: bool = False
    cost_capped: bool = False
    folder: Path = field(default_factory=Path)
    flags: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)
    issue: FromIssue | None = None
    draft_pr: bool = False
    continued: FromRun | None = None

    @property
    def name(self) -> str:
        """What the task is called in logs, by its branch and its commit: the issue, else its own words."""
        if self.continued:
            return self.continued.asked[-1]
        return f"issue #{self.issue.number}: {self.issue.title}" if self.issue else self.task

    def options(self) -> dict[str, Any]:
        """Return what the run's log keeps of a request, so that the run can go on or be played again."""
        source: dict[str, Any] = {"issue": {**asdict(self.issue), "task": self.task}} if self.issue else {}
        if self.continued:
            asked = list(self.continued.asked)
            source["from"] = {"run_id": self.continued.run_id, "asked": asked, "task": self.task}
        return {
            **source,
            "checks": list(self.requested_checks),
            "checks_wanted": self.checks_wanted,
            "include_uncommitted": self.include_uncommitted,
            "attempts": self.attempts,
            "all_attempts": self.all_attempts,
            "tests": self.wishes.tests,
            "docs": self.wishes.docs,
            "delivery": self.delivery.kind,
            "flags": dict(self.flags),
        }

    def tries(self, profile: Profile) -> int:
        """Return how many attempts to make at the most."""
        return self.attempts or profile.attempts
