"""What sandbox this machine has, as data: for `doctor`, which shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.sandbox import open_sandbox


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """kind: `bubblewrap`, `landlock`, `sandbox-exec`, or `none` where commands can't be run without `--sandbox off`.

    weaknesses: what it can't hold back or show here, as the warnings of a run say it; for `none` why there is none.
    hint: how to get a better one, where there is one.
    """

    kind: str
    version: str
    weaknesses: tuple[str, ...]
    hint: str | None


def describe_sandbox(
    *, repository: Path, environ: Mapping[str, str], policy: Policy = CLOSED, platform: str = sys.platform
) -> SandboxReport:
    """Return what `open_sandbox` would use for commands on a repository. It tries that, so it takes some 50 ms."""
    try:
        sandbox = open_sandbox("auto", repository=repository, environ=environ, policy=policy, platform=platform)
    except SandboxError as error:
        return SandboxReport("none", "", (error.message,), error.hint)
    hint = _hint(repository, environ, policy) if sandbox.kind == "landlock" else None
    return SandboxReport(sandbox.kind, sandbox.version(), sandbox.warnings, hint)


def _hint(repository: Path, environ: Mapping[str, str], policy: Policy) -> str | None:
    from miyabi_cli.workspace.bubblewrap import open_bubblewrap

    try:
        open_bubblewrap(repository=repository, environ=environ, policy=policy)
    except SandboxError as error:
        return error.hint
    return None
