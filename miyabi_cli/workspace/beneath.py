"""Opens and replaces files below a directory so that nothing in it leads astray: openat2(2), or step by step."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import secrets
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import PurePosixPath

Opener = Callable[[int, PurePosixPath, int, bool], int]
"""(directory fd, relative path, open flags, follow symlinks that stay beneath) to a new fd; raises OSError."""

# include/uapi/linux/openat2.h; the number is the same on every architecture but alpha.
_OPENAT2 = 437
_NO_MAGICLINKS = 0x02
_NO_SYMLINKS = 0x04
_BENEATH = 0x08
_RETRIES = 200


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_by_kernel(directory: int, path: PurePosixPath, flags: int, follow: bool) -> int:
    """Open by openat2, whose resolution can't be raced: EXDEV for a path that leads out, ELOOP for a refused link."""
    resolve = _BENEATH | _NO_MAGICLINKS | (0 if follow else _NO_SYMLINKS)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(_RETRIES):
        descriptor: int = _libc().syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        # The kernel asks to try again where something was renamed or mounted while it walked.
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), str(path))


def open_by_steps(directory: int, path: PurePosixPath, flags: int, _follow: bool) -> int:
    """Open one component after the other without following any link, for kernels that lack openat2.

    Links that stay beneath are refused too (ELOOP): to follow them by hand would bring the race back.
    """
    current = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        for part in path.parts[:-1]:
            current, before = _step(current, part, os.O_RDONLY | os.O_DIRECTORY), current
            os.close(before)
        return _step(current, path.parts[-1] if path.parts else ".", flags)
    finally:
        os.close(current)


def _step(directory: int, part: str, flags: int) -> int:
    try:
        return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except NotADirectoryError:
        # With O_DIRECTORY a link and a file give the same error.
        if stat.S_ISLNK(os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from None
        raise


def replace_file(directory: int, name: str, data: bytes, mode: int | None) -> None:
    """Write a new file beside the old one and rename it over it; the old one stays as it was if anything fails.

    `mode`: the permission bits; None leaves them to the umask. A link of that name is replaced and not followed.
    """
    temporary = f".miyabi-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode & 0o777)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


@cache
def best_opener() -> Opener:
    """Return `open_by_kernel` where the kernel has openat2 and no filter forbids it, else `open_by_steps`."""
    if not sys.platform.startswith("linux") or platform.machine() == "alpha":
        return open_by_steps
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_by_kernel(root, PurePosixPath("."), os.O_RDONLY | os.O_DIRECTORY, False))
    except OSError:
        return open_by_steps
    finally:
        os.close(root)
    return open_by_kernel


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
