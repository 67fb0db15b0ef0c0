"""What every sandbox can do, and the choice of one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.processes import Limits, Outcome
from miyabi_cli.workspace.quota import DiskQuota


class Sandbox(Protocol):
    """Runs commands; `warnings` says in words what it can't keep out on this machine."""

    @property
    def kind(self) -> str: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def version(self) -> str:
        """Return the version of what holds the commands, as far as there is one."""
        ...

    @property
    def quota(self) -> DiskQuota:
        """The account of what all its commands have written to the disk."""
        ...

    def inside(self, place: Place) -> Path:
        """Return the path of the tree as a command sees it."""
        ...

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] = ...,
        workdir: str = "",
    ) -> Outcome:
        """Run a command and return when all that it started has ended.

        A string is run by `bash -c` (`sh` where there is no bash), a sequence as it is; login shells become plain ones.
        `limits` are the policy's where none are given. `environment` is added to the sandbox's own. `workdir` is a
        folder of the tree; one outside it, or one that is not there, is an outcome with exit code 126. Raises
        SandboxError when the sandbox itself fails.
        """
        ...


def open_sandbox(
    mode: Literal["auto", "off"],
    *,
    repository: Path,
    environ: Mapping[str, str],
    policy: Policy = CLOSED,
    platform: str = sys.platform,
) -> Sandbox:
    """Return a sandbox for commands on a repository: bubblewrap, else Landlock and seccomp; or none at all for `off`.

    On macOS it is sandbox-exec.

    Where it is not bubblewrap, `warnings` say why, and what is weaker. Raises SandboxError where neither works here;
    it never falls back to running without a sandbox.
    """
    if mode == "off":
        from miyabi_cli.workspace.unconfined import Unconfined

        return Unconfined(environ, policy)
    policy = policy.expanded()
    if platform == "darwin":
        from miyabi_cli.workspace.seatbelt import open_seatbelt

        return open_seatbelt(repository=repository, environ=environ, policy=policy)
    from miyabi_cli.workspace.bubblewrap import open_bubblewrap

    try:
        return open_bubblewrap(repository=repository, environ=environ, policy=policy)
    except SandboxError as error:
        refused = error
    from miyabi_cli.workspace.landlock import open_landlock

    why = refused.message.removeprefix("no sandbox: ")
    try:
        return open_landlock(repository=repository, environ=environ, policy=policy, warnings=(why,))
    except SandboxError as error:
        raise SandboxError(f"{refused.message}; nor can Landlock be used: {error.message}", hint=refused.hint) from None
