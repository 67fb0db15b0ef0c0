"""The sandbox by Landlock and seccomp, for machines that allow no namespaces: rules on paths, no mounts.

No library serves: sandlock, the nearest, needs ABI 6 (Linux 6.12) and leaves root its capabilities.
What it can't do as bubblewrap does is in `warnings`. See `confined` for the program that runs a command, and
https://docs.kernel.org/userspace-api/landlock.html for what each ABI of Landlock can refuse.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, SandboxError
from miyabi_cli.workspace.cgroups import limited_processes, pids_folder
from miyabi_cli.workspace.environment import sandbox_environment
from miyabi_cli.workspace.git_guard import GitGuard
from miyabi_cli.workspace.landlock_rules import READ, RIGHTS_OF_ABI, SCOPES, WRITE, kernel_limits, system_rules
from miyabi_cli.workspace.mounts import Toolchains, find_toolchains, is_there
from miyabi_cli.workspace.place import Place, resolve_workdir, workdir_refused
from miyabi_cli.workspace.policy import OFF_HINT, Policy
from miyabi_cli.workspace.processes import CANNOT_RUN, NOT_FOUND, Limits, Outcome, run_process
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.seccomp import seccomp_program
from miyabi_cli.workspace.shell import shell_argv

LOWEST_ABI = 3  # before it (Linux 6.2) every file of the user's could be cut to nothing
_SIGNAL_ABI = 6

# As a module it is compiled once, as a script each time.
_CONFINED = "import sys; sys.path.append(sys.argv.pop(1)); import confined; confined.main()"
_NICE = 10
_UNDONE = "[.git was changed; it is as before now]\n"

_WEAKER = (
    "commands run under Landlock and seccomp, without namespaces: they see other processes with their arguments, and "
    "whether a file is there, its size and times; they can change the modes and times of your files, not the contents",
    "sockets (localhost's too), /dev/shm, terminals and /tmp itself are closed: tests that need them fail",
    "a change of .git is undone after the command, not refused",
)
_NO_SCOPE = "this kernel (Landlock below ABI 6) lets commands send signals to your other processes"
_OPEN_NETWORK = "the network is open, so commands reach the servers on localhost as well"


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
        self._toolchains = toolchains
        self._environ = dict(environ)
        self._handled = next(rights for least, rights in reversed(RIGHTS_OF_ABI) if abi >= least)
        self._scoped = SCOPES if abi >= _SIGNAL_ABI else 0
        self._filter = seccomp_program(is_shared=True, network=policy.network)
        self._shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        self._guard = GitGuard()
        self._is_root = os.geteuid() == 0
        self._cgroups = pids_folder() if self._is_root else None
        self._system = tuple(system_rules(policy, toolchains))
        scope = () if self._scoped else (_NO_SCOPE,)
        network = (_OPEN_NETWORK,) if policy.network else ()
        self.warnings = (*warnings, *_WEAKER, *scope, *network, *_not_mounted(toolchains))

    def inside(self, place: Place) -> Path:
        """Return the tree itself: nothing can be mounted at the repository's path."""
        return place.tree

    def probe(self) -> None:
        """Run `true`; raises SandboxError where the program that confines does not work."""
        import subprocess

        with tempfile.TemporaryDirectory(prefix="miyabi-") as folder:
            place = Place(Path(folder), Path(folder))
            plan = self._plan(place, ["/bin/sh", "-c", ":"], self._policy.limits, (Path(folder),), {}, Path(folder))
            with _handed(plan) as (argv, descriptors, status):
                try:
                    done = subprocess.run(
                        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, pass_fds=descriptors, env={}
                    )
                except (OSError, subprocess.SubprocessError) as error:
                    raise SandboxError(f"Landlock does not work here: {error}", hint=OFF_HINT) from None
                said = _said(status)
        if done.returncode or said != "ok":
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise SandboxError(f"Landlock does not work here: {said or last}", hint=OFF_HINT)

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
        limits = limits or self._policy.limits
        folder = resolve_workdir(place, workdir)
        if folder is None:
            return workdir_refused(workdir)
        argv = shell_argv(command, self._shell)
        if not argv:
            return Outcome(NOT_FOUND, "no command\n", 0.0)
        try:
            for text in (*argv, *(environment or {}), *(environment or {}).values()):
                os.fsencode(text)
        except UnicodeEncodeError as error:
            return Outcome(CANNOT_RUN, f"not a command: {error}\n", 0.0)
        with _private_folders(place) as (home, temporary), self._guard.guarding(place.tree) as git:
            variables = self._variables(home, temporary) | dict(environment or {})
            plan = self._plan(place, argv, limits, (home, temporary), variables, place.tree / folder)
            outcome = await self._run(
                plan, limits, (place.tree, home, temporary, *(host for host, _ in place.writable))
            )
        return replace(outcome, output=f"{outcome.output}{_UNDONE}") if git.was_undone else outcome

    async def _run(self, plan: dict[str, Any], limits: Limits, folders: Sequence[Path]) -> Outcome:
        with (
            limited_processes(limits.processes, self._cgroups) as joining,
            _handed(plan | self._held_by(joining)) as (argv, descriptors, status),
        ):
            outcome = await run_process(
                argv,
                cwd=Path("/"),
                environment={},
                limits=limits,
                pass_fds=descriptors,
                ends_itself=True,
                folders=folders,
            )
            said = _said(status)
        if said != "ok" and not outcome.timed_out:
            message = said or outcome.output.strip().rpartition("\n")[2]
            raise SandboxError(f"the sandbox failed: {message}", hint=OFF_HINT)
        return outcome

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
            "handled": self._handled,
            "scoped": self._scoped,
            "filter": self._filter,
            "limits": kernel_limits(limits),
            "parent": os.getpid(),
            "nice": 0,
            "group": None,
        }


def _not_mounted(toolchains: Toolchains) -> Iterator[str]:
    if toolchains.masked:
        yield "folders above secrets can't be listed, and what is made in them meanwhile is not seen"
    if toolchains.dependencies:
        names = ", ".join(name for name, _ in toolchains.dependencies)
        yield f"{names} can be read at the repository's own path, but is not in the worktree"


@contextlib.contextmanager
def _private_folders(place: Place) -> Iterator[tuple[Path, Path]]:
    """Give folders for HOME and TMPDIR: those of the scratch folder, else new ones that are removed at the end."""
    if place.scratch is not None:
        yield _made(place.scratch)
        return
    top = Path(tempfile.mkdtemp(prefix="miyabi-"))
    try:
        yield _made(top)
    finally:
        with contextlib.suppress(MachineError):
            remove_tree(top)


def _made(top: Path) -> tuple[Path, Path]:
    home, temporary = top / "home", top / "tmp"
    for path in (home, temporary):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home.resolve(), temporary.resolve()


def _said(status: int) -> str:
    try:
        return os.read(status, 1000).decode(errors="replace")
    except BlockingIOError:
        return ""


@contextlib.contextmanager
def _handed(plan: Mapping[str, Any]) -> Iterator[tuple[list[str], tuple[int, int], int]]:
    """Give the argv that runs a plan, the descriptors to pass on, and the one to read "ok" or an error from."""
    plan_end = os.memfd_create("plan", os.MFD_CLOEXEC)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        with open(plan_end, "wb", closefd=False) as file:
            marshal.dump(dict(plan), file)
        os.lseek(plan_end, 0, os.SEEK_SET)
        argv = [sys.executable, "-I", "-S", "-c", _CONFINED, str(Path(__file__).parent), str(plan_end), str(write_end)]
        yield argv, (plan_end, write_end), read_end
    finally:
        for descriptor in (plan_end, read_end, write_end):
            os.close(descriptor)
