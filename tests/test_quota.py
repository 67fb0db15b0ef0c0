"""What all commands of a run may write to the disk together: the account, and how a run ends that outgrows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from miyabi_cli.workspace.quota import DiskQuota
from tests.conftest import Miyabi
from tests.support.server import call, chat_server, say


def write(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def test_what_was_there_before_the_first_command_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "checkout", 3_000_000)
    time.sleep(1.1)  # file systems' clocks are coarse: a second is allowed for
    quota = DiskQuota(2_000_000)
    quota.enter([tmp_path])
    assert quota.verdict(0) is None
    write(tmp_path / "written", 3_000_000)
    assert quota.verdict(0) == "the run has written more than 2000000 bytes to disk (limits.disk_bytes)"
    assert quota.reached() == "the disk limit of 2000000 bytes"


def test_what_is_removed_no_longer_counts(tmp_path: Path) -> None:
    quota = DiskQuota(4_000_000)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        quota.enter([tmp_path / name])
        write(tmp_path / name / "file", 3_000_000)
        assert quota.verdict(0) is None
        (tmp_path / name / "file").unlink()
        (tmp_path / name).rmdir()
    assert quota.reached() is None


def test_it_is_only_counted_where_the_disk_shrank(tmp_path: Path) -> None:
    quota = DiskQuota(100_000)
    quota.enter([tmp_path])
    assert not quota.suspects(90_000)
    quota.leave(60_000)
    quota.leave(-500_000)  # somebody else freed space meanwhile
    assert quota.suspects(90_000)
    assert quota.verdict(90_000) is None
    assert not quota.suspects(90_000)


# Opens a file without a name and, when it is told to, puts it into a socket's queue.
HIDING = """
import socket, sys, tempfile
(here, there), file = socket.socketpair(), tempfile.TemporaryFile()
print("open", flush=True)
sys.stdin.readline()
socket.send_fds(here, [b"x"], [file.fileno()])
print("hidden", flush=True)
sys.stdin.read()
"""


def test_what_can_not_be_counted_is_what_the_disk_shrank_by(tmp_path: Path) -> None:
    quota = DiskQuota(100_000)
    quota.enter([tmp_path])
    quota.leave(60_000)
    command = [sys.executable, "-c", HIDING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        assert quota.verdict(30_000, [process.pid]) is None
        quota.leave(60_000)
        process.stdin.write("hide\n")
        process.stdin.flush()
        process.stdout.readline()
        assert quota.verdict(30_000, [process.pid]) is None
        assert quota.verdict(50_000, [process.pid]) is not None


def test_a_run_over_its_quota_is_exit_5_and_the_work_is_kept(
    repository: Path, miyabi: Miyabi, environment: dict[str, str]
) -> None:
    environment["MIYABI_LIMITS__DISK_BYTES"] = "30000000"
    grow = "head -c 20000000 /dev/zero > big$i; sync big$i"
    fill = f"echo 'big*' > .gitignore; echo 1/0 > calc.py; for i in 1 2 3; do {grow}; done; sleep 60"
    with chat_server(call("exec", {"cmd": fill}), say("never asked")) as server:
        flags = ["--endpoint", server.url, "-m", "gpt-oss-20b", "--format", "json"]
        ran = miyabi("codegen", "Fix the failing test", *flags, cwd=repository)
        assert len(server.requests) == 1
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"]) == (5, "limit")
    assert "the disk limit of 30000000 bytes" in result["summary"]
    assert (result["files_created"], result["files_modified"]) == ([".gitignore"], ["calc.py"])
