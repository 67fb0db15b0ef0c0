"""What a user asks of `codegen`: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from miyabi_cli.llm.profiles import Profile


@dataclass(frozen=True, slots=True)
class Delivery:
    """What becomes of the patch: a commit on a new branch, a change of the working tree, or the patch alone."""

    kind: Literal["branch", "apply", "patch"] = "branch"
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class CodegenRequest:
    """One run. `attempts` None: as many as the model's profile says. `folder`: where the user stands.

    `cost_capped`: the user named a cap for this run, and has to hear where it can't be held. `flags`: what a command
    line said, for the process that goes on with the run should it be stopped.
    """

    task: str
    base: str = "HEAD"
    include_uncommitted: bool = False
    requested_checks: tuple[str, ...] = ()
    checks_wanted: bool = True
    attempts: int | None = None
    jobs: int = 1
    delivery: Delivery = field(default_factory=Delivery)
    keep_worktree: bool = False
    cost_capped: bool = False
    folder: Path = field(default_factory=Path)
    flags: Mapping[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return what the run's log keeps of a request, so that the run can go on or be played again."""
        return {
            "checks": list(self.requested_checks),
            "checks_wanted": self.checks_wanted,
            "include_uncommitted": self.include_uncommitted,
            "attempts": self.attempts,
            "delivery": self.delivery.kind,
            "flags": dict(self.flags),
        }

    def tries(self, profile: Profile) -> int:
        """Return how many attempts to make at the most."""
        return self.attempts or profile.attempts
