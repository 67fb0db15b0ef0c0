"""What a Landlock domain allows of the system, as rows of path and rights; and the limits that go with it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from miyabi_cli.workspace import layout
from miyabi_cli.workspace.mounts import Toolchains
from miyabi_cli.workspace.policy import Policy
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.watch import threads_of_user

# Rights on files, by the bit of linux/landlock.h; the second number is the ABI that has them all.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE, _IOCTL_DEV = (
    1 << bit for bit in (0, 1, 2, 3, 13, 14, 15)
)
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
RIGHTS_OF_ABI = ((3, (1 << 15) - 1), (5, (1 << 16) - 1))
SCOPES = 3  # abstract Unix sockets, signals
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = ((1 << 15) - 1) & ~_MAKE_CHAR & ~_MAKE_BLOCK
_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))


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
    most = limits.processes + (threads_of_user() if os.geteuid() else 0)
    rows = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, limits.file_bytes), (resource.RLIMIT_NPROC, most)]
    if limits.memory_bytes is not None:
        rows.append((resource.RLIMIT_AS, limits.memory_bytes))
    return rows
