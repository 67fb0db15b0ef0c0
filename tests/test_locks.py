"""Locks between processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.locks import locked, open_lock, take_lock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    assert take_lock(tmp_path / "lock") is None
    assert take_lock(tmp_path / "lock", shared=True) is None
    held.release()
    again = take_lock(tmp_path / "lock")
    assert again is not None
    again.release()


def test_shared_holders_stand_side_by_side(tmp_path: Path) -> None:
    holders = [take_lock(tmp_path / "lock", shared=True) for _ in range(2)]
    assert take_lock(tmp_path / "lock") is None
    for held in holders:
        assert held is not None
        held.release()


def test_who_waits_is_told_once_and_gets_its_turn(tmp_path: Path) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    told: list[str] = []

    def waiting() -> None:
        told.append("waiting")
        asyncio.get_running_loop().call_later(0.1, held.release)

    async def wait() -> None:
        async with locked(tmp_path / "lock", waiting=waiting):
            assert take_lock(tmp_path / "lock") is None

    asyncio.run(asyncio.wait_for(wait(), 30))
    assert told == ["waiting"]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.locks import take_lock\n"
        "held = take_lock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert take_lock(tmp_path / "lock") is None
        child.kill()
        child.wait()
    free = take_lock(tmp_path / "lock")
    assert free is not None
    free.release()


def test_a_file_that_was_replaced_is_not_locked(tmp_path: Path) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    (tmp_path / "lock").unlink()
    other = take_lock(tmp_path / "lock")
    assert other is not None
    other.release()
    held.release()


def test_a_folder_that_is_gone_and_a_link_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        take_lock(tmp_path / "gone/lock")
    with pytest.raises(MachineError, match="can't open the lock"):
        open_lock(tmp_path / "gone/lock")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(MachineError, match="can't open the lock"):
        take_lock(tmp_path / "link")
    assert not (tmp_path / "target").exists()
