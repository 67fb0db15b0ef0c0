"""A seccomp filter for commands: a classic BPF program, assembled here so that no library is needed.

It denies what a test suite has no use for and an attack does: other processes' memory, namespaces, mounts, keys,
io_uring, kernel modules, clocks, and the ioctls that type into the terminal. Format: linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; arguments take 8 bytes each

_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TERMINAL_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_SOCKET_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: all live in the network namespace; vsock does not
_UNIX_FAMILIES = (1,)
_INTERNET_FAMILIES = (2, 10, 16)
_DATAGRAM_TYPES = 2  # the bit of SOCK_DGRAM, and of SOCK_RAW, which is the same for local sockets
_SHARED_MODES = 0o6002  # set-user-id, set-group-id, writable by all
_X32 = 0x40000000

# name: (x86_64, aarch64); None where the machine has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "_sysctl": (156, None),
}

# What namespaces keep apart: memory, semaphores and queues that others made, and attributes (access lists among them)
# of files, which no rule on paths holds back.
_DENIED_WITHOUT_NAMESPACES: dict[str, tuple[int | None, int | None]] = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "fanotify_init": (300, 262),
}
_ATTRIBUTES: dict[str, tuple[int | None, int | None]] = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
}
_MODES: dict[str, tuple[int | None, int | None, int]] = {  # and which argument is the mode
    "chmod": (90, None, 1),
    "fchmod": (91, 52, 1),
    "fchmodat": (268, 53, 2),
    "fchmodat2": (452, 452, 2),
}


@dataclass(frozen=True, slots=True)
class _Machine:
    column: int
    audit: int  # AUDIT_ARCH_* of linux/audit.h
    clone: int
    clone3: int
    unshare: int
    ioctl: int
    socket: int
    socketpair: int
    kill: int
    prlimit: int


_MACHINES = {
    "x86_64": _Machine(
        0, 0xC000003E, clone=56, clone3=435, unshare=272, ioctl=16, socket=41, socketpair=53, kill=62, prlimit=302
    ),
    "aarch64": _Machine(
        1, 0xC00000B7, clone=220, clone3=435, unshare=97, ioctl=29, socket=198, socketpair=199, kill=129, prlimit=261
    ),
}


def seccomp_program(
    machine: str | None = None, *, is_shared: bool = False, network: bool = False, unix: bool = False
) -> bytes | None:
    """Return the filter as an array of struct sock_filter, or None for a machine that has no table here.

    `machine` is as `platform.machine()` says it; None means this one. `is_shared`: the command has no namespaces of its
    own, so that more is denied; all sockets but pairs too, and but the internet's with `network`, the local ones with
    `unix`.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    families = (*(_UNIX_FAMILIES if unix else ()), *(_INTERNET_FAMILIES if network else ()))
    parts = [
        _only_architecture(known.audit),
        _instruction(_LOAD_WORD, _NUMBER),
        _without_x32() if known.column == 0 else b"",
        *(_deny(numbers[known.column], errno.EPERM) for numbers in _DENIED.values()),
        _deny(known.clone3, errno.ENOSYS),  # its flags lie in memory that a filter can't read; libc falls back to clone
        *(_deny_bits(number, 0, _NEW_NAMESPACES) for number in (known.clone, known.unshare)),
        _deny_values(known.ioctl, 1, _TERMINAL_IOCTLS),
        *(_without_namespaces(known, families) if is_shared else _with_namespaces(known)),
        _instruction(_RETURN, ALLOW),
    ]
    return b"".join(parts)


def _with_namespaces(known: _Machine) -> list[bytes]:
    return [_allow_values(number, 0, _SOCKET_FAMILIES) for number in (known.socket, known.socketpair)]


def _without_namespaces(known: _Machine, families: Sequence[int]) -> list[bytes]:
    modes = [(numbers[known.column], argument) for *numbers, argument in _MODES.values()]
    return [
        *(_deny(numbers[known.column], errno.EPERM) for numbers in _DENIED_WITHOUT_NAMESPACES.values()),
        *(_deny(numbers[known.column], errno.EOPNOTSUPP) for numbers in _ATTRIBUTES.values()),
        *(_deny_bits(number, argument, _SHARED_MODES) for number, argument in modes if number is not None),
        _deny_values(known.kill, 0, (0xFFFFFFFF,)),  # all that one may signal
        _deny_unless_zero(known.prlimit, 0),  # another process's limits
        _allow_values(known.socket, 0, families),
        _unix_pairs(known.socketpair, datagrams=1 in families),
    ]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _only_architecture(audit: int) -> bytes:
    load = _instruction(_LOAD_WORD, _ARCHITECTURE)
    return load + _instruction(_JUMP_EQUAL, audit, 1, 0) + _instruction(_RETURN, KILL_PROCESS)


def _without_x32() -> bytes:
    return _instruction(_JUMP_AT_LEAST, _X32, 0, 1) + _refuse(errno.EPERM)


def _deny(number: int | None, error: int) -> bytes:
    return b"" if number is None else _for_call(number, _refuse(error))


def _for_call(number: int, body: bytes) -> bytes:
    """Run `body`, which ends in a return, for one system call only."""
    return _instruction(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _load_argument(index: int) -> bytes:
    return _instruction(_LOAD_WORD, _FIRST_ARGUMENT + 8 * index)  # the low half: the kernel reads an int here


def _deny_bits(number: int, argument: int, mask: int) -> bytes:
    test = _instruction(_JUMP_ANY_BIT, mask, 0, 1) + _refuse(errno.EPERM)
    return _for_call(number, _load_argument(argument) + test + _instruction(_RETURN, ALLOW))


def _deny_unless_zero(number: int, argument: int) -> bytes:
    body = _load_argument(argument) + _instruction(_JUMP_EQUAL, 0, 1, 0) + _refuse(errno.EPERM)
    return _for_call(number, body + _instruction(_RETURN, ALLOW))


def _unix_pairs(number: int, *, datagrams: bool) -> bytes:
    """Allow pairs of local sockets; those of datagrams, which send to any path as well, only where that is held."""
    refused = _instruction(_JUMP_ANY_BIT, _DATAGRAM_TYPES, 0, 1) + _refuse(errno.EPERM)
    test = b"" if datagrams else _load_argument(1) + refused
    return _for_call(number, test + _only_values(0, _UNIX_FAMILIES))


def _deny_values(number: int, argument: int, values: Sequence[int]) -> bytes:
    tests = b"".join(_instruction(_JUMP_EQUAL, value, 0, 1) + _refuse(errno.EPERM) for value in values)
    return _for_call(number, _load_argument(argument) + tests + _instruction(_RETURN, ALLOW))


def _allow_values(number: int, argument: int, values: Sequence[int]) -> bytes:
    return _for_call(number, _only_values(argument, values))


def _only_values(argument: int, values: Sequence[int]) -> bytes:
    allow = _instruction(_RETURN, ALLOW)
    tests = b"".join(_instruction(_JUMP_EQUAL, value, 0, 1) + allow for value in values)
    return _load_argument(argument) + tests + _refuse(errno.EAFNOSUPPORT)
