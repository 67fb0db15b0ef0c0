"""The file system that a sandboxed command sees, as arguments of bwrap(1): a minimal root, then what a place needs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.mounts import Toolchains
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.private_paths import is_below

_Mount = tuple[Path, list[str]]  # where, and the arguments that put it there

HOME = Path("/run/miyabi/home")

_MEMORY_FILES = 1 << 30  # bytes that each folder in memory may hold
_TEMPORARY = Path("/tmp")  # noqa: S108 (private to the sandbox)
_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

# Of /etc only what names users and hosts, finds libraries and checks certificates; /etc/ssl/private is not among it.
_ETC = (
    *("alternatives", "localtime", "ld.so.conf.d", "ssl/certs", "ssl/cert.pem"),
    *("pki/tls/certs", "pki/ca-trust/extracted"),
)
# Small files are copied: each mount costs a tenth of a millisecond, a copy a tenth of that.
_ETC_COPIED = (
    *("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.preload"),
    *("os-release", "debian_version"),  # pip looks there, and fails where it may not
    *("ld-musl-x86_64.path", "ld-musl-aarch64.path", "ssl/openssl.cnf", "pki/tls/openssl.cnf"),
)

# Root's own id writes files here without any capability; bubblewrap 0.8 and 0.11 leave /proc/sys writable then.
_PROC_OF_ROOT = ("sys", "sysrq-trigger", "acpi", "scsi")


def system_arguments(*, network: bool, is_root: bool) -> list[str]:
    """Return what every command needs: namespaces, no capability, /usr, parts of /etc, /dev, /proc."""
    arguments = ["--unshare-all", *(["--share-net"] if network else []), "--die-with-parent", "--new-session"]
    arguments += ["--cap-drop", "ALL", *_bind("/usr")]
    for name in _SYSTEM_FOLDERS:
        arguments += _system_folder(Path("/", name))
    for name in _ETC:
        arguments += _system_folder(Path("/etc", name))
    arguments += ["--dev", "/dev", *_in_memory(Path("/dev/shm")), "--proc", "/proc"]  # noqa: S108
    for name in _PROC_OF_ROOT if is_root else ():
        if Path("/proc", name).exists():
            arguments += _bind(f"/proc/{name}")
    return arguments


def copied_files(*, network: bool) -> tuple[Path, ...]:
    """Return the files that every command sees a copy of."""
    names = (*_ETC_COPIED, *(["resolv.conf"] if network else []))
    return tuple(path for path in (Path("/etc", name) for name in names) if path.is_file())


def system_paths(*, network: bool) -> tuple[Path, ...]:
    """Return what every command may read of the system, for a sandbox without mounts; /dev and /proc come apart."""
    folders = (Path("/", name) for name in _SYSTEM_FOLDERS)
    parts = (Path("/etc", name) for name in _ETC)
    return tuple(path for path in (Path("/usr"), *folders, *parts, *copied_files(network=network)) if path.exists())


@dataclass(frozen=True, slots=True)
class View:
    """What a place looks like: the arguments, and the folders of its scratch that must not be links by then."""

    arguments: tuple[str, ...]
    guarded: tuple[Path, ...]


def view_place(place: Place, toolchains: Toolchains, dependencies: Sequence[tuple[str, Path]]) -> View:
    """Return the mounts of a place, outer ones first, and last what makes the rest read-only.

    Raises SandboxError for a repository at a path that can't be covered.
    """
    if place.inside in map(Path, ("/", "/usr", "/proc", "/dev", "/sys", "/etc", "/run")):
        raise SandboxError(f"a repository at {place.inside} can't be shown in a sandbox", hint="use --sandbox off")
    mounts = [*_toolchain_mounts(toolchains), *_place_mounts(place, dependencies)]
    first = sorted({Path(*path.parts[:3]) for path, _ in mounts if path != _TEMPORARY and is_below(path, {_TEMPORARY})})
    mounts += _private_mounts(place)
    if place.scratch is not None:
        mounts += _shields(first, {path for path, _ in mounts})
    mounts.sort(key=lambda mount: mount[0].parts)  # stable: of two at one path the later is on top
    arguments = [argument for _, arguments in mounts for argument in arguments]
    guarded = tuple(place.scratch / "tmp" / path.name for path in first) if place.scratch else ()
    return View((*arguments, "--remount-ro", "/", "--remount-ro", "/dev"), guarded)


def _place_mounts(place: Place, dependencies: Sequence[tuple[str, Path]]) -> Iterator[_Mount]:
    yield place.inside, ["--bind", str(place.tree), str(place.inside)]
    yield from ((place.inside / below, _bind(real, place.inside / below)) for below, real in dependencies)
    git = place.inside / ".git"
    if has_git(place) and all(inside != git for _, inside in (*place.readable, *place.writable)):
        yield git, _bind(place.tree / ".git", git)
    yield from ((inside, _bind(host, inside)) for host, inside in place.readable)
    yield from ((inside, ["--bind", str(host), str(inside)]) for host, inside in place.writable)


def has_git(place: Place) -> bool:
    """Say whether the tree has a `.git` of its own, which is then shown read-only."""
    return os.path.lexists(place.tree / ".git")


def missing_dependencies(place: Place, toolchains: Toolchains) -> tuple[tuple[str, Path], ...]:
    """Return those of the checkout's dependency folders that the tree lacks, and that can be mounted into it safely.

    The tree is the agent's: a folder on the way that became a link would lead the mount elsewhere.
    """
    return tuple(pair for pair in toolchains.dependencies if _can_mount(place.tree, Path(pair[0])))


def prepare_scratch(place: Place, view: View) -> None:
    """Make the folders of a place's scratch folder, and take away what an agent put where a mount must go."""
    if place.scratch is None:
        return
    for name in ("home", "tmp"):
        (place.scratch / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in view.guarded:
        if os.path.lexists(path) and not _is_plain_folder(path):
            path.unlink()


def _bind(host: Path | str, inside: Path | str | None = None) -> list[str]:
    return ["--ro-bind", str(host), str(inside or host)]


def _in_memory(path: Path) -> list[str]:
    return ["--perms", "1777", "--size", str(_MEMORY_FILES), "--tmpfs", str(path)]


def _system_folder(path: Path) -> list[str]:
    """Show a folder or file of the system; a link into /usr stays a link."""
    if path.is_symlink():
        target = os.readlink(path)  # noqa: PTH115
        if (path.parent / target).resolve().is_relative_to("/usr"):
            return ["--symlink", target, str(path)]
    return _bind(path) if path.exists() else []


def _private_mounts(place: Place) -> list[_Mount]:
    if place.scratch is None:
        return [(path, _in_memory(path)) for path in (_TEMPORARY, HOME)]
    return [
        (_TEMPORARY, ["--bind", str(place.scratch / "tmp"), str(_TEMPORARY)]),
        (HOME, ["--bind", str(place.scratch / "home"), str(HOME)]),
    ]


def _toolchain_mounts(toolchains: Toolchains) -> Iterator[_Mount]:
    yield from ((path, _bind(path)) for path in toolchains.readable)
    yield from ((path, ["--bind", str(path), str(path)]) for path in toolchains.writable)
    yield from ((path, ["--symlink", str(real), str(path)]) for path, real in toolchains.links)
    yield from ((path, _cover(path)) for path in toolchains.masked)


def _cover(path: Path) -> list[str]:
    """Hide a secret: an empty folder over a folder; over a file the null device, which can't be opened there."""
    if path.is_dir():
        return ["--perms", "0000", "--tmpfs", str(path), "--remount-ro", str(path)]
    return _bind(os.devnull, path)


def _shields(first: Sequence[Path], mounted: Set[Path]) -> list[_Mount]:
    """Return folders in memory over those first folders below /tmp on the way to a mount that lies deeper.

    /tmp outlasts a command. In it a folder on the way to a mount could be replaced by a link before the next command;
    a folder that is a mount itself can't.
    """
    return [(path, _in_memory(path)) for path in first if path not in mounted]


def _can_mount(tree: Path, below: Path) -> bool:
    path = tree
    for part in below.parts[:-1]:
        path /= part
        if not _is_plain_folder(path):
            return False
    path /= below.parts[-1]
    return not os.path.lexists(path) or (_is_plain_folder(path) and next(path.iterdir(), None) is None)


def _is_plain_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
