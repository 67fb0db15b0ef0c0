"""The program that confines itself by Landlock and seccomp and runs one command; its arguments are PLAN and STATUS.

It is a program of its own since nothing may run Python between a fork and an exec where threads are. It imports nothing
of miyabi's. It stays as the parent of all that the command starts, in a domain of its own around theirs: they can't
signal it, and one signal of its ends all of them at one stroke, however fast they fork.

PLAN and STATUS are descriptors: a marshalled `landlock.Plan` to read; "ok" or an error to write. Formats:
linux/landlock.h, linux/capability.h, linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn
else:
    import _signal as signal  # what `signal` wraps: each module more costs a millisecond of every command

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
SCOPE_SIGNAL = 2
FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # what a rule on a file may name

_PDEATHSIG, _CAPBSET_READ, _CAPBSET_DROP, _SUBREAPER, _NO_NEW_PRIVS, _SECCOMP = 1, 23, 24, 36, 38, 22
_CAPABILITY_VERSION = 0x20080522
_AMBIENT, _AMBIENT_CLEAR = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Run the plan; exits as the command does."""
    plan_end, status_end = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(status_end, False)
    with open(plan_end, "rb") as file:
        plan: dict[str, Any] = marshal.load(file)  # noqa: S302 (our own parent wrote it)
    signals = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        _prepare(plan)
        rules = _ruleset(plan)
        command = os.fork()
        if command == 0:
            _become(plan, rules, status_end)
    except BaseException as error:
        _tell(status_end, error)
        os._exit(1)
    os.close(rules)
    os.close(status_end)
    code = _wait(command, signals)
    _end_all(plan["scoped"])
    os._exit(code)


def landlock_version() -> int:
    """Return the version of Landlock's interface, negative where there is none."""
    return int(_libc.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), 1))


def _prepare(plan: dict[str, Any]) -> None:
    """Give up all rights that a child could use, and become the one that orphans fall to."""
    if plan["group"]:
        with open(plan["group"], "w") as file:
            file.write(str(os.getpid()))
    _prctl(_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    if plan["scoped"] & SCOPE_SIGNAL:
        attributes = (ctypes.c_uint64 * 3)(0, 0, SCOPE_SIGNAL)
        ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(24), 0)
        _call(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
        _check_scope()
    _prctl(_SUBREAPER, 1)
    _prctl(_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != plan["parent"]:
        raise RuntimeError("the parent has gone")


def _check_scope() -> None:
    """Make sure that a signal of ours can't leave: `_end_all` sends one to every process that it can reach."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise RuntimeError("Landlock does not hold signals back")


def _drop_capabilities() -> None:
    """Leave no capability, and none to gain: not by exec as root either."""
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


def _ruleset(plan: dict[str, Any]) -> int:
    """Return a ruleset that allows what the plan lists, and nothing else of what this kernel can refuse."""
    attributes = (ctypes.c_uint64 * 3)(plan["handled"], 0, plan["scoped"])
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(24 if plan["scoped"] else 8), 0)
    for path, rights, is_needed in plan["rules"]:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            if is_needed:
                raise
            continue
        is_folder = stat.S_ISDIR(os.fstat(folder).st_mode)
        allowed = rights & plan["handled"] & (-1 if is_folder else FILE_RIGHTS)
        rule = allowed.to_bytes(8, sys.byteorder) + folder.to_bytes(4, sys.byteorder)  # packed: 12 bytes
        _call(ADD_RULE, ruleset, 1, rule, 0)
        os.close(folder)
    return ruleset


def _become(plan: dict[str, Any], rules: int, status_end: int) -> NoReturn:
    """Confine this process and become the command."""
    try:
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
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    except BaseException as error:
        _tell(status_end, error)
        os._exit(1)
    os.write(status_end, b"ok")
    argv = plan["argv"]
    try:
        os.execvpe(argv[0], argv, plan["environment"])  # noqa: S606 (no shell is meant)
    except OSError as error:
        os.write(2, argv[0] + b": " + (error.strerror or "").encode() + b"\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    except ValueError as error:
        os.write(2, f"not a command: {error}\n".encode())
        os._exit(126)


def _filter(program: bytes | None) -> None:
    if program is not None:
        code = ctypes.create_string_buffer(program, len(program))

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

        held = Program(len(program) // 8, ctypes.addressof(code))
        _check(_libc.prctl(_SECCOMP, 2, ctypes.byref(held), 0, 0))


def _wait(command: int, signals: set[signal.Signals]) -> int:
    """Reap until the command ends or this process is asked to; return an exit code as a shell shows it."""
    while signal.sigwait(signals) == signal.SIGCHLD:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                break
            if pid == command:
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code
    return 128 + signal.SIGKILL


def _end_all(scoped: int) -> None:
    """Kill all that is left of the command, and return when it has gone."""
    while True:
        try:
            if scoped & SCOPE_SIGNAL:
                os.kill(-1, signal.SIGKILL)  # reaches this domain alone: `_check_scope`
            else:
                _kill_children()
        except ProcessLookupError:
            pass
        try:
            while os.waitpid(-1, 0 if scoped & SCOPE_SIGNAL else os.WNOHANG)[0]:
                pass
            time.sleep(0.001)
        except ChildProcessError:
            return


def _kill_children() -> None:
    """Kill the children that there are; theirs become ours, and are killed the next time."""
    own = str(os.getpid()).encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 (names alone)
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                text = file.read()
            if text[text.rfind(b")") + 2 :].split()[1] == own:
                os.kill(int(name), signal.SIGKILL)
        except OSError:
            continue


def _call(number: int, *arguments: Any) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _tell(status_end: int, error: BaseException) -> None:
    os.write(status_end, f"{error}"[:1000].encode(errors="replace"))


if __name__ == "__main__":
    main()
