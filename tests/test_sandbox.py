"""What commands can do in the sandbox, and what they can't: each attack in earnest, in real bubblewrap and Landlock.

Where it says "without", the same attack is run with the defence taken away, to show that it is the defence that holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.workspace.cgroups import pids_folder
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.removal import remove_tree
from tests.support.sandboxes import (
    CANARY,
    Bench,
    git,
    make_bench,
    make_repository,
    skip_without_bubblewrap,
    skip_without_landlock,
)

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="the attack needs root")


@pytest.fixture(params=["bubblewrap", "landlock"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    (skip_without_bubblewrap if request.param == "bubblewrap" else skip_without_landlock)(tmp_path)
    return replace(make_bench(tmp_path), kind=request.param)


with_mounts = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that the sandbox has nothing to do with, below neither /tmp nor a home."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def make_environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


# What works


@with_mounts
def test_a_command_sees_the_worktree_at_the_repositorys_own_path(bench: Bench) -> None:
    sandbox = bench.open()
    assert (sandbox.kind, sandbox.warnings) == ("bubblewrap", ())
    assert sandbox.inside(bench.place) == bench.repository
    outcome = bench.run("pwd; cat package/module.py; echo new > b.txt", sandbox)
    assert (outcome.exit_code, outcome.output) == (0, f"{bench.repository}\nVALUE = 'worktree'\n")
    assert (bench.place.tree / "b.txt").read_text() == "new\n"
    assert not (bench.repository / "b.txt").exists()


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("nosuch", 127), (["nosuch"], 127)])
def test_exit_codes_come_through(bench: Bench, command: str | list[str], code: int) -> None:
    assert bench.run(command).exit_code == code


def test_a_login_shell_keeps_path(bench: Bench) -> None:
    for command in (["bash", "-lc", "command -v python"], "bash -lc 'command -v python'"):
        assert bench.run(command).output == f"{Path(sys.executable).parent}/python\n"


def test_the_commands_own_variables_are_added(bench: Bench) -> None:
    one, home = bench.run("echo $A $HOME", environment={"A": "1"}).output.split()
    assert one == "1"
    assert home == "/run/miyabi/home" if bench.kind == "bubblewrap" else home not in bench.environ["HOME"]


@with_mounts
def test_git_looks_but_does_not_touch(bench: Bench) -> None:
    outcome = bench.run("echo x >> a.txt; git status --short; git diff --stat; git log --format=%s; git add a.txt")
    lines = outcome.output.splitlines()
    assert lines[0] == " M a.txt"
    assert "start" in lines
    assert "index.lock" in outcome.output
    assert outcome.exit_code != 0


def test_a_python_under_home_and_an_environment_under_tmp_work(bench: Bench, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "home/envs/a")
    bench = replace(bench, environ={**bench.environ, "PATH": f"{environment}/bin:/usr/bin:/bin"})
    outcome = bench.run("python -c 'import sys, json, ssl, sqlite3; print(sys.prefix)'")
    assert outcome.output == f"{environment}\n"


@with_mounts
def test_the_checkouts_own_environment_is_there(bench: Bench) -> None:
    make_environment(bench.repository / ".venv")
    outcome = bench.run(f"{bench.repository}/.venv/bin/python -c 'import sys; print(sys.prefix)'; touch .venv/x")
    assert outcome.output.splitlines()[0] == f"{bench.repository}/.venv"
    assert "Read-only file system" in outcome.output
    assert list((bench.place.tree / ".venv").iterdir()) == []


@with_mounts
def test_a_package_installed_editable_imports_the_worktree(bench: Bench) -> None:
    environment = make_environment(bench.repository / ".venv")
    (folder,) = environment.glob("lib/python3*/site-packages")
    (folder / "editable.pth").write_text(f"{bench.repository}\n")
    program, code = f"{environment}/bin/python", "import package.module as m; print(m.VALUE)"
    checkout = subprocess.run([program, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert checkout.stdout == "checkout\n"
    assert bench.run(f"cd / && {program} -c '{code}'").output == "worktree\n"


def test_what_the_worktree_has_of_its_own_is_not_covered(bench: Bench) -> None:
    make_environment(bench.repository / ".venv")
    (bench.place.tree / ".venv").mkdir()
    (bench.place.tree / ".venv/own").touch()
    assert bench.run("ls .venv").output == "own\n"


def test_pytest_runs_and_leaves_no_bytecode(bench: Bench) -> None:
    (bench.place.tree / "test_it.py").write_text("def test_it(tmp_path): (tmp_path / 'x').touch()\n")
    outcome = bench.run("python -m pytest -q -p no:cacheprovider test_it.py")
    assert (outcome.exit_code, "1 passed" in outcome.output) == (0, True)
    assert list(bench.place.tree.rglob("__pycache__")) == []


@with_mounts
def test_without_a_scratch_folder_home_and_tmp_end_with_the_command(bench: Bench) -> None:
    sandbox = bench.open()
    assert bench.run("echo x > ~/f && echo x > /tmp/f && echo x > /dev/shm/f", sandbox).exit_code == 0
    assert bench.run("ls ~/f /tmp/f /dev/shm/f 2>&1 | grep -c 'No such'", sandbox).output == "3\n"


def test_a_scratch_folder_keeps_home_tmp_and_caches(bench: Bench, outside: Path) -> None:
    bench, sandbox = bench.with_scratch(outside / "scratch"), bench.open()
    command = "mkdir -p $XDG_CACHE_HOME && echo 1 > $XDG_CACHE_HOME/f && echo 2 > $TMPDIR/f && echo 3 > ~/f"
    assert bench.run(command, sandbox).exit_code == 0
    assert bench.run("cat ~/.cache/f $TMPDIR/f ~/f", sandbox).output == "1\n2\n3\n"
    assert (outside / "scratch/tmp/f").read_text() == "2\n"


@pytest.mark.parametrize("where", ["/tmp", "/var/tmp", "/root", "/home"])
def test_a_repository_may_lie_anywhere(where: str, tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    if not os.access(where, os.W_OK):
        pytest.skip(f"{where} can't be written")
    with tempfile.TemporaryDirectory(dir=where) as folder:
        bench = make_bench(tmp_path, repository=Path(folder, "deep/er/repository"))
        for place in (bench.place, replace(bench.place, scratch=tmp_path / "scratch")):
            assert bench.run("pwd; touch f; cat a.txt", place=place).output == f"{folder}/deep/er/repository\none\n"


@with_mounts
def test_further_folders_are_mounted_as_asked(bench: Bench, outside: Path) -> None:
    for name in ("objects/1", "reports"):
        (outside / name).mkdir(parents=True)
    (outside / "objects/1/f").write_text("object\n")
    (outside / "empty").touch()
    place = replace(
        bench.place,
        readable=(
            (outside / "objects", Path("/run/miyabi/objects")),
            (outside / "empty", Path("/run/miyabi/objects/1/f")),
        ),
        writable=((outside / "reports", outside / "reports"),),
    )
    outcome = bench.run(
        f"cat /run/miyabi/objects/1/f; touch /run/miyabi/objects/x; touch {outside}/reports/r", place=place
    )
    assert (outcome.exit_code, outcome.output.count("\n"), "Read-only" in outcome.output) == (0, 1, True)
    assert (outside / "reports/r").exists()


def test_settings_open_paths(bench: Bench, outside: Path, tmp_path: Path) -> None:
    for name in ("read", "write"):
        (outside / name).mkdir()
    (outside / "read/f").write_text("readable\n")
    sandbox = bench.open(readable=[outside / "read", tmp_path / "home"], writable=[outside / "write"])
    outcome = bench.run(f"cat {outside}/read/f; touch {outside}/write/f; touch {outside}/read/g; ls -A ~user", sandbox)
    assert outcome.output.splitlines()[0] == "readable"
    assert (outside / "write/f").exists()
    assert not (outside / "read/g").exists()
    assert CANARY not in bench.run(f"cat {tmp_path}/home/.ssh/*; ls -A {tmp_path}/home/.ssh", sandbox).output


def test_several_run_at_once(bench: Bench) -> None:
    sandbox = bench.open()

    async def main() -> list[str]:
        runs = [sandbox.run(f"echo {number}", bench.place) for number in range(8)]
        return [outcome.output for outcome in await asyncio.gather(*runs)]

    assert asyncio.run(main()) == [f"{number}\n" for number in range(8)]


@as_root
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_it_works_for_an_ordinary_user(tmp_path: Path, kind: str) -> None:
    (skip_without_bubblewrap if kind == "bubblewrap" else skip_without_landlock)(tmp_path)
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if _is_recent(path)), None)
    if python is None or not shutil.which("setpriv"):
        pytest.skip("no Python 3.11 that another user can run, or no setpriv")
    code = '''
import asyncio, json, os, sys
from pathlib import Path
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED
from miyabi_cli.workspace.bubblewrap import open_bubblewrap
from miyabi_cli.workspace.landlock import open_landlock
top = Path(sys.argv[1])
for name in ("repository", "tree"): (top / name).mkdir()
environ = {"PATH": "/usr/bin:/bin", "HOME": str(top)}
open_it = open_bubblewrap if sys.argv[2] == "bubblewrap" else open_landlock
sandbox = open_it(repository=top / "repository", environ=environ, policy=CLOSED)
place = Place(top / "tree", top / "repository", scratch=top / "scratch")
def run(command, **limits): return asyncio.run(sandbox.run(command, place, limits=Limits(**{"seconds": 30, **limits})))
forks = """
import os, time
count = 0
try:
    while count < 200:
        if os.fork() == 0: time.sleep(20); os._exit(0)
        count += 1
except OSError as error: print(count < 50, error.strerror)
"""
bomb = run(["python3", "-c", forks], processes=50)
print(json.dumps([run("id -u; touch f /etc/f; cat /etc/shadow").output, bomb.output, os.listdir(top / "tree")]))
'''
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        top = Path(name)
        shutil.copytree(Path(__file__).parent.parent / "miyabi_cli", top / "miyabi_cli")
        top.chmod(0o755)
        (top / "work").mkdir()
        user = 60_000 + os.getpid() % 4_000  # of this test alone: the kernel counts all that a user runs
        shutil.chown(top / "work", user, user)
        argv = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            python,
            "-c",
            code,
            str(top / "work"),
            kind,
        ]
        done = subprocess.run(argv, cwd=top, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
        assert done.stderr == ""
        output, bomb, files = json.loads(done.stdout)
    assert output.splitlines()[0] == str(user)
    assert "'/etc/f': Read-only file system" in output or "'/etc/f': Permission denied" in output
    assert "/etc/shadow: No such file" in output or "/etc/shadow: Permission denied" in output
    assert bomb == "True Resource temporarily unavailable\n"  # the kernel's own limit holds for users
    assert "f" in files


def _is_recent(python: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return os.access(python, os.X_OK) and subprocess.run([python, "-c", check]).returncode == 0


# Files: attacks A1 to A3


def test_nothing_but_the_worktree_can_be_written(bench: Bench, outside: Path, tmp_path: Path) -> None:
    targets = ["/etc/x", "/usr/x", "/x", "/dev/x", "/root/x", f"{tmp_path}/home/x", f"{outside}/x", "/run/x"]
    outcome = bench.run(f"for f in {' '.join(targets)}; do echo {CANARY} > $f && echo written $f; done")
    assert "written" not in outcome.output
    assert not any(Path(target).exists() for target in targets)


def test_without_the_sandbox_it_can(bench: Bench, outside: Path) -> None:
    assert bench.run(f"touch {outside}/x", bench.open("off")).exit_code == 0
    assert (outside / "x").exists()


REMOUNT = "mount -o remount,bind,rw {0}; mount -o remount,rw {0}; touch {0}/miyabi-was-here && echo written"


def test_a_remount_is_denied(bench: Bench) -> None:
    """Attack A2: as root too, for there is no capability."""
    outcome = bench.run("; ".join(REMOUNT.format(path) for path in ("/", "/usr", "/etc/ssl/certs")))
    assert "written" not in outcome.output
    status = bench.run("grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status").output
    assert {line.split()[-1] for line in status.splitlines()} == {"0000000000000000", "1"}


@as_root
def test_without_dropped_capabilities_a_remount_would_pass(outside: Path, tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    argv = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
    argv += ["--symlink", "usr/lib64", "/lib64", "--ro-bind", str(outside), "/mnt", "--proc", "/proc", "--dev", "/dev"]
    plain = subprocess.run([*argv, "/usr/bin/bash", "-c", REMOUNT.format("/mnt")], capture_output=True, text=True)
    dropped = [*argv[:2], "--cap-drop", "ALL", *argv[2:]]
    assert plain.stdout == "written\n"
    assert (outside / "miyabi-was-here").exists()
    held = subprocess.run([*dropped, "/usr/bin/bash", "-c", REMOUNT.format("/mnt")], capture_output=True, text=True)
    assert held.stdout == ""


WRITABLE_SETTINGS = "find /proc/sys /proc/sysrq-trigger -type f -writable 2>/dev/null | wc -l"


@as_root
@with_mounts
def test_the_kernels_settings_can_not_be_written(bench: Bench) -> None:
    """Root's id alone may write /proc/sys, where core_pattern names a program for root to run."""
    outcome = bench.run(f"{WRITABLE_SETTINGS}; cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness")
    assert outcome.output.splitlines()[0] == "0"
    assert "Read-only file system" in outcome.output


@as_root
def test_without_the_cover_they_could(tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    argv = ["bwrap", "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
    argv += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "/usr/bin/bash", "-c"]
    count = subprocess.run([*argv, WRITABLE_SETTINGS], capture_output=True, text=True, check=True).stdout
    if count == "0\n":
        pytest.skip("this bubblewrap covers /proc/sys itself")
    assert int(count) > 10


def test_secrets_on_the_disk_are_absent(bench: Bench, tmp_path: Path) -> None:
    """Attack A3, and the token in the main repository's config."""
    outcome = bench.run(
        f"cat {tmp_path}/home/.ssh/id_ed25519 ~/.ssh/id_ed25519 /etc/shadow; ls {tmp_path}/home;"
        f" cat {bench.repository}/.git/config; find / -xdev -name '*ed25519*'"
    )
    assert CANARY not in outcome.output
    assert "root:" not in outcome.output


@with_mounts
def test_of_etc_only_what_is_needed_is_there(bench: Bench) -> None:
    allowed = {"passwd", "group", "nsswitch.conf", "hosts", "ssl", "pki", "alternatives", "localtime"}
    allowed |= {"os-release", "debian_version"}
    names = bench.run("ls /etc").output.split()
    assert {name for name in names if not name.startswith("ld")} <= allowed
    assert "passwd" in names
    assert set(bench.run("ls /etc/ssl").output.split()) <= {"cert.pem", "certs", "openssl.cnf"}


# Variables: attack A4


@with_mounts
def test_no_variable_of_the_callers_is_seen_anywhere(bench: Bench) -> None:
    outcome = bench.run("env; cat /proc/*/environ | tr '\\0' '\\n'")
    assert CANARY not in outcome.output
    assert outcome.output.count("HOME=/run/miyabi/home") >= 3  # its own, bwrap's and the shell's were all read


@with_mounts
def test_without_a_clean_start_bubblewrap_itself_would_show_them(bench: Bench) -> None:
    argv = ["bwrap", "--unshare-all", "--clearenv", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
    argv += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "/usr/bin/cat", "/proc/1/environ"]
    environ = {"PATH": "/usr/bin", "KEY": CANARY}
    assert CANARY in subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout


def test_without_a_sandbox_keys_are_left_out_all_the_same(bench: Bench) -> None:
    outcome = bench.run("env", bench.open("off"))
    assert "GROQ_API_KEY" not in outcome.output
    assert f"HOME={bench.environ['HOME']}" in outcome.output


# Network: attacks A6, A7, A25


def test_nothing_is_reached_by_network(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        server.setblocking(False)
        sink.setblocking(False)
        code = f"""
import socket
def udp(): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for action in (
    lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2),
    lambda: udp().sendto(b"x", ("127.0.0.1", {sink.getsockname()[1]})),
    lambda: udp().sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.socket(40, socket.SOCK_STREAM),
):
    try: print("done", action())
    except OSError as error: print(type(error).__name__)
"""
        lines = bench.python(code).output.splitlines()
        local = ["ConnectionRefusedError", "done 1"] if bench.kind == "bubblewrap" else ["OSError"] * 2
        assert lines == [*local, "OSError", "gaierror", "OSError"]
        for unreached in (server.accept, lambda: sink.recv(10)):
            with pytest.raises(BlockingIOError):
                unreached()


def test_without_the_sandbox_it_would_be(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert bench.python(code, bench.open("off")).exit_code == 0
        assert bench.python(code, bench.open(network=True)).exit_code == 0  # what `sandbox.network: true` asks for
        assert bench.python(code).exit_code == 1


def test_sockets_of_the_host_are_not_reached(bench: Bench, outside: Path) -> None:
    """Attack A7: by path (docker's, the ssh agent's) and in the abstract name space."""
    with contextlib.ExitStack() as stack:
        addresses = [str(outside / "agent.sock"), f"\0miyabi-{os.getpid()}"]
        for address in addresses:
            server = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            server.bind(address)
            server.listen()
        code = f"""
import socket
for address in {addresses!r}:
    try: socket.socket(socket.AF_UNIX).connect(address); print("connected")
    except OSError as error: print(type(error).__name__)
"""
        refused = ["FileNotFoundError", "ConnectionRefusedError"] if bench.kind == "bubblewrap" else ["OSError"] * 2
        assert bench.python(code).output.split() == refused
        assert bench.python(code, bench.open("off")).output.split() == ["connected", "connected"]
        assert bench.run("ls /run/docker.sock /var/run/docker.sock").exit_code != 0


def test_a_package_can_not_be_fetched(bench: Bench) -> None:
    """Attack A25, by what a package installer does first."""
    code = "import urllib.request; urllib.request.urlopen('https://pypi.org/simple/left-pad/', timeout=5)"
    outcome = bench.python(code)
    assert outcome.exit_code == 1
    assert "urlopen error" in outcome.output


# The git directory: attacks A9 and A12


@with_mounts
def test_the_git_directory_can_be_neither_written_nor_replaced(bench: Bench) -> None:
    git_dir = bench.place.tree / ".git"
    before = {path: path.stat().st_mtime_ns for path in git_dir.rglob("*")}
    attacks = [
        "rm -rf .git",
        "mv .git x",
        "echo x > .git/config",
        "echo x > .git/hooks/pre-commit",
        "git config core.fsmonitor x",
        "echo gitdir: /x > .git",
        "ln -sfn /x .git",
        "mkdir y && mv -T y .git",
        "chmod 777 .git",
        "umount .git",
        "cd .. && mv repository other",
    ]
    for attack in attacks:
        assert bench.run(attack).exit_code != 0, attack
    assert {path: path.stat().st_mtime_ns for path in git_dir.rglob("*")} == before


@with_mounts
def test_a_git_file_is_held_as_well(bench: Bench, tmp_path: Path) -> None:
    git(bench.repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    place = Place(tmp_path / "linked", bench.repository)
    pointer = (tmp_path / "linked/.git").read_text()
    for attack in ("rm -f .git", "mv .git x", "echo gitdir: /x > .git"):
        assert bench.run(attack, place=place).exit_code != 0, attack
    assert (tmp_path / "linked/.git").read_text() == pointer


@with_mounts
def test_a_git_directory_given_by_the_place_is_the_one_that_counts(bench: Bench, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other", {"x": "y"})
    place = replace(bench.place, readable=((other / ".git", bench.repository / ".git"),))
    outcome = bench.run("git log --format=%H; echo x > .git/config", place=place)
    assert outcome.output.splitlines()[0] == git(other, "rev-parse", "HEAD").strip()
    assert "Read-only file system" in outcome.output


# Links that an agent leaves for the next command


def test_a_link_in_place_of_a_dependency_folder_leads_nowhere(bench: Bench, outside: Path) -> None:
    (bench.repository / "web/node_modules").mkdir(parents=True)
    (bench.place.tree / "web").symlink_to(outside)
    sandbox = bench.open()
    assert bench.run("true", sandbox).exit_code == 0
    assert list(outside.iterdir()) == []


@with_mounts
def test_a_link_in_tmp_does_not_lead_a_mount_away(bench: Bench, outside: Path) -> None:
    """The repository lies below /tmp, which outlasts the command: a link on the way to it would be followed."""
    if not bench.repository.is_relative_to("/tmp"):
        pytest.skip("the tests' own folder is not below /tmp")
    bench, sandbox = bench.with_scratch(outside / "scratch"), bench.open()
    first = Path(*bench.repository.parts[:3])
    outcome = bench.run(f"mv {first} /tmp/away; ln -sfn {outside} {first}; ls -d {first}", sandbox)
    assert outcome.output.splitlines()[-1] == str(first)
    (outside / "scratch/tmp" / first.name).rmdir()
    (outside / "scratch/tmp" / first.name).symlink_to("/oldroot" + str(outside))
    assert bench.run("cat a.txt", sandbox).output == "one\n"
    assert sorted(path.name for path in outside.iterdir()) == ["scratch"]


# Working folder, processes, limits: attacks A17, A20, A21, A22


def test_the_working_folder_stays_in_the_worktree(bench: Bench, outside: Path) -> None:
    (bench.place.tree / "away").symlink_to(outside)
    for mode in (bench.open(), bench.open("off")):
        top = mode.inside(bench.place)
        for workdir in ("package", str(top / "package"), str(bench.repository / "package"), "package/../package/."):
            assert bench.run("pwd", mode, workdir=workdir).output == f"{top}/package\n"
        for workdir in ("..", "/", "/etc", "away", "package/../..", "nosuch", "a.txt", "a\0b", "x" * 5000):
            outcome = bench.run("echo ran", mode, workdir=workdir)
            assert (outcome.exit_code, "ran" in outcome.output) == (126, False)


@with_mounts
def test_other_processes_are_not_seen(bench: Bench) -> None:
    pids = bench.run("ls /proc | grep -E '^[0-9]+$'").output.split()
    assert all(int(pid) < 20 for pid in pids)
    assert bench.run(f"kill -0 {os.getpid()}").exit_code != 0


def test_what_a_command_leaves_running_ends_with_it(bench: Bench, outside: Path) -> None:
    place = replace(bench.place, writable=((outside, outside),))
    command = f"setsid bash -c 'while :; do date +%N > {outside}/beat; done' > /dev/null 2>&1 & sleep 0.2"
    assert bench.run(command, place=place).exit_code == 0
    last = (outside / "beat").read_text()
    time.sleep(0.1)
    assert (outside / "beat").read_text() == last


def wait_until_changed(path: Path, text: str) -> None:
    for _ in range(1000):
        if path.read_text() not in (text, ""):
            return
        time.sleep(0.01)
    pytest.fail(f"{path} did not change")


def test_a_time_out_and_a_cancellation_end_all_of_it(bench: Bench, outside: Path) -> None:
    place = replace(bench.place, writable=((outside, outside),))
    command = f"setsid bash -c 'while :; do date +%N > {outside}/beat; done' & sleep 60"
    outcome = bench.run(command, place=place, limits=Limits(seconds=0.5))
    assert (outcome.exit_code, outcome.timed_out) == (124, True)
    last = (outside / "beat").read_text()

    async def main() -> None:
        task = asyncio.create_task(bench.open().run(command, place))
        await asyncio.to_thread(wait_until_changed, outside / "beat", last)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    last = (outside / "beat").read_text()
    time.sleep(0.1)
    assert (outside / "beat").read_text() == last


def test_a_fork_bomb_is_capped_and_the_host_still_forks(bench: Bench) -> None:
    if IS_ROOT and pids_folder() is None:
        pytest.skip("root's processes are held by a cgroup, and none can be made here")
    sizes: list[int] = []
    ended = threading.Event()

    def look_meanwhile() -> None:
        while not ended.wait(0.02):
            assert subprocess.run(["true"]).returncode == 0
            sizes.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2]))

    thread = threading.Thread(target=look_meanwhile)
    thread.start()
    try:
        outcome = bench.run("f() { f | f & }; f; sleep 60", limits=Limits(seconds=2, processes=100))
    finally:
        ended.set()
        thread.join()
    assert outcome.exit_code in (137, 124)
    assert len(sizes) > 5
    assert max(sizes) - min(sizes) < 400


def test_endless_output_is_stopped(bench: Bench) -> None:
    outcome = bench.run("yes", limits=Limits(seconds=60, output_bytes=10_000))
    assert (outcome.exit_code, len(outcome.output) < 11_000) == (137, True)
    assert outcome.output.endswith("[stopped: endless output]\n")


def test_a_file_can_not_grow_without_end(bench: Bench) -> None:
    for command in ("head -c 3000000 /dev/zero > big", "truncate -s 1T sparse"):
        outcome = bench.run(command, limits=Limits(seconds=30, file_bytes=1_000_000))
        assert outcome.exit_code != 0
    assert {path.name for path in bench.place.tree.iterdir() if path.stat().st_size > 1_000_000} == set()


def test_a_disk_fill_is_stopped(bench: Bench, outside: Path) -> None:
    """Attack A22, in the worktree and in the scratch folder alike."""
    bench = bench.with_scratch(outside / "scratch")
    for folder in (".", "$TMPDIR", "~"):
        command = f"for i in $(seq 20); do head -c 4000000 /dev/zero > {folder}/$i; sync {folder}/$i; done; sleep 60"
        outcome = bench.run(command, limits=Limits(seconds=30, disk_bytes=30_000_000))
        assert outcome.output.endswith("[stopped: more than 30000000 bytes written to disk]\n"), folder


NEST = 'import os\nfor _ in range(1500): os.mkdir("d" * 100); os.chdir("d" * 100)'


@pytest.mark.parametrize(
    "fill",
    [
        "for i in {1..20}; do mkdir -p many/$i/{1..2000}; done",
        "for i in {1..20}; do mkdir $i; head -c 4000000 /dev/zero > $i/x; sync $i/x; chmod 0 $i; done",
        f"python -c '{NEST}'; for i in {{1..20}}; do head -c 4000000 /dev/zero > $i; sync $i; done",
    ],
)
def test_folders_count_and_what_is_in_closed_and_deep_ones(bench: Bench, fill: str) -> None:
    outcome = bench.run(f"{fill}; sleep 60", limits=Limits(seconds=60, disk_bytes=30_000_000))
    remove_tree(bench.place.tree)  # it is too deep for those who clean up after tests
    assert outcome.output.endswith("[stopped: more than 30000000 bytes written to disk]\n")


@with_mounts
def test_folders_in_memory_have_a_size(bench: Bench) -> None:
    output = bench.run("df --output=size -B1 /tmp ~ /dev/shm | tail -n 3").output
    assert {int(size) for size in output.split()} == {1 << 30}


MEMORY_HOG = """
import os, time
for _ in range(2):
    if os.fork() == 0: break
held = b"x" * (250 << 20)
time.sleep(60)
"""


def test_memory_is_limited_for_all_processes_of_a_command_together(bench: Bench) -> None:
    """Three processes, none of which has too much."""
    for sandbox in (bench.open(limits=Limits(memory_bytes=500 << 20)), bench.open("off")):
        outcome = bench.python(MEMORY_HOG, sandbox, limits=Limits(30, memory_bytes=500 << 20))
        assert (outcome.exit_code, outcome.output) == (137, "[stopped: more than 524288000 bytes of memory]\n")


def test_memory_in_files_of_no_folder_counts(bench: Bench) -> None:
    code = """
import os, time
held = [os.memfd_create("x") for _ in range(3)]
for descriptor in held: os.write(descriptor, b"x" * (100 << 20))
time.sleep(60)
"""
    outcome = bench.python(code, limits=Limits(30, memory_bytes=200 << 20))
    assert outcome.output == "[stopped: more than 209715200 bytes of memory]\n"


@with_mounts
def test_memory_in_folders_counts(bench: Bench) -> None:
    """Each holds less than the limit, and nothing is open any more."""
    fill = "for d in /tmp ~ /dev/shm; do head -c 200000000 /dev/zero > $d/x; done; sleep 60"
    outcome = bench.run(fill, limits=Limits(30, memory_bytes=500 << 20))
    assert outcome.output == "[stopped: more than 524288000 bytes of memory]\n"


HIDE = """
import ctypes, os, pathlib, socket, time
libc = ctypes.CDLL(None)
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
here, there = socket.socketpair()
kept = []
def in_a_queue(file): socket.send_fds(here, [b"x"], [file.fileno()])
def by_a_mapping(file): libc.mmap(None, 1, 1, 2, file.fileno(), 0)
def in_a_closed_process(file): libc.prctl(4, 0, 0, 0, 0); kept.append(os.dup(file.fileno()))
while True:
    with open("file", "w+b") if not @memory@ else os.fdopen(os.memfd_create("x"), "w+b") as file:
        file.write(b"x" * 20_000_000)
        file.flush()
        if not @memory@: os.fsync(file.fileno()); os.unlink("file")
        @way@(file)
"""


@pytest.mark.parametrize("way", ["in_a_queue", "by_a_mapping", "in_a_closed_process"])
def test_what_a_process_hides_counts_as_well(bench: Bench, way: str) -> None:
    """As it is, no file of its own is found on the disk or among its open ones."""
    code = HIDE.replace("@way@", way)
    limits = Limits(30, disk_bytes=100_000_000, memory_bytes=500 << 20)
    outcome = bench.python(code.replace("@memory@", "False"), limits=limits)
    assert outcome.output == "[stopped: more than 100000000 bytes written to disk]\n"
    outcome = bench.python(code.replace("@memory@", "True"), limits=limits)
    assert outcome.output == "[stopped: more than 524288000 bytes of memory]\n"


def test_what_is_reserved_and_not_used_is_no_memory(bench: Bench) -> None:
    """As sanitizers, Go and V8 do by the terabyte."""
    code = "import mmap; mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); print('done')"
    assert bench.python(code, limits=Limits(30, memory_bytes=300 << 20)).output == "done\n"


def test_the_kernel_takes_a_command_before_miyabi(bench: Bench) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    for sandbox in (bench.open(), bench.open("off")):
        wait = f"until [ $(cat /proc/self/oom_score_adj) -gt {own} ]; do sleep 0.05; done; echo first"
        assert bench.run(wait, sandbox, limits=Limits(seconds=20)).output == "first\n"


def test_all_commands_of_a_run_are_held_to_a_quota(bench: Bench, outside: Path) -> None:
    """None of them has written too much by itself."""
    bench = bench.with_scratch(outside / "scratch")
    write = "head -c 20000000 /dev/zero > {}; sync {}"
    for sandbox in (bench.open(disk_bytes=50_000_000), bench.open("off", disk_bytes=50_000_000)):
        for name in ("1", "2"):
            assert bench.run(write.format(name, name), sandbox).exit_code == 0
            assert sandbox.quota.reached() is None
        outcome = bench.run(f"{write.format('3', '3')}; sleep 60", sandbox)
        assert outcome.exit_code == 137
        assert outcome.output.endswith(
            "[stopped: the run has written more than 50000000 bytes to disk (limits.disk_bytes)]\n"
        )
        assert sandbox.quota.reached() == "the disk limit of 50000000 bytes"
        assert bench.run("rm 1 2 3; sleep 0.2; echo on", sandbox).output == "on\n"  # so that the work can be kept


def test_a_quota_counts_what_a_quick_command_wrote_too(bench: Bench) -> None:
    sandbox = bench.open(disk_bytes=1_000_000)
    bench.run("head -c 20000000 /dev/zero > 1; sync 1", sandbox)
    assert sandbox.quota.reached()


# Without a sandbox


def test_off_runs_in_the_worktree_on_the_host(bench: Bench) -> None:
    sandbox = bench.open("off")
    assert sandbox.kind == "off"
    assert sandbox.warnings != ()
    assert sandbox.inside(bench.place) == bench.place.tree
    outcome = bench.run(["bash", "-lc", "pwd; ulimit -c"], sandbox)
    assert outcome.output == f"{bench.place.tree}\n0\n"


def test_off_takes_no_git_variable_of_a_hook(bench: Bench, tmp_path: Path) -> None:
    hooked = replace(bench, environ={**bench.environ, "GIT_DIR": str(tmp_path / "nowhere"), "GIT_INDEX_FILE": "x"})
    assert hooked.run("git status --short", hooked.open("off")).output == ""


def test_off_limits_without_prlimit_too(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("head", "bash"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    bare = replace(bench, environ={"PATH": str(tmp_path / "bin")})
    limits = Limits(seconds=30, file_bytes=1_000_000)
    outcome = bare.run("ulimit -c; head -c 3000000 /dev/zero > big", bare.open("off"), limits=limits)
    assert outcome.output.splitlines()[0] == "0"
    assert (bench.place.tree / "big").stat().st_size <= 1_000_000


def test_no_command_is_an_outcome(bench: Bench) -> None:
    assert bench.run([]).exit_code == 127
    assert bench.run([], bench.open("off")).exit_code == 127
