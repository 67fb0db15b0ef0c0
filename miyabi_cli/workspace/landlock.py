"""The sandbox by Landlock and seccomp, for machines that allow no namespaces: rules on paths, no mounts.

No library serves: sandlock, the nearest, needs ABI 6 (Linux 6.12) and leaves root its capabilities.
What it can't do as bubblewrap does is in `warnings`. See `confined` for what a command runs in, and
https://docs.kernel.org/userspace-api/landlock.html for what each ABI of Landlock can refuse.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.cgroups import limited_group, pids_folder
from miyabi_cli.workspace.environment import sandbox_environment
from miyabi_cli.workspace.git_guard import GitGuard
from miyabi_cli.workspace.landlock_rules import (
    READ,
    UNIX_ABI,
    WRITE,
    handled,
    kernel_limits,
    system_rules,
    weaknesses,
)
from miyabi_cli.workspace.launcher import launch, probe
from miyabi_cli.workspace.mounts import Toolchains, find_toolchains, is_there
from miyabi_cli.workspace.place import Place, asked_of
from miyabi_cli.workspace.policy import OFF_HINT, Policy
from miyabi_cli.workspace.processes import CANNOT_RUN, Limits, Outcome, run_child
from miyabi_cli.workspace.quota import DiskQuota
from miyabi_cli.workspace.scratch import private_folders
from miyabi_cli.workspace.seccomp import seccomp_program

LOWEST_ABI = 3  # before it (Linux 6.2) every file of the user's could be cut to nothing

_NICE = 10
_UNDONE = "[.git was changed; it is as before now]\n"


def open_landlock(
    *,
    repository: Path,
    environ: Mapping[str, str],
    policy: Policy,
    warnings: Sequence[str] = (),
    abi: int | None = None,
) -> Landlock:
    """Return a sandbox by Landlock; `warnings` come before its own, and `abi` is the kernel's if it is not said.

    Raises SandboxError where the kernel has no Landlock or too old a one, or where there is no filter of system calls.
    """
    policy = policy.expanded()
    abi = landlock_abi() if abi is None else abi
    if abi < LOWEST_ABI:
        message = (
            f"this kernel's Landlock is too old (ABI {abi}; 3 is needed)" if abi else "this kernel has no Landlock"
        )
        raise SandboxError(message, hint=OFF_HINT)
    if seccomp_program() is None:
        raise SandboxError(f"no filter of system calls for {platform.machine()}", hint=OFF_HINT)
    missing = [path for path in (*policy.readable, *policy.writable) if not is_there(path)]
    there, open_paths = (
        [path for path in paths if path not in missing] for paths in (policy.readable, policy.writable)
    )
    toolchains = find_toolchains(repository, environ, there, open_paths)
    absent = tuple(f"{path}: not there, so the sandbox does not show it" for path in missing)
    sandbox = Landlock(policy, toolchains, environ, abi, (*warnings, *absent))
    sandbox.probe()
    return sandbox


@lru_cache(maxsize=1)
def landlock_abi() -> int:
    """Return the version of Landlock's interface; 0 where the kernel has none or it is switched off."""
    if sys.platform != "linux":
        return 0
    from miyabi_cli.workspace.confined import landlock_version

    return max(landlock_version(), 0)


class Landlock:
    """Runs each command in a Landlock domain of its own; see `Sandbox`. The tree stays at its own path."""

    kind = "landlock"

    def __init__(
        self,
        policy: Policy,
        toolchains: Toolchains,
        environ: Mapping[str, str],
        abi: int,
        warnings: Sequence[str] = (),
    ) -> None:
        self._policy = policy
        self.quota = DiskQuota(policy.disk_bytes)
        self._toolchains = toolchains
        self._environ = dict(environ)
        self._abi = abi
        self._handled = handled(abi, network=policy.network)
        self._filter = seccomp_program(is_shared=True, network=policy.network, unix=abi >= UNIX_ABI)
        self._shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        self._guard = GitGuard()
        self._is_root = os.geteuid() == 0
        self._cgroups = pids_folder() if self._is_root else None
        self._system = tuple(system_rules(policy, toolchains))
        self.warnings = (*warnings, *weaknesses(abi, toolchains, network=policy.network))

    def version(self) -> str:
        """Return the version of the kernel's interface."""
        return f"ABI {self._abi}"

    def inside(self, place: Place) -> Path:
        """Return the tree itself: nothing can be mounted at the repository's path."""
        return place.tree

    def probe(self) -> None:
        """Run `true`; raises SandboxError where commands can't be confined here."""
        with tempfile.TemporaryDirectory(prefix="miyabi-") as name, open(os.devnull, "wb") as output:
            folder = Path(name)
            place = Place(folder, folder)
            plan = self._plan(place, ["/bin/sh", "-c", ":"], self._policy.limits, (folder,), {}, folder)
            try:
                probe(plan, output.fileno())
            except SandboxError as error:
                message = error.message.removeprefix("the sandbox failed: ")
                raise SandboxError(f"Landlock does not work here: {message}", hint=OFF_HINT) from None

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Outcome:
        """Run a command in the sandbox; see `Sandbox.run`."""
        limits = self._policy.limits_of(limits)
        asked = asked_of(command, place, workdir, self._shell)
        if isinstance(asked, Outcome):
            return asked
        if (refused := _not_in_bytes((*asked.argv, *(environment or {}), *(environment or {}).values()))) is not None:
            return refused
        with private_folders(place) as (home, temporary), self._guard.guarding(place.tree) as git:
            variables = self._variables(home, temporary) | dict(environment or {})
            plan = self._plan(place, asked.argv, limits, (home, temporary), variables, place.tree / asked.folder)
            outcome = await self._run(
                plan, limits, (place.tree, home, temporary, *(host for host, _ in place.writable))
            )
        return replace(outcome, output=f"{outcome.output}{_UNDONE}") if git.was_undone else outcome

    async def _run(self, plan: dict[str, Any], limits: Limits, folders: Sequence[Path]) -> Outcome:
        with limited_group(limits, self._cgroups) as joining:
            held = plan | self._held_by(joining)
            return await run_child(
                lambda output: launch(held, output), limits=limits, folders=folders, quota=self.quota
            )

    def _held_by(self, joining: Sequence[str]) -> dict[str, Any]:
        """Return what holds root's processes: a cgroup, whose file comes last of what joins it, else our watch."""
        if joining:
            return {"group": os.fsencode(joining[-1])}
        return {"nice": _NICE if self._is_root else 0}

    def _variables(self, home: Path, temporary: Path) -> dict[str, str]:
        # git refreshes its index as it looks, where it can
        own = {"TMPDIR": str(temporary), "GIT_OPTIONAL_LOCKS": "0"}
        return sandbox_environment(self._environ, self._toolchains, home) | own

    def _plan(
        self,
        place: Place,
        argv: Sequence[str],
        limits: Limits,
        private: Sequence[Path],
        variables: Mapping[str, str],
        folder: Path,
    ) -> dict[str, Any]:
        """Return what `confined` does, in types that marshal knows."""
        own = [(place.tree, WRITE), *((path, WRITE) for path in private)]
        own += [(host, WRITE) for host, _ in place.writable] + [(host, READ) for host, _ in place.readable]
        rules = [(os.fsencode(path), rights, False) for path, rights in self._system]
        return {
            "argv": [os.fsencode(argument) for argument in argv],
            "environment": {os.fsencode(name): os.fsencode(value) for name, value in variables.items()},
            "folder": os.fsencode(folder),
            "rules": rules + [(os.fsencode(path), rights, True) for path, rights in own],
            "handled": self._handled.files,
            "handled_network": self._handled.network,
            "scoped": self._handled.scopes,
            "attribute_bytes": self._handled.size,
            "filter": self._filter,
            "limits": kernel_limits(limits),
            "nice": 0,
            "group": None,
        }


def _not_in_bytes(texts: Sequence[str]) -> Outcome | None:
    try:
        for text in texts:
            os.fsencode(text)
    except UnicodeEncodeError as error:
        return Outcome(CANNOT_RUN, f"not a command: {error}\n", 0.0)
    return None
