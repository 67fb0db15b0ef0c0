"""What the attempts of a run share: plain frozen data and the run's voice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from miyabi_cli.agent.allowance import Allowance
from miyabi_cli.agent.context import Task
from miyabi_cli.codegen.earlier import Earlier
from miyabi_cli.codegen.request import Wishes
from miyabi_cli.events import Event, WarningRaised
from miyabi_cli.llm.profiles import Profile
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Sampling
from miyabi_cli.workspace.check_records import Check, CheckRun
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.workspaces import Workspace

Emit = Callable[[Event], None]


@dataclass(slots=True)
class Voice:
    """Tells what happens: every event goes to `emit`, and every warning is told once and kept for the result.

    `keep` puts a patch into the run's directory, so that it is not lost where the run ends before it is delivered.
    """

    emit: Emit
    keep: Callable[[bytes], None] = lambda _patch: None
    warnings: list[WarningRaised] = field(default_factory=list)

    def warn(self, kind: str, message: str, path: str = "") -> None:
        """Tell and keep a warning, unless it was told before."""
        warning = WarningRaised(kind, path, message)
        if warning not in self.warnings:
            self.warnings.append(warning)
            self.emit(warning)


@dataclass(frozen=True, slots=True)
class Plan:
    """`base` is the commit that the worktrees start from, `base_runs` its checks' results ("skip" or not run: none).

    `folder` is where the user stands, relative to the root; `include` and `setup` are the worktree's settings;
    `earlier` is what the run did before it was stopped. `start` is the tree (an id) that attempts begin with where that
    is not the base's; `asked` is what the user has asked for, in words that may be fewer than the task's.
    """

    task: Task
    folder: str
    repository: Repository
    workspace: Workspace
    base: str
    provider: Provider
    sampling: Sampling
    sandbox: Sandbox
    checks: tuple[Check, ...]
    base_runs: tuple[CheckRun, ...]
    allowance: Allowance
    voice: Voice
    output_bytes: int
    include: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    earlier: Earlier | None = None
    wishes: Wishes = field(default_factory=Wishes)
    start: str | None = None
    asked: str = ""

    @property
    def profile(self) -> Profile:
        """What is known of the model."""
        return self.provider.profile
