"""What commands of a run may touch, whatever the sandbox."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.place import DEFAULT_LIMITS
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.quota import RUN_DISK_BYTES

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import LimitSettings, SandboxSettings

OFF_HINT = "run commands without a sandbox by --sandbox off"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user opens to commands, beyond the worktree and the toolchains, and the limits where a run names none.

    readable, writable: further paths; `~` is the user's home. network: whether commands may use it. disk_bytes: what
    all commands of the sandbox together may write; a run has a sandbox of its own.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    network: bool = False
    limits: Limits = DEFAULT_LIMITS
    disk_bytes: int = RUN_DISK_BYTES

    def limits_of(self, limits: Limits | None) -> Limits:
        """Return the limits of a command: those that its caller gave, where they are set."""
        limits = limits or self.limits
        memory = limits.memory_bytes or self.limits.memory_bytes or default_memory()
        return replace(limits, memory_bytes=memory)

    def expanded(self) -> Policy:
        """Return the same with `~` resolved; raises SandboxError where a path opens all there is."""
        readable, writable = (tuple(path.expanduser() for path in paths) for paths in (self.readable, self.writable))
        if any(path.resolve() == Path("/") for path in (*readable, *writable)):
            message = "sandbox.read and sandbox.write can't open all of /"
            raise SandboxError(message, hint=f"name single folders, or {OFF_HINT}")
        return replace(self, readable=readable, writable=writable)


CLOSED = Policy()


def policy_of(sandbox: SandboxSettings, limits: LimitSettings) -> Policy:
    """Return what the user has set."""
    return Policy(
        sandbox.read,
        sandbox.write,
        sandbox.network,
        replace(DEFAULT_LIMITS, memory_bytes=limits.memory_bytes),
        limits.disk_bytes,
    )


@lru_cache(maxsize=1)
def default_memory() -> int | None:
    """Return three quarters of this machine's memory, in bytes; None where that is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") * 3 // 4
    except (OSError, ValueError):
        return None
