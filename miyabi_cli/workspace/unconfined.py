"""No sandbox: commands run as the user, without the user's secrets in their environment, and within limits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from miyabi_cli.workspace.environment import unconfined_environment
from miyabi_cli.workspace.place import Place, asked_of, limited
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.processes import Limits, Outcome, run_process
from miyabi_cli.workspace.quota import DiskQuota


class Unconfined:
    """No sandbox: commands run in the tree as the user, with the user's HOME, files and network.

    Kept up all the same: the caller's variables without git's and without those that look like secrets, a process
    group of their own that is killed at the end, and the limits of time, output and file size. A process that left
    the group by setsid is ended on a time-out or a cancellation, but not when its command ends by itself.
    """

    kind = "off"
    warnings = ("commands run without a sandbox: they can read and write what you can",)

    def __init__(self, environ: Mapping[str, str], policy: Policy = CLOSED) -> None:
        """Of the policy only the limits hold."""
        self._policy = policy
        self.quota = DiskQuota(policy.disk_bytes)
        self._environment = unconfined_environment(environ)
        search_path = self._environment.get("PATH", os.defpath)
        self._shell = shutil.which("bash", path=search_path) or "/bin/sh"
        self._prlimit = shutil.which("prlimit", path=search_path)

    def version(self) -> str:
        """Return nothing: there is none."""
        return ""

    def inside(self, place: Place) -> Path:
        """Return the tree itself."""
        return place.tree

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Outcome:
        """Run a command in the tree; see `Sandbox.run`."""
        limits = self._policy.limits_of(limits)
        asked = asked_of(command, place, workdir, self._shell)
        if isinstance(asked, Outcome):
            return asked
        argv = limited(asked.argv, limits, prlimit=self._prlimit, count_processes=False)
        return await run_process(
            argv,
            cwd=place.tree / asked.folder,
            environment=self._environment | dict(environment or {}),
            limits=limits,
            folders=(place.tree,),
            quota=self.quota,
        )
