"""What a killed miyabi leaves of bubblewrap in the gap where --die-with-parent does not hold yet."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miyabi_cli.workspace.bubblewrap import find_programs
from miyabi_cli.workspace.watch import descendants, is_running
from tests.conftest import ROOT
from tests.support.orphans import watching_for_orphans
from tests.support.sandboxes import make_bench, skip_without_bubblewrap

OURS, OTHERS = "miyabi_0123456789abcdef", "miyabi_fedcba9876543210"
GUARD = "import sys; from miyabi_cli.workspace.orphans import end_orphans; end_orphans(sys.argv[1])"
# A timer of 0 strikes when the command was started and nothing was heard of it yet.
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.sandbox import open_sandbox

async def main():
    repository, tree, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    sandbox = open_sandbox("auto", repository=repository, environ=os.environ)
    if seconds < 0:
        await sandbox.run("sleep 0", Place(tree, repository))
        return
    asyncio.get_running_loop().call_later(seconds, os.kill, os.getpid(), signal.SIGKILL)
    await sandbox.run("sleep 600", Place(tree, repository))

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def bubblewrap(tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)


def run_and_be_killed(folder: Path, seconds: float) -> int:
    """Run a command in a process of its own that is killed so long after it has started it; return its exit code."""
    bench = make_bench(folder)
    argv = [sys.executable, "-c", KILLED, str(bench.repository), str(bench.place.tree), str(seconds)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, env=environ, timeout=60, check=False).returncode


@pytest.mark.parametrize("milliseconds", [0, 0.5, 1, 2, 3, 5, 8, 13])
def test_whenever_it_is_killed_no_command_runs_on(tmp_path: Path, milliseconds: float) -> None:
    with watching_for_orphans() as orphans:
        assert run_and_be_killed(tmp_path / "bench", milliseconds / 1000) == -signal.SIGKILL
        assert orphans.left() == []


def test_at_its_own_end_nothing_is_left_at_once(tmp_path: Path) -> None:
    with watching_for_orphans() as orphans:
        assert run_and_be_killed(tmp_path / "bench", -1) == 0
        assert orphans.now() == []


@pytest.mark.parametrize(("mark", "ends"), [(OURS, True), (OTHERS, False)], ids=["ours", "others"])
def test_an_inner_process_that_waits_for_a_killed_one_is_ended(mark: str, ends: bool) -> None:
    with waiting(mark) as (outer, inner):
        guard = subprocess.Popen([sys.executable, "-c", GUARD, OURS], stdin=subprocess.PIPE, cwd=ROOT)
        outer.kill()
        outer.wait()
        assert is_running(inner)  # nobody wakes it
        assert guard.poll() is None
        guard.communicate(timeout=60)
        assert (guard.returncode, is_running(inner)) == (0, not ends)


@contextlib.contextmanager
def waiting(mark: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Hold bwrap where its inner process waits to be told that the user namespace is ready; give both."""
    read_end, write_end = os.pipe()
    argv = [str(find_programs(os.environ)[0]), "--unshare-user", "--unshare-pid", "--die-with-parent"]
    argv += ["--ro-bind", "/usr", "/usr", "--unsetenv", mark, "--info-fd", "1"]
    argv += ["--userns-block-fd", str(read_end), "--", "/usr/bin/true"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, pass_fds=[read_end]) as outer:
        os.close(read_end)
        inner = 0
        try:
            until(lambda: len(descendants(outer.pid)) == 1)
            (inner,) = descendants(outer.pid)
            yield outer, inner
        finally:
            for pid in filter(None, (outer.pid, inner)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.close(write_end)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came to be")
