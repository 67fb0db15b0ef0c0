"""The files of one tree, reached only by paths that can't lead out of it, whatever a model or the tree's links say."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NoReturn

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.beneath import Opener, best_opener, replace_file

READ_LIMIT = 10_000_000
NAME_LIMIT = 255
PATH_LIMIT = 4095

Kind = Literal["file", "directory", "link", "other"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
# O_NONBLOCK: opening a FIFO must not wait for its writer. O_NOCTTY: a terminal must not become ours.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
# What HFS+ leaves out of a name, and the ways in which NTFS writes .git: utf8.c and path.c of git.
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DOT_GIT_ON_NTFS = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class PathRefused(RepositoryError):
    """A path that is not allowed, or a thing there that is not a file to read or write."""

    kind = "path_refused"


class PathMissing(PathRefused):
    """Nothing is there."""

    kind = "path_missing"


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies at a path: `size` in bytes, `mode` the permission bits; of a link itself, not of its target."""

    name: str
    kind: Kind
    size: int
    mode: int


class Root:
    """Access to what lies beneath `path`.

    `aliases` are other names of that directory (its path inside a sandbox): absolute paths below any of them are
    accepted. Reading follows links that stay beneath; writing follows none, for the change would then be to another
    file than the one that was named. Nothing named `.git`, in any disguise, is touched.
    """

    def __init__(self, path: Path, aliases: Sequence[Path] = (), *, opener: Opener | None = None) -> None:
        self.path = path.absolute()
        self._names = tuple(dict.fromkeys((self.path, self.path.resolve(), *aliases)))
        self._open = opener or best_opener()

    def relative(self, path: str) -> PurePosixPath:
        """Return a path relative to the root, `.` for the root itself. Raises PathRefused; looks at no file."""
        if control := _CONTROL.search(path):
            raise PathRefused(f"{path[:80]!r} has a character that no path may have: {control[0]!r}")
        pure = PurePosixPath(path)
        if pure.is_absolute():
            # PurePosixPath keeps two leading slashes, which POSIX lets mean something else.
            pure = PurePosixPath("/" + path.lstrip("/"))
            base = next((name for name in self._names if pure.is_relative_to(name)), None)
            if base is None:
                raise PathRefused(
                    f"{path[:200]} is outside of the repository", hint="give paths relative to the repository's root"
                )
            pure = pure.relative_to(base)
        for part in pure.parts:
            _check_name(part, path)
        if len(os.fsencode(pure)) > PATH_LIMIT:
            raise PathRefused(f"{path[:80]}… is longer than the {PATH_LIMIT} bytes that a path may have")
        return pure

    def status(self, path: str) -> Entry | None:
        """Say what lies at a path, without following a link there; None where there is nothing."""
        relative = self.relative(path)
        try:
            with self._parent(relative) as (directory, name):
                return _entry(name, os.stat(name, dir_fd=directory, follow_symlinks=False))
        except (PathMissing, FileNotFoundError):
            return None

    def exists(self, path: str) -> bool:
        """Say whether anything lies at a path."""
        return self.status(path) is not None

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return a regular file's bytes. Raises PathMissing; PathRefused for what is no file or above `limit` bytes."""
        relative = self.relative(path)
        with self._opened(relative, _READ) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PathRefused(f"{relative} is {_what(status.st_mode)}, not a file")
            if status.st_size > limit:
                raise PathRefused(f"{relative} has {status.st_size:,} bytes; the most that is read is {limit:,}")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read(limit + 1)
        if len(data) > limit:
            raise PathRefused(f"{relative} grew past {limit:,} bytes while it was read")
        return data

    def list(self, path: str = "") -> tuple[Entry, ...]:
        """Return a directory's entries by name, without `.git`."""
        relative = self.relative(path)
        with self._opened(relative, _READ | os.O_DIRECTORY) as descriptor, os.scandir(descriptor) as entries:
            found = [_listed(entry) for entry in entries if not is_dot_git(entry.name)]
        return tuple(sorted((entry for entry in found if entry), key=lambda entry: entry.name))

    def write(self, path: str, data: bytes, mode: int | None = None) -> None:
        """Put a file in place whole or not at all, with the directories that it needs.

        `mode`: the permission bits; None keeps those of the file that is there. Raises PathRefused where something
        else than a file is there, and MachineError where the disk does not take it.
        """
        relative = self.relative(path)
        with self._parent(relative, make=True) as (directory, name):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                _refuse_all_but_files(relative, status.st_mode, directory)
                mode = status.st_mode & 0o777 if mode is None else mode
            try:
                replace_file(directory, name, data, mode)
            except OSError as error:
                raise MachineError(f"can't write {relative}: {error.strerror}") from None

    def delete(self, path: str) -> None:
        """Remove a file. Raises PathMissing, and PathRefused for anything else than a file."""
        relative = self.relative(path)
        with self._parent(relative) as (directory, name):
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                _refuse_all_but_files(relative, status.st_mode, directory)
                os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                raise PathMissing(f"{relative} does not exist") from None
            except OSError as error:
                raise MachineError(f"can't delete {relative}: {error.strerror}") from None

    @contextmanager
    def _parent(self, relative: PurePosixPath, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the directory that holds a path, following no link; with `make`, make it."""
        with self._top() as top:
            if relative == PurePosixPath("."):
                yield top, "."
                return
            if make:
                self._make(top, relative.parent)
            try:
                directory = self._open(top, relative.parent, _DIRECTORY, False)
            except OSError as error:
                self._refuse(top, relative.parent, error)
            try:
                yield directory, relative.name
            finally:
                os.close(directory)

    def _make(self, top: int, path: PurePosixPath) -> None:
        for part in reversed((path, *path.parents)):
            if not part.parts:
                continue
            try:
                os.close(self._open(top, part, _DIRECTORY, False))
            except FileNotFoundError:
                self._make_one(top, part)
            except OSError as error:
                self._refuse(top, part, error)

    def _make_one(self, top: int, path: PurePosixPath) -> None:
        parent = self._open(top, path.parent, _DIRECTORY, False)
        try:
            with suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=parent)
        except OSError as error:
            raise MachineError(f"can't make the directory {path}: {error.strerror}") from None
        finally:
            os.close(parent)

    @contextmanager
    def _opened(self, relative: PurePosixPath, flags: int) -> Iterator[int]:
        with self._top() as top:
            try:
                descriptor = self._open(top, relative, flags, False)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    self._refuse(top, relative, error)
                descriptor = self._open_linked(top, relative, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_linked(self, top: int, relative: PurePosixPath, flags: int) -> int:
        """Open through links that stay beneath, and look that they did not lead into `.git`."""
        try:
            descriptor = self._open(top, relative, flags, True)
        except OSError as error:
            self._refuse(top, relative, error)
        try:
            base, real = (Path(f"/proc/self/fd/{number}").readlink() for number in (top, descriptor))
            parts = real.relative_to(base).parts
        except (OSError, ValueError):
            parts = (".git",)  # can't be told, so it is taken for the worst
        if any(is_dot_git(part) for part in parts):
            os.close(descriptor)
            raise PathRefused(f"{relative} is a link to what can't be read here")
        return descriptor

    @contextmanager
    def _top(self) -> Iterator[int]:
        try:
            top = os.open(self.path, _DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RepositoryError(f"can't open {self.path}: {error.strerror}") from None
        try:
            yield top
        finally:
            os.close(top)

    def _refuse(self, top: int, relative: PurePosixPath, error: OSError) -> NoReturn:
        """Turn the kernel's refusal to open a path into one that can be understood."""
        if error.errno == errno.ENOENT:
            raise PathMissing(f"{relative} does not exist") from None
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise PathRefused(f"{relative} leads through a symbolic link{self._link_in(top, relative)}") from None
        if error.errno == errno.ENOTDIR:
            raise PathRefused(f"{relative} is not a directory, or a part of it is not") from None
        raise PathRefused(f"can't open {relative}: {error.strerror}") from None

    def _link_in(self, top: int, relative: PurePosixPath) -> str:
        """Name the first link on a path, for the message alone."""
        for part in reversed((relative, *relative.parents)):
            with suppress(OSError):
                return f" ({part} -> {os.readlink(part, dir_fd=top)})"
        return ""


def is_dot_git(name: str) -> bool:
    """Say whether any file system takes a name for `.git`, as git's own fsck asks (HFS+, NTFS, any case)."""
    plain = unicodedata.normalize("NFKC", _IGNORED_BY_HFS.sub("", name)).casefold()
    return any(_DOT_GIT_ON_NTFS.fullmatch(part) for part in (*name.split("\\"), *plain.split("\\")))


def _check_name(name: str, path: str) -> None:
    if name == "..":
        raise PathRefused(f"{path[:200]} has `..` in it", hint="give paths relative to the repository's root")
    if is_dot_git(name):
        raise PathRefused(f"{path[:200]} is git's own, and can't be read or written here")
    if len(os.fsencode(name)) > NAME_LIMIT:
        raise PathRefused(f"{name[:80]}… is longer than the {NAME_LIMIT} bytes that a name may have")


def _entry(name: str, status: os.stat_result) -> Entry:
    return Entry(name, _kind(status.st_mode), status.st_size, status.st_mode & 0o777)


def _listed(entry: os.DirEntry[str]) -> Entry | None:
    try:
        return _entry(entry.name, entry.stat(follow_symlinks=False))
    except OSError:  # it is gone since
        return None


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def _what(mode: int) -> str:
    words = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO"}
    return words.get(stat.S_IFMT(mode), "a device or socket")


def _refuse_all_but_files(relative: PurePosixPath, mode: int, directory: int) -> None:
    if stat.S_ISLNK(mode):
        target = os.readlink(relative.name, dir_fd=directory)
        raise PathRefused(
            f"{relative} is a symbolic link to {target}", hint="change the file that it points to by its own path"
        )
    if not stat.S_ISREG(mode):
        raise PathRefused(f"{relative} is {_what(mode)}, not a file")
