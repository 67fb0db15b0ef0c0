"""A process that confines itself by Landlock and seccomp, runs one command, and ends all that the command started.

`fork_server` forks it. It imports nothing of miyabi's. It stays as the parent of all that the command starts, in a
domain of its own around theirs: they can't signal it, and one signal of its ends all of them at one stroke, however
fast they fork.

On its control socket it is sent a plan: its length in four bytes, then `landlock.Landlock._plan` marshalled. It answers
in lines: `started PID`, then `running` or `failed WHY`, then `ended CODE`. The other end closed, it ends the command.
Formats: linux/landlock.h, linux/capability.h, linux/prctl.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import marshal
import os
import resource
import select
import signal
import stat
import sys
import time
from typing import Any, NoReturn

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
SCOPE_SIGNAL = 2
_REFER = 1 << 13  # to link or move a file to another folder
FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # what a rule on a file may name

_PDEATHSIG, _CAPBSET_READ, _CAPBSET_DROP, _SUBREAPER, _NO_NEW_PRIVS, _SECCOMP = 1, 23, 24, 36, 38, 22
_CAPABILITY_VERSION = 0x20080522
_AMBIENT, _AMBIENT_CLEAR = 47, 4
_KILLED = 128 + signal.SIGKILL
_EXPENDABLE = b"500"  # of 1000: where memory runs out the kernel takes a command before its keeper

_libc = ctypes.CDLL(None, use_errno=True)


def run(control: int) -> NoReturn:
    """Run the plan that is sent, and exit; the descriptors 1 and 2 are the command's output."""
    try:
        plan = _received(control)
        _tell(control, f"started {os.getpid()}")
        changes = children_changed()
        _confine_around(plan)
        rules = _ruleset(plan)
        command = os.fork()
        if command == 0:
            _become(plan, rules, control)
    except BaseException as error:
        _tell(control, f"failed {error}")
        os._exit(1)
    os.close(rules)
    code = _wait(command, control, changes)
    _end_all(plan["scoped"])
    _tell(control, f"ended {code}")
    os._exit(0)


def landlock_version() -> int:
    """Return the version of Landlock's interface, negative where there is none."""
    return int(_libc.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), 1))


def give_up_rights() -> None:
    """Leave no capability, and none to gain: not by exec as root either. Become the one that orphans fall to."""
    _prctl(_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, held))
    if held[1] or held[4] or os.geteuid() == 0:
        number = 0
        while (known := _libc.prctl(_CAPBSET_READ, number, 0, 0, 0)) >= 0:
            if known:
                _prctl(_CAPBSET_DROP, number)
            number += 1
    _prctl(_AMBIENT, _AMBIENT_CLEAR)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()))
    _prctl(_SUBREAPER, 1)


def children_changed() -> int:
    """Return a descriptor that can be read once a child has ended since it was read last."""
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _do_nothing)
    return read_end


def _do_nothing(_number: int, _frame: object) -> None:
    """Stand for a handler: without one nothing is written to the descriptor."""


def children() -> list[int]:
    """Return the pids of this process's children."""
    own = str(os.getpid()).encode()
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 (names alone)
        try:
            with open(f"/proc/{name}/stat", "rb", 0) as file:
                text = file.read(4096)
        except OSError:
            continue
        if text[text.rfind(b")") + 2 :].split()[1] == own:
            found.append(int(name))
    return found


def kill(pid: int) -> None:
    """Kill a process, which may have ended, or all of this process's domain for -1."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _received(control: int) -> dict[str, Any]:
    length = int.from_bytes(_read(control, 4), "little")
    plan: dict[str, Any] = marshal.loads(_read(control, length))  # noqa: S302 (our own parent wrote it)
    return plan


def _read(control: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(control, length)
        if not part:
            os._exit(0)  # nobody waits for the command any more
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _confine_around(plan: dict[str, Any]) -> None:
    """Put this process where its signals reach the command alone, and where what it starts is counted."""
    if plan["group"]:
        _write(plan["group"], b"%d" % os.getpid())
    if plan["scoped"] & SCOPE_SIGNAL:
        attributes = (ctypes.c_uint64 * 3)(_REFER, 0, SCOPE_SIGNAL)
        ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(24), 0)
        _allow(ruleset, os.open(b"/", os.O_PATH | os.O_CLOEXEC), _REFER)  # refused by each ruleset that names it not
        _call(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
        _check_scope()
    _prctl(_SUBREAPER, 1)


def _check_scope() -> None:
    """Make sure that a signal of ours can't leave: `_end_all` sends one to every process that it can reach."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise RuntimeError("Landlock does not hold signals back")


def _ruleset(plan: dict[str, Any]) -> int:
    """Return a ruleset that allows what the plan lists, and nothing else of what this kernel can refuse."""
    attributes = (ctypes.c_uint64 * 3)(plan["handled"], plan["handled_network"], plan["scoped"])
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(plan["attribute_bytes"]), 0)
    for path, rights, is_needed in plan["rules"]:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            if is_needed:
                raise
            continue
        is_folder = stat.S_ISDIR(os.fstat(folder).st_mode)
        allowed = rights & plan["handled"] & (-1 if is_folder else FILE_RIGHTS)
        _allow(ruleset, folder, allowed)
    return ruleset


def _allow(ruleset: int, folder: int, rights: int) -> None:
    """Add a rule for what an open path leads to, and close it."""
    rule = rights.to_bytes(8, sys.byteorder) + folder.to_bytes(4, sys.byteorder)  # packed: 12 bytes
    _call(ADD_RULE, ruleset, 1, rule, 0)
    os.close(folder)


def _become(plan: dict[str, Any], rules: int, control: int) -> NoReturn:
    """Confine this process and become the command."""
    try:
        _write(b"/proc/self/oom_score_adj", _EXPENDABLE, is_needed=False)
        for number, most in plan["limits"]:
            _, hard = resource.getrlimit(number)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(number, (most, most))
        if plan["nice"]:
            os.nice(plan["nice"])
        _prctl(_PDEATHSIG, signal.SIGKILL)
        os.chdir(plan["folder"])
        _call(RESTRICT_SELF, rules, 0)
        _filter(plan["filter"])
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    except BaseException as error:
        _tell(control, f"failed {error}")
        os._exit(1)
    _tell(control, "running")
    argv = plan["argv"]
    try:
        os.execvpe(argv[0], argv, plan["environment"])  # noqa: S606 (no shell is meant)
    except OSError as error:
        os.write(2, argv[0] + b": " + (error.strerror or "").encode() + b"\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    except ValueError as error:
        os.write(2, f"not a command: {error}\n".encode())
        os._exit(126)


def _filter(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    held = Program(len(program) // 8, ctypes.addressof(code))
    _check(_libc.prctl(_SECCOMP, 2, ctypes.byref(held), 0, 0))


def _wait(command: int, control: int, changes: int) -> int:
    """Reap until the command ends or nobody waits for it any more; return an exit code as a shell shows it."""
    poll = select.poll()
    for descriptor in (control, changes):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if changes in ready:
            os.read(changes, 4096)
            while (ended := _reaped())[0]:
                if ended[0] == command:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return 128 - code if code < 0 else code
        if control in ready:
            return _KILLED


def _reaped() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _end_all(scoped: int) -> None:
    """Kill all that is left of the command, and return when it has gone."""
    while True:
        for pid in (-1,) if scoped & SCOPE_SIGNAL else children():  # -1 reaches this domain alone: `_check_scope`
            kill(pid)  # theirs become ours
        try:
            while os.waitpid(-1, 0 if scoped & SCOPE_SIGNAL else os.WNOHANG)[0]:
                pass
            time.sleep(0.001)
        except ChildProcessError:
            return


def _write(path: bytes, data: bytes, *, is_needed: bool = True) -> None:
    try:
        with open(path, "wb", 0) as file:
            file.write(data)
    except OSError:
        if is_needed:
            raise


def _call(number: int, *arguments: Any) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _tell(control: int, what: str) -> None:
    """Say something to the one that waits, who may have gone."""
    with contextlib.suppress(OSError):
        os.write(control, what.replace("\n", " ")[:1000].encode(errors="replace") + b"\n")
