"""Where a command runs, whatever the sandbox, and the limits that the kernel sets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.workspace.processes import CANNOT_RUN, NOT_FOUND, Limits, Outcome
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that can be tried: its argv, never empty, and its working folder relative to the tree."""

    argv: tuple[str, ...]
    folder: Path


def asked_of(command: str | Sequence[str], place: Place, workdir: str, shell: str) -> Asked | Outcome:
    """Return what to run, as every sandbox understands `Sandbox.run`, or the outcome of what can't be."""
    folder = resolve_workdir(place, workdir)
    if folder is None:
        return Outcome(CANNOT_RUN, f"not a folder of this repository: {workdir!r}\n", 0.0)
    argv = shell_argv(command, shell)
    return Asked(tuple(argv), folder) if argv else Outcome(NOT_FOUND, "no command\n", 0.0)


def limited(argv: Sequence[str], limits: Limits, *, prlimit: str | None, count_processes: bool) -> list[str]:
    """Return an argv that sets the kernel's limits, then becomes the command: by prlimit(1), else by a shell.

    None is of memory: those count what is reserved and not used, as sanitizers, Go and V8 do by the terabyte.
    """
    if not argv:
        return []
    if prlimit is None:
        # -f counts blocks of 512 bytes; for processes shells don't agree on an option
        script = f'ulimit -c 0; ulimit -f {limits.file_bytes // 512}; exec "$@"'
        return ["/bin/sh", "-c", script, "sh", *argv]
    options = ["--core=0", f"--fsize={limits.file_bytes}"]
    options += [f"--nproc={limits.processes}"] if count_processes else []
    return [prlimit, *options, "--", *argv]
