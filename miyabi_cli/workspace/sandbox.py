"""Where commands run: the place, what every sandbox can do, and the choice of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from miyabi_cli.workspace.environment import unconfined_environment
from miyabi_cli.workspace.processes import CANNOT_RUN, Limits, Outcome, run_process
from miyabi_cli.workspace.shell import shell_argv

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs.

    tree: the worktree on the host. inside: the path that it is mounted at, the repository's own, so that what is
    installed "editable" from there is the worktree's code. writable, readable: further (host, inside) pairs; where one
    lies inside another it is mounted on top of it. scratch: a folder on the host that serves as private HOME and /tmp
    and outlasts a command; without it they live in memory and end with the command.
    """

    tree: Path
    inside: Path
    writable: tuple[tuple[Path, Path], ...] = ()
    readable: tuple[tuple[Path, Path], ...] = ()
    scratch: Path | None = None


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
        return Unconfined(environ)
    from miyabi_cli.workspace.bubblewrap import open_bubblewrap

    return open_bubblewrap(repository=repository, environ=environ, network=network, read=read, write=write)


class Unconfined:
    """No sandbox: commands run in the tree as the user, with the user's HOME, files and network.

    Kept up all the same: the caller's variables without git's and without those that look like secrets, a process
    group of their own that is killed at the end, and the limits of time, output and file size. A process that left
    the group by setsid is ended on a time-out or a cancellation, but not when its command ends by itself.
    """

    kind = "off"
    warnings = ("commands run without a sandbox: they can read and write what you can",)

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environment = unconfined_environment(environ)
        search_path = self._environment.get("PATH", os.defpath)
        self._shell = shutil.which("bash", path=search_path) or "/bin/sh"
        self._prlimit = shutil.which("prlimit", path=search_path)

    def inside(self, place: Place) -> Path:
        """Return the tree itself."""
        return place.tree

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits = DEFAULT_LIMITS,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Outcome:
        """Run a command in the tree; see `Sandbox.run`."""
        folder = resolve_workdir(place, workdir)
        if folder is None:
            return workdir_refused(workdir)
        argv = limited(shell_argv(command, self._shell), limits, prlimit=self._prlimit, count_processes=False)
        return await run_process(
            argv,
            cwd=place.tree / folder,
            environment=self._environment | dict(environment or {}),
            limits=limits,
            folders=(place.tree,),
        )


def resolve_workdir(place: Place, workdir: str) -> Path | None:
    """Return a working folder relative to the tree; None when it is outside it, also by a link, or not there."""
    relative = Path(workdir)
    if not workdir:
        return relative
    for top in (place.inside, place.tree):
        if relative.is_relative_to(top):
            relative = relative.relative_to(top)
    try:
        tree = place.tree.resolve()
        folder = (tree / relative).resolve()
        is_inside = folder.is_relative_to(tree) and folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop of links
        return None
    return folder.relative_to(tree) if is_inside else None


def workdir_refused(workdir: str) -> Outcome:
    """Return the outcome of a command whose working folder is not one of the tree."""
    return Outcome(CANNOT_RUN, f"not a folder of this repository: {workdir!r}\n", 0.0)


def limited(argv: Sequence[str], limits: Limits, *, prlimit: str | None, count_processes: bool) -> list[str]:
    """Return an argv that sets the kernel's limits, then becomes the command: by prlimit(1), else by a shell."""
    if not argv:
        return []
    if prlimit is None:
        # -f counts blocks of 512 bytes, -v kilobytes; for processes shells don't agree on an option
        memory = "" if limits.memory_bytes is None else f"ulimit -v {limits.memory_bytes // 1024}; "
        script = f'ulimit -c 0; ulimit -f {limits.file_bytes // 512}; {memory}exec "$@"'
        return ["/bin/sh", "-c", script, "sh", *argv]
    options = ["--core=0", f"--fsize={limits.file_bytes}"]
    options += [f"--nproc={limits.processes}"] if count_processes else []
    options += [f"--as={limits.memory_bytes}"] if limits.memory_bytes is not None else []
    return [prlimit, *options, "--", *argv]
