"""The sandbox of macOS, by sandbox-exec(1). It has never run on a Mac: its profile is checked as a text, no more.

A profile's last rule that matches decides. Paths are no part of its text but parameters (`-D NAME=PATH`), so a path can
hold nothing that would be read as a rule. Format: the profiles in /System/Library/Sandbox/Profiles of a Mac.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.environment import sandbox_environment
from miyabi_cli.workspace.mounts import Toolchains, find_toolchains, is_there
from miyabi_cli.workspace.place import Place, asked_of, limited
from miyabi_cli.workspace.policy import OFF_HINT, Policy
from miyabi_cli.workspace.processes import Limits, Outcome, run_process
from miyabi_cli.workspace.quota import DiskQuota
from miyabi_cli.workspace.scratch import private_folders

PROGRAM = Path("/usr/bin/sandbox-exec")
UNTESTED = "the sandbox of macOS (sandbox-exec) has never been tried on a Mac: take it for weaker than it says"
WEAKER = (
    UNTESTED,
    "commands see whether a file is there, its size and times; a process that leaves its group outlives its command",
    "processes and memory of commands are not limited on macOS",
)

_PROBE_SECONDS = 20
# What dyld, the shell and Python need; keychains, mail and the rest of /Library and ~/Library are not among it.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/System", "/Library/Apple", "/Library/Frameworks", "/Library/Developer"),
    *("/Applications/Xcode.app/Contents/Developer", "/private/var/db/dyld", "/private/var/db/timezone"),
    *("/private/var/select", "/private/etc/ssl", "/private/etc/passwd", "/private/etc/group", "/private/etc/hosts"),
    *("/private/etc/localtime", "/private/etc/protocols", "/private/etc/services", "/dev/random", "/dev/urandom"),
)
_NETWORK = ("/private/etc/resolv.conf", "/private/var/run/resolv.conf")
_DEVICES = ("/dev/null", "/dev/zero")
_HEAD = """(version 1)
(deny default)
(allow process-exec)
(allow process-fork)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
(allow ipc-posix-sem)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow file-read-metadata)
(allow file-read* (literal "/"))
(allow file-ioctl (literal "/dev/null"))
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """The text of a profile, and the paths that it names, by the names of its parameters."""

    text: str
    parameters: Mapping[str, str]

    def arguments(self) -> list[str]:
        """Return what sandbox-exec takes before the command."""
        given = [argument for name, path in self.parameters.items() for argument in ("-D", f"{name}={path}")]
        return ["-p", self.text, *given]


def profile_of(
    *, readable: Sequence[Path], writable: Sequence[Path], closed: Sequence[Path], kept: Sequence[Path], network: bool
) -> Profile:
    """Return a profile that opens these folders and files, with all in them.

    `closed` ones below them stay closed, and `kept` ones can't be written. Links have to be resolved before.
    """
    lines: list[str] = []
    parameters: dict[str, str] = {}
    rules = (
        ("READ", "allow file-read*", readable),
        ("WRITE", "allow file-read* file-write*", writable),
        ("CLOSED", "deny file-read* file-write*", closed),
        ("KEPT", "deny file-write*", kept),
    )
    for prefix, action, paths in rules:
        for number, path in enumerate(paths):
            name = f"{prefix}_{number}"
            parameters[name] = str(path)
            lines.append(f'({action} (subpath (param "{name}")))')
    lines += ["(allow network*)", "(allow system-socket)"] if network else []
    return Profile(_HEAD + "\n".join(lines) + "\n", parameters)


def open_seatbelt(*, repository: Path, environ: Mapping[str, str], policy: Policy, program: Path = PROGRAM) -> Seatbelt:
    """Return a sandbox by sandbox-exec. Raises SandboxError where it does not work here."""
    policy = policy.expanded()
    missing = [path for path in (*policy.readable, *policy.writable) if not is_there(path)]
    there, open_paths = (
        [path for path in paths if path not in missing] for paths in (policy.readable, policy.writable)
    )
    toolchains = find_toolchains(repository, environ, there, open_paths)
    absent = tuple(f"{path}: not there, so the sandbox does not show it" for path in missing)
    sandbox = Seatbelt(program, policy, toolchains, environ, absent)
    sandbox.probe()
    return sandbox


class Seatbelt:
    """Runs each command under a profile of its own; see `Sandbox`. The tree stays at its own path."""

    kind = "sandbox-exec"

    def __init__(
        self,
        program: Path,
        policy: Policy,
        toolchains: Toolchains,
        environ: Mapping[str, str],
        warnings: Sequence[str] = (),
    ) -> None:
        self._program = program
        self._policy = policy
        self._toolchains = toolchains
        self._environ = dict(environ)
        self._shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        self.quota = DiskQuota(policy.disk_bytes)
        self.warnings = (*WEAKER, *warnings)

    def version(self) -> str:
        """Return nothing: it has none of its own."""
        return ""

    def inside(self, place: Place) -> Path:
        """Return the tree itself: nothing can be mounted at the repository's path."""
        return place.tree

    def probe(self) -> None:
        """Run `true` under a profile. Raises SandboxError where that fails."""
        profile = profile_of(readable=[Path("/")], writable=[], closed=[], kept=[], network=False)
        argv = [str(self._program), *profile.arguments(), "/usr/bin/true"]
        try:
            tried = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, env={})
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"no sandbox: sandbox-exec does not work here: {error}", hint=OFF_HINT) from None
        if tried.returncode:
            said = tried.stderr.decode(errors="replace").partition("\n")[0] or f"exit code {tried.returncode}"
            raise SandboxError(f"no sandbox: sandbox-exec does not work here: {said}", hint=OFF_HINT)

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
        argv = limited(asked.argv, limits, prlimit=None, count_processes=False)
        with private_folders(place) as (home, temporary):
            variables = sandbox_environment(self._environ, self._toolchains, home)
            variables |= {"TMPDIR": str(temporary), "GIT_OPTIONAL_LOCKS": "0"}
            folders = tuple(
                path.resolve() for path in (place.tree, home, temporary, *(host for host, _ in place.writable))
            )
            return await run_process(
                [str(self._program), *self._profile(place, folders).arguments(), *argv],
                cwd=place.tree / asked.folder,
                environment=variables | dict(environment or {}),
                limits=limits,
                folders=folders,
                quota=self.quota,
            )

    def _profile(self, place: Place, folders: Sequence[Path]) -> Profile:
        return profile_of(
            readable=[*self._readable(), *(host.resolve() for host, _ in place.readable)],
            writable=[*map(Path, _DEVICES), *self._toolchains.writable, *folders],
            closed=self._toolchains.masked,
            kept=[folders[0] / ".git"],
            network=self._policy.network,
        )

    def _readable(self) -> Iterator[Path]:
        yield from map(Path, (*_SYSTEM, *(_NETWORK if self._policy.network else ())))
        yield from self._toolchains.readable
        yield from (path for _, path in self._toolchains.dependencies)
        yield from (path for path, _ in self._toolchains.links)
