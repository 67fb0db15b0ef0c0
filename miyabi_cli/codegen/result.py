"""The result of `codegen`: plain data, and its JSON form as schemas/codegen.json describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from miyabi_cli.errors import MachineError
from miyabi_cli.events import WarningRaised, record_of
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.check_records import TestsDelta

Status = Literal["verified", "unverified", "failed", "limit"]
RESULT_VERSION = 1


@dataclass(frozen=True, slots=True)
class CheckReport:
    """One check before and after the patch: "pass", "fail" or "skip"; `seconds` of the run after."""

    name: str
    command: str
    before: str
    after: str
    seconds: float
    tests: TestsDelta = field(default_factory=TestsDelta)


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What one attempt came to; `usage` is its own part of the run's."""

    status: Status
    steps: int
    lines_added: int
    lines_removed: int
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class OpenedPullRequest:
    """The pull request that a result has become; `url` is its page."""

    number: int
    url: str


@dataclass(frozen=True, slots=True)
class CodegenResult:
    """What a run gives back. `patch` is the diff against `base` as git writes it; `worktree` is one that is kept.

    A byte of the patch that is not UTF-8 stands as a lone surrogate (PEP 383), and as U+FFFD in the JSON.
    """

    run_id: str
    status: Status
    summary: str
    base: str
    provider: str
    model: str
    effort: str | None = None
    branch: str | None = None
    commit: str | None = None
    patch: str = ""
    files_created: tuple[str, ...] = ()
    files_modified: tuple[str, ...] = ()
    files_deleted: tuple[str, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0
    tests_added: int = 0
    checks: tuple[CheckReport, ...] = ()
    warnings: tuple[WarningRaised, ...] = ()
    attempts: tuple[AttemptReport, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    worktree: str | None = None
    pull_request: OpenedPullRequest | None = None

    def data(self) -> dict[str, Any]:
        """Return the object of `--format json`; `pull_request` is in it where there is one."""
        data = {"version": RESULT_VERSION, **dataclasses.asdict(self)}
        if self.pull_request is None:
            del data["pull_request"]
        return {**data, "patch": self.patch_bytes.decode("utf-8", "replace")}

    @classmethod
    def of(cls, data: Mapping[str, Any], patch: bytes) -> CodegenResult:
        """Return the result of a run that has ended, of its object and its patch. Raises MachineError for another."""
        try:
            result: CodegenResult = record_of(cls, data)
        except ValueError as error:
            raise MachineError(f"the result of a run is damaged: {error!s:.200}", hint="begin the task anew") from None
        return dataclasses.replace(result, patch=patch.decode("utf-8", "surrogateescape"))

    @property
    def patch_bytes(self) -> bytes:
        """Return the patch as `git apply` reads it."""
        return self.patch.encode("utf-8", "surrogateescape")
