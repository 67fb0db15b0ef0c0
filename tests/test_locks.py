"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.workspace.locks import locked, try_lock, wait_for_lock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    held = try_lock(tmp_path / "lock")
    assert held is not None
    assert try_lock(tmp_path / "lock") is None
    assert try_lock(tmp_path / "lock", shared=True) is None
    held.release()
    with locked(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None
    again = wait_for_lock(tmp_path / "lock", seconds=0)
    again.release()


def test_shared_holders_stand_side_by_side(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True), locked(tmp_path / "lock", shared=True):
        assert try_lock(tmp_path / "lock") is None


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(MachineError, match="locked by another process"):
        wait_for_lock(tmp_path / "lock", seconds=0.05)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.workspace.locks import try_lock\n"
        "held = try_lock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert try_lock(tmp_path / "lock") is None
        child.kill()
        child.wait()
    with locked(tmp_path / "lock", seconds=0):
        pass


def test_a_file_that_was_replaced_is_not_locked(tmp_path: Path) -> None:
    held = try_lock(tmp_path / "lock")
    assert held is not None
    (tmp_path / "lock").unlink()
    with locked(tmp_path / "lock"):
        pass
    held.release()


def test_a_folder_that_is_gone_and_a_link_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "gone/lock")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(MachineError, match="can't open the lock"):
        try_lock(tmp_path / "link")
    assert not (tmp_path / "target").exists()
