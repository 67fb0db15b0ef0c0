"""What is counted of a running command."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from miyabi_cli.workspace.watch import Watch, descendants

NOBODY = 1 << 22  # above every process id: nobody has a deleted file open


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came to be")


def watch(*folders: Path, processes: int = 10_000, disk_bytes: int = 1 << 50) -> Watch:
    return Watch(folders, processes=processes, disk_bytes=disk_bytes)


def test_descendants_are_found_across_sessions() -> None:
    with subprocess.Popen(["bash", "-c", "setsid sleep 60 & (sleep 60; true) & wait"]) as child:
        try:
            until(lambda: len(descendants(child.pid)) == 3)
        finally:
            for pid in [*descendants(child.pid), child.pid]:
                os.kill(pid, 9)


def test_threads_count_as_processes() -> None:
    code = "import threading,time;[threading.Thread(target=time.sleep,args=(60,)).start() for _ in range(300)]"
    few, many = watch(processes=5), watch(processes=5000)
    with subprocess.Popen(["bash", "-c", f"python3 -c '{code}'; true"]) as child:
        try:
            until(lambda: few.verdict(child.pid) == "more than 5 processes")
            assert few.suspicious()
            assert many.verdict(child.pid) is None
        finally:
            for pid in [*descendants(child.pid), child.pid]:
                os.kill(pid, 9)


def test_only_what_was_written_meanwhile_counts(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 5_000_000)
    time.sleep(1.1)
    watched = watch(tmp_path, disk_bytes=1_000_000)
    assert watched.verdict(NOBODY) is None
    (tmp_path / "new").write_bytes(b"x" * 2_000_000)
    os.sync()
    assert watched.verdict(NOBODY) == "more than 1000000 bytes written to disk"


def test_a_hole_is_not_written_space(tmp_path: Path) -> None:
    watched = watch(tmp_path, disk_bytes=1_000_000)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert watched.verdict(NOBODY) is None


def test_a_deleted_file_that_is_held_open_counts(tmp_path: Path) -> None:
    watched = watch(tmp_path, disk_bytes=1_000_000)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(b"x" * 2_000_000)
        file.flush()
        os.fsync(file.fileno())
        with subprocess.Popen(["bash", "-c", "sleep 60; true"], stdin=file) as child:
            try:
                until(lambda: bool(descendants(child.pid)))
                assert watched.verdict(child.pid) == "more than 1000000 bytes written to disk"
            finally:
                for pid in [*descendants(child.pid), child.pid]:
                    os.kill(pid, 9)


def test_folders_and_processes_that_are_gone_count_nothing(tmp_path: Path) -> None:
    watched = watch(tmp_path / "gone", processes=0, disk_bytes=0)
    assert watched.verdict(2**22 + 1) is None
