"""What a killed miyabi leaves of bubblewrap in the gap where --die-with-parent does not hold yet."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miyabi_cli.workspace.bubblewrap import find_programs
from miyabi_cli.workspace.orphans import end_orphans
from miyabi_cli.workspace.watch import descendants, is_running
from tests.support.sandboxes import skip_without_bubblewrap


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came to be")


@contextlib.contextmanager
def waiting(home: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Hold bwrap where its inner process waits to be told that the user namespace is ready; give both."""
    read_end, write_end = os.pipe()
    argv = [str(find_programs(os.environ)[0]), "--unshare-user", "--unshare-pid", "--die-with-parent"]
    argv += ["--ro-bind", "/usr", "/usr", "--tmpfs", home, "--info-fd", "1"]
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


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Iterator[None]:
    skip_without_bubblewrap(tmp_path)
    end_orphans.cache_clear()
    yield
    end_orphans.cache_clear()


def test_an_inner_process_whose_outer_one_was_killed_is_ended() -> None:
    with waiting("/run/miyabi/home") as (outer, inner):
        outer.kill()
        outer.wait()
        time.sleep(0.1)
        assert is_running(inner)  # without the sweep it sleeps for ever
        assert inner in end_orphans()
        until(lambda: not is_running(inner))


def test_one_whose_outer_process_lives_is_left_alone() -> None:
    with waiting("/run/miyabi/home") as (_, inner):
        assert inner not in end_orphans()
        assert is_running(inner)


def test_one_of_another_program_is_left_alone() -> None:
    with waiting("/run/other/home") as (outer, inner):
        outer.kill()
        outer.wait()
        assert inner not in end_orphans()
        assert is_running(inner)
