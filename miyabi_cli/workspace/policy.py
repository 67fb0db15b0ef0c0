"""What commands of a run may touch, whatever the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.place import DEFAULT_LIMITS
from miyabi_cli.workspace.processes import Limits

OFF_HINT = "run commands without a sandbox by --sandbox off"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user opens to commands, beyond the worktree and the toolchains, and the limits where a run names none.

    readable, writable: further paths; `~` is the user's home. network: whether commands may use it.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    network: bool = False
    limits: Limits = DEFAULT_LIMITS

    def expanded(self) -> Policy:
        """Return the same with `~` resolved; raises SandboxError where a path opens all there is."""
        readable, writable = (tuple(path.expanduser() for path in paths) for paths in (self.readable, self.writable))
        if any(path.resolve() == Path("/") for path in (*readable, *writable)):
            message = "sandbox.read and sandbox.write can't open all of /"
            raise SandboxError(message, hint=f"name single folders, or {OFF_HINT}")
        return Policy(readable, writable, self.network, self.limits)


CLOSED = Policy()
