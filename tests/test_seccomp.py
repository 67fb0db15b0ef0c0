"""The filter of system calls: its program, read by a small interpreter here, and what the kernel makes of it."""

from __future__ import annotations

import errno
import platform
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.workspace import seccomp
from miyabi_cli.workspace.seccomp import ALLOW, KILL_PROCESS, seccomp_program
from tests.support.sandboxes import Bench, make_bench, skip_without_bubblewrap, skip_without_landlock

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = {
    "x86_64": {"read": 0, "clone": 56, "ioctl": 16, "socket": 41, "socketpair": 53, "unshare": 272, "execve": 59},
    "aarch64": {"read": 63, "clone": 220, "ioctl": 29, "socket": 198, "socketpair": 199, "unshare": 97, "execve": 221},
}
MACHINES = pytest.mark.parametrize("machine", sorted(AUDIT))


def refused(error: int) -> int:
    return 0x00050000 | error


def evaluate(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run a classic BPF program as the kernel does: the value that it returns for one system call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return int(operand)
        else:
            holds = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[code]
            position += if_true if holds else if_false


def decide(machine: str, call: int, *arguments: int, **options: bool) -> int:
    program = seccomp_program(machine, **options)
    assert program is not None
    return evaluate(program, AUDIT[machine], call, *arguments)


@MACHINES
def test_ordinary_calls_are_allowed(machine: str) -> None:
    calls = CALLS[machine]
    assert decide(machine, calls["read"]) == decide(machine, calls["execve"]) == ALLOW
    assert decide(machine, calls["clone"], 0x3D0F00) == ALLOW  # a thread
    assert decide(machine, calls["clone"], 17) == ALLOW  # a fork
    assert decide(machine, calls["unshare"], 0x200) == ALLOW  # CLONE_FS
    assert decide(machine, calls["ioctl"], 0, 0x5401) == ALLOW  # TCGETS


@MACHINES
def test_every_denied_call_is(machine: str) -> None:
    column = sorted(AUDIT, reverse=True).index(machine)
    numbers = [numbers[column] for numbers in seccomp._DENIED.values() if numbers[column] is not None]
    assert len(numbers) > 40
    assert {decide(machine, number) for number in numbers if number is not None} == {refused(errno.EPERM)}


@MACHINES
def test_new_namespaces_are_denied(machine: str) -> None:
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(machine, CALLS[machine]["clone"], flag | 17) == refused(errno.EPERM)
        assert decide(machine, CALLS[machine]["unshare"], flag) == refused(errno.EPERM)
    assert decide(machine, 435) == refused(errno.ENOSYS)  # clone3


@MACHINES
def test_typing_into_the_terminal_is_denied_whatever_the_high_half_says(machine: str) -> None:
    for request in (0x5412, 0x541C, 0x1_0000_5412):
        assert decide(machine, CALLS[machine]["ioctl"], 0, request) == refused(errno.EPERM)


@MACHINES
def test_only_sockets_that_the_network_namespace_holds_are_allowed(machine: str) -> None:
    for name in ("socket", "socketpair"):
        allowed = {family for family in range(64) if decide(machine, CALLS[machine][name], family) == ALLOW}
        assert allowed == {1, 2, 10, 16}
        assert decide(machine, CALLS[machine][name], 40) == refused(errno.EAFNOSUPPORT)  # vsock reaches the host


@MACHINES
def test_without_namespaces_there_are_no_sockets_but_pairs_and_the_internets_where_asked(machine: str) -> None:
    calls = CALLS[machine]

    def families(name: str, **options: bool) -> set[int]:
        return {
            family for family in range(64) if decide(machine, calls[name], family, is_shared=True, **options) == ALLOW
        }

    assert families("socket") == set()
    assert families("socket", network=True) == {2, 10, 16}
    assert families("socket", unix=True) == {1}
    assert families("socket", network=True, unix=True) == {1, 2, 10, 16}
    assert families("socketpair", network=True) == families("socketpair") == {1}


@MACHINES
def test_without_namespaces_no_pair_sends_to_a_path_unless_that_is_held(machine: str) -> None:
    """A datagram socket names who is to have each message; SOCK_RAW is one too here, and flags change nothing."""
    pair = CALLS[machine]["socketpair"]
    for kind in (2, 3, 2 | 0x80000, 3 | 0x800):
        for network in (False, True):
            assert decide(machine, pair, 1, kind, is_shared=True, network=network) == refused(errno.EPERM)
        assert decide(machine, pair, 1, kind, is_shared=True, unix=True) == decide(machine, pair, 1, kind) == ALLOW
    for kind in (1, 5, 1 | 0x80800):
        assert decide(machine, pair, 1, kind, is_shared=True) == ALLOW
    assert decide(machine, pair, 2, 1, is_shared=True) == refused(errno.EAFNOSUPPORT)


@MACHINES
def test_without_namespaces_more_is_denied(machine: str) -> None:
    column = sorted(AUDIT, reverse=True).index(machine)
    more = seccomp._DENIED | seccomp._DENIED_WITHOUT_NAMESPACES
    assert {
        decide(machine, number, is_shared=True) for row in more.values() if (number := row[column]) is not None
    } == {refused(errno.EPERM)}
    for row in seccomp._ATTRIBUTES.values():
        assert decide(machine, row[column] or 0, is_shared=True) == refused(errno.EOPNOTSUPP)
    known = seccomp._MACHINES[machine]
    assert decide(machine, known.kill, 0xFFFFFFFF, 9, is_shared=True) == refused(errno.EPERM)
    assert decide(machine, known.kill, 4321, 9, is_shared=True) == ALLOW
    assert decide(machine, known.prlimit, 4321, is_shared=True) == refused(errno.EPERM)
    assert decide(machine, known.prlimit, 0, is_shared=True) == ALLOW
    assert decide(machine, CALLS[machine]["read"], is_shared=True) == ALLOW


@MACHINES
def test_without_namespaces_no_file_is_opened_to_all_or_made_to_run_as_its_owner(machine: str) -> None:
    column = sorted(AUDIT, reverse=True).index(machine)
    for *numbers, argument in seccomp._MODES.values():
        number = numbers[column]
        if number is not None:
            for mode, decision in (
                (0o644, ALLOW),
                (0o755, ALLOW),
                *((bad, refused(errno.EPERM)) for bad in (0o4755, 0o666, 0o2755)),
            ):
                assert decide(machine, number, *[0] * argument, mode, is_shared=True) == decision


@MACHINES
def test_another_architecture_is_killed(machine: str) -> None:
    program = seccomp_program(machine)
    assert program is not None
    assert evaluate(program, 0x40000003, 11) == KILL_PROCESS  # i386


def test_x32_is_denied() -> None:
    assert decide("x86_64", 0x40000000 | 101) == refused(errno.EPERM)


def test_an_unknown_machine_has_no_program() -> None:
    assert seccomp_program("riscv64") is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its header names the numbers of x86_64")
def test_the_numbers_are_those_of_the_system() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    tables = seccomp._DENIED | seccomp._DENIED_WITHOUT_NAMESPACES | seccomp._ATTRIBUTES
    ours = {name: numbers[0] for name, numbers in tables.items() if name in known}
    ours |= {name: row[0] for name, row in seccomp._MODES.items() if name in known}
    machine = seccomp._MACHINES["x86_64"]
    assert (machine.kill, machine.prlimit) == (known["kill"], known["prlimit64"])
    assert len(ours) > 40
    assert ours == {name: known[name] for name in ours}


@pytest.fixture(params=["bubblewrap", "landlock"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    (skip_without_bubblewrap if request.param == "bubblewrap" else skip_without_landlock)(tmp_path)
    return replace(make_bench(tmp_path), kind=request.param)


with_mounts = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)


PROBE = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    print(name, errno.errorcode.get(ctypes.get_errno(), 'ok') if result < 0 else 'ok')
"""


def test_the_kernel_enforces_it(bench: Bench) -> None:
    """Attack A8, and the like: each call is made in earnest."""
    column = sorted(AUDIT, reverse=True).index(platform.machine())
    names = ("ptrace", "io_uring_setup", "keyctl", "bpf", "userfaultfd", "mount", "perf_event_open", "setns", "syslog")
    lines = [f"call({name!r}, {seccomp._DENIED[name][column]}, 0, 0, 0, 0, 0)" for name in names]
    unshare = CALLS[platform.machine()]["unshare"]
    lines += [f"call('user namespace', {unshare}, 0x10000000)", "call('clone3', 435, 0, 0)"]
    outcome = bench.python(PROBE + "\n".join(lines))
    assert outcome.output.splitlines() == [*(f"{name} EPERM" for name in (*names, "user namespace")), "clone3 ENOSYS"]


def test_without_it_they_would_pass(bench: Bench) -> None:
    numbers = seccomp._DENIED["keyctl"], CALLS[platform.machine()]["unshare"]
    column = sorted(AUDIT, reverse=True).index(platform.machine())
    code = f"{PROBE}call('keyctl', {numbers[0][column]}, 0, -3, 0)\ncall('unshare', {numbers[1]}, 0x10000000)"
    outcome = bench.python(code, bench.open("off"))
    assert "keyctl EPERM" not in outcome.output
    assert outcome.output.splitlines()[1] == "unshare ok"


@with_mounts
def test_the_terminal_can_not_be_typed_into(bench: Bench) -> None:
    code = """
import fcntl, os, termios
leader, follower = os.openpty()
for request in (termios.TIOCSTI, 0x541C):
    try: fcntl.ioctl(follower, request, b"x")
    except OSError as error: print(error.strerror)
"""
    assert bench.python(code).output == "Operation not permitted\n" * 2


@with_mounts
def test_what_test_suites_need_works(bench: Bench) -> None:
    code = """
import multiprocessing, os, socket, subprocess, threading, tempfile
def double(number): return 2 * number
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool: print(pool.map(double, [1, 2]))
    thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
    server = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(server.getsockname())
    client.sendall(b"x"); print(server.accept()[0].recv(1))
    one, other = socket.socketpair(); one.send(b"y"); print(other.recv(1))
    with tempfile.TemporaryDirectory() as folder:
        unix = socket.socket(socket.AF_UNIX); unix.bind(folder + "/s"); print(os.listdir(folder))
    leader, follower = os.openpty(); print(os.isatty(follower))
    print(subprocess.run(["true"]).returncode, len(os.sched_getaffinity(0)) > 0)
"""
    (bench.place.tree / "suite.py").write_text(code)
    outcome = bench.run("python suite.py")
    assert outcome.output.splitlines() == ["[2, 4]", "thread", "b'x'", "b'y'", "['s']", "True", "0 True"]
