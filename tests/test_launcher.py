"""The fork server that starts commands under Landlock: how long it lives, what reaches it, and what survives it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.launcher import FORK_SERVER, ForkServer
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Outcome
from miyabi_cli.workspace.watch import descendants, is_running
from tests.conftest import PYTHON, ROOT
from tests.support.sandboxes import CANARY, Bench, make_bench, skip_without_landlock


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    skip_without_landlock(tmp_path)
    return replace(make_bench(tmp_path), kind="landlock")


@pytest.fixture
def outside() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came to be")


def beating(folder: Path) -> str:
    return f"setsid bash -c 'while :; do date +%N > {folder}/beat; done' > /dev/null 2>&1 & sleep 60"


def still(folder: Path) -> bool:
    last = (folder / "beat").read_text()
    time.sleep(0.1)
    return (folder / "beat").read_text() == last


def while_it_beats(bench: Bench, folder: Path, act: Callable[[int], None]) -> Outcome:
    """Run a command with an orphan, and act on the keeper's pid once the orphan is at work."""
    place = replace(bench.place, writable=((folder, folder),))
    sandbox = bench.open()

    async def main() -> Outcome:
        task = asyncio.create_task(sandbox.run(beating(folder), place))
        await asyncio.to_thread(until, lambda: (folder / "beat").exists() and bool((folder / "beat").read_text()))
        (keeper,) = (pid for pid in descendants(server()) if parent_of(pid) == server())
        act(keeper)
        return await asyncio.wait_for(task, 30)

    return asyncio.run(main())


def parent_of(pid: int) -> int:
    """Return the parent's id, or 0 for a process that has ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def server() -> int:
    assert FORK_SERVER.pid is not None
    return FORK_SERVER.pid


def test_one_server_starts_all_commands(bench: Bench) -> None:
    sandbox = bench.open()
    first = server()
    assert [bench.run("echo 1", sandbox).output, bench.run("echo 2", bench.open()).output] == ["1\n", "2\n"]
    assert server() == first


def test_the_server_holds_no_variable_and_no_right(bench: Bench) -> None:
    assert bench.run("true").exit_code == 0
    own = Path(f"/proc/{server()}")
    assert CANARY.encode() not in (own / "environ").read_bytes()
    assert (own / "environ").read_bytes() in (b"", b"LC_CTYPE=C.UTF-8\0")
    status = dict(line.split(":\t", 1) for line in (own / "status").read_text().splitlines())
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Threads"]) == ("1", "1")


def test_a_command_does_not_reach_the_server(bench: Bench) -> None:
    assert bench.run("true").exit_code == 0
    own = f"/proc/{server()}"
    attack = f"cat {own}/environ; echo x > {own}/mem; kill {server()}; readlink {own}/fd/* || echo no descriptor"
    outcome = bench.run(attack)
    assert outcome.output.count("Permission denied") == 2
    assert "Operation not permitted" in outcome.output
    assert outcome.output.endswith("Operation not permitted\nno descriptor\n")
    assert is_running(server())


def test_no_descriptor_is_inherited_and_none_is_left(bench: Bench) -> None:
    sandbox = bench.open()
    assert bench.run("ls /proc/self/fd", sandbox).output.split() == ["0", "1", "2", "3"]  # 3 is ls's own
    before = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), server())]

    async def main() -> None:
        await asyncio.gather(*(sandbox.run("sleep 0.1", bench.place) for _ in range(5)))

    asyncio.run(main())
    assert [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), server())] == before
    assert descendants(server()) == []


def test_a_keeper_that_is_killed_leaves_nothing(bench: Bench, outside: Path) -> None:
    """As the kernel does where memory runs out."""
    outcome = while_it_beats(bench, outside, lambda keeper: os.kill(keeper, signal.SIGKILL))
    assert outcome.exit_code == 137
    assert still(outside)
    assert bench.run("echo on").output == "on\n"


def test_a_server_that_is_killed_is_started_again_and_its_commands_are_still_kept(bench: Bench, outside: Path) -> None:
    place = replace(bench.place, writable=((outside, outside),))
    sandbox = bench.open()

    async def main() -> Outcome:
        task = asyncio.create_task(sandbox.run(beating(outside), place))
        await asyncio.to_thread(until, lambda: (outside / "beat").exists())
        old = server()
        os.kill(old, signal.SIGKILL)
        second = await sandbox.run("echo on", bench.place)
        assert server() != old
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return second

    assert asyncio.run(main()).output == "on\n"
    assert still(outside)


def test_a_server_that_can_not_start_is_the_sandboxs_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nosuch/python")
    with pytest.raises(SandboxError, match=r"the sandbox failed: .*No such file"):
        ForkServer().begin(1)


def test_a_command_of_a_megabyte_arrives(bench: Bench) -> None:
    sandbox = bench.open()
    texts = ["x" * 100_000] * 12
    assert bench.run(["sh", "-c", "echo $#", "sh", *texts], sandbox).output == "12\n"
    assert bench.run(["echo", "x" * 200_000], sandbox).exit_code == 126


def test_it_ends_with_miyabi(tmp_path: Path) -> None:
    skip_without_landlock(tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from miyabi_cli.workspace.landlock import open_landlock
from miyabi_cli.workspace.launcher import FORK_SERVER
from miyabi_cli.workspace.policy import CLOSED
open_landlock(repository=Path({str(tmp_path)!r}), environ={{"PATH": "/usr/bin"}}, policy=CLOSED)
print(FORK_SERVER.pid, flush=True)
if "{{how}}" == "killed": os.kill(os.getpid(), signal.SIGKILL)
"""
    for how in ("killed", "ended"):
        done = subprocess.run(
            [PYTHON, "-W", "error", "-c", code.replace("{how}", how)], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (-signal.SIGKILL if how == "killed" else 0, "")
        until(lambda: not is_running(int(done.stdout)))  # noqa: B023 (it is called at once)


def test_a_place_that_is_gone_is_told(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"the sandbox failed: .*No such file"):
        bench.run("true", place=Place(bench.place.tree, bench.place.inside, readable=((tmp_path / "x", Path("/x")),)))
