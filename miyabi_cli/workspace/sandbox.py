"""What every sandbox can do, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from miyabi_cli.workspace.place import DEFAULT_LIMITS, Place
from miyabi_cli.workspace.processes import Limits, Outcome


class Sandbox(Protocol):
    """Runs commands; `warnings` says in words what it can't keep out on this machine."""

    @property
    def kind(self) -> str: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def inside(self, place: Place) -> Path:
        """Return the path of the tree as a command sees it."""
        ...

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits = DEFAULT_LIMITS,
        environment: Mapping[str, str] = ...,
        workdir: str = "",
    ) -> Outcome:
        """Run a command and return when all that it started has ended.

        A string is run by `bash -c` (`sh` where there is no bash), a sequence as it is; login shells become plain ones.
        `environment` is added to the sandbox's own. `workdir` is a folder of the tree; one outside it, or one that is
        not there, is an outcome with exit code 126. Raises SandboxError when the sandbox itself fails.
        """
        ...


def open_sandbox(
    mode: Literal["auto", "off"],
    *,
    repository: Path,
    environ: Mapping[str, str],
    network: bool = False,
    read: Sequence[Path] = (),
    write: Sequence[Path] = (),
) -> Sandbox:
    """Return a sandbox for commands on a repository: bubblewrap, or none at all for `off`.

    `read` and `write` are further paths to open. Raises SandboxError when bubblewrap is not there or can't work here;
    it never falls back to running without a sandbox.
    """
    if mode == "off":
        from miyabi_cli.workspace.unconfined import Unconfined

        return Unconfined(environ)
    from miyabi_cli.workspace.bubblewrap import open_bubblewrap

    return open_bubblewrap(repository=repository, environ=environ, network=network, read=read, write=write)
