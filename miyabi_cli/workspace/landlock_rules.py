"""What a Landlock domain allows of the system, as rows of path and rights; and the limits that go with it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from miyabi_cli.workspace import layout
from miyabi_cli.workspace.mounts import Toolchains
from miyabi_cli.workspace.policy import Policy
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.watch import threads_of_user

# Rights by the bit of linux/landlock.h, after the first ABI that has them.
_FILE_RIGHTS = ((3, (1 << 15) - 1), (5, 1 << 15), (9, 1 << 16))  # ioctl on devices; Unix sockets by path
_NETWORK_RIGHTS = ((4, 1 << 0 | 1 << 1), (10, 1 << 2 | 1 << 3))  # TCP; UDP
_SCOPES = ((6, 1 << 0 | 1 << 1),)  # abstract Unix sockets; signals
_SIZES = ((3, 8), (4, 16), (6, 24))  # bytes of struct landlock_ruleset_attr
UNIX_ABI, UDP_ABI, SCOPE_ABI = 9, 10, 6

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = (1 << bit for bit in (0, 1, 2, 3, 14, 15))
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = ((1 << 15) - 1) & ~_MAKE_CHAR & ~_MAKE_BLOCK
_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))

_WITHOUT_NAMESPACES = (
    "commands run under Landlock and seccomp, without namespaces: with your groups, they see other processes with "
    "their arguments, the machine's connections (/proc/net), and whether a file is there, its size and times; they can "
    "change modes, times and group of your files, not the contents"
)
_CLOSED = "/dev/shm, terminals and /tmp itself are closed: tests that need them fail"  # noqa: S108 (a text)
_GIT = "a change of .git is undone after the command, not refused"
_NO_SCOPE = "this kernel (Landlock below ABI 6) lets commands send signals to your other processes"
_OPEN_NETWORK = "the network is open, so commands reach the servers on localhost as well"


@dataclass(frozen=True, slots=True)
class Handled:
    """What a ruleset refuses where no rule allows it: the fields of struct landlock_ruleset_attr, and their size."""

    files: int
    network: int
    scopes: int
    size: int


def handled(abi: int, *, network: bool) -> Handled:
    """Return all that an ABI can refuse; of the network nothing where it is open."""
    most = max((size for least, size in _SIZES if abi >= least), default=0)
    return Handled(
        _known(_FILE_RIGHTS, abi), 0 if network else _known(_NETWORK_RIGHTS, abi), _known(_SCOPES, abi), most
    )


def _known(rights: Sequence[tuple[int, int]], abi: int) -> int:
    return sum(bits for least, bits in rights if abi >= least)


def weaknesses(abi: int, toolchains: Toolchains, *, network: bool) -> Iterator[str]:
    """Yield in words what bubblewrap holds, or shows, and Landlock of this ABI does not."""
    yield _WITHOUT_NAMESPACES
    yield _sockets(abi, network)
    yield _CLOSED
    yield _GIT
    if abi < SCOPE_ABI:
        yield _NO_SCOPE
    if toolchains.masked:
        yield "folders above secrets can't be listed, and what is made in them meanwhile is not seen"
    if toolchains.dependencies:
        names = ", ".join(name for name, _ in toolchains.dependencies)
        yield f"{names} can be read at the repository's own path, but is not in the worktree"


def _sockets(abi: int, network: bool) -> str:
    """Say what becomes of sockets: where Landlock can't tell good from bad ones, the filter refuses all."""
    if network:
        unix = f"; Unix sockets are closed: this kernel's Landlock (ABI {abi}) can't hold those by path"
        return _OPEN_NETWORK + (unix if abi < UNIX_ABI else "")
    closed = "all sockets but pairs" if abi < UNIX_ABI else "sockets but Unix ones of the command's own"
    missing = [f"Unix sockets by path (ABI {UNIX_ABI})"] if abi < UNIX_ABI else []
    missing += [f"UDP (ABI {UDP_ABI})"] if abi < UDP_ABI else []
    what = " and ".join(missing)
    why = f": this kernel's Landlock (ABI {abi}) can't hold {what}, so the filter does" if missing else ""
    return f"{closed} are closed (localhost's too){why}; tests that need them fail"


def system_rules(policy: Policy, toolchains: Toolchains) -> Iterator[tuple[Path, int]]:
    """Yield what every command may use, wherever it runs."""
    for path in (*layout.system_paths(network=policy.network), Path("/proc")):
        yield path, READ
    for path in _DEVICES:
        yield path, _DEVICE
    for paths, rights in ((toolchains.readable, READ), (toolchains.writable, WRITE)):
        for path in paths:
            yield from ((part, rights) for part in _without(path, toolchains.masked))
    for _, path in toolchains.dependencies:
        yield path, READ


def _without(path: Path, masked: Sequence[Path]) -> Iterator[Path]:
    """Yield the path, or where secrets lie below it all that lies beside them: a rule can't be narrowed again."""
    if path in masked:
        return
    if not any(secret.is_relative_to(path) for secret in masked):
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except OSError:
        return
    for child in children:
        if not child.is_symlink():
            yield from _without(child, masked)


def kernel_limits(limits: Limits) -> list[tuple[int, int]]:
    """Return rows for setrlimit(2)."""
    # The kernel counts all of the user's processes, so those of today are added; it counts none of root's.
    most = limits.processes + (_threads_at(int(time.monotonic())) if os.geteuid() else 0)
    return [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, limits.file_bytes), (resource.RLIMIT_NPROC, most)]


@lru_cache(maxsize=1)
def _threads_at(_second: int) -> int:
    """Return the user's threads, counted once a second: of five hundred processes it takes ten milliseconds."""
    return threads_of_user()
