"""Removing folders that somebody else has filled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.workspace.removal import folder_size, remove_tree


def test_read_only_folders_go_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("")
    (top / "a/link").symlink_to(outside)
    (top / "a/b").chmod(0o000)
    (top / "a").chmod(0o500)
    remove_tree(top)
    assert not top.exists()
    assert (outside / "file").exists()
    assert outside.stat().st_mode & 0o777 == 0o755
    remove_tree(top)


def test_however_deep_folders_are_nested_they_go(tmp_path: Path) -> None:
    """Deeper than Python calls itself, than files may be open, and than a path may be long."""
    top = tmp_path / "top"
    nest = "import os\nfor _ in range(1500): os.mkdir('d' * 100); os.chdir('d' * 100)\nos.mkdir('x', 0)"
    top.mkdir()
    subprocess.run([sys.executable, "-c", nest], cwd=top, check=True)
    remove_tree(top)
    assert not top.exists()


def test_what_the_system_forbids_is_told() -> None:
    with pytest.raises(MachineError, match="can't remove") as error:
        remove_tree(Path("/proc/self/fdinfo"))
    assert "sudo rm -rf" in (error.value.hint or "")


def test_the_size_counts_files_once_and_no_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    (tmp_path / "top/folder").mkdir(parents=True)
    (tmp_path / "top/folder/file").write_bytes(b"x" * 50_000)
    (tmp_path / "top/link").symlink_to(tmp_path / "big")
    (tmp_path / "top/up").symlink_to(tmp_path)
    assert 50_000 <= folder_size(tmp_path / "top") < 100_000
    assert folder_size(tmp_path / "nothing") == 0
