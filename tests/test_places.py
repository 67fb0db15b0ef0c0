"""Where miyabi keeps its files, and that they are written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.places import cache_dir, config_dir, data_dir, write_whole


def test_folders_are_the_user_s_own_and_moved_by_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"MIYABI_{name}_DIR", str(tmp_path / name))
    assert data_dir("a", "b") == tmp_path / "DATA/a/b"
    assert (tmp_path / "DATA/a/b").stat().st_mode & 0o777 == 0o700
    assert cache_dir().is_dir()
    assert config_dir() == tmp_path / "CONFIG"
    assert not config_dir().exists()


def test_a_folder_that_can_not_be_made_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="can't make") as raised:
        data_dir("runs")
    assert raised.value.hint == "set MIYABI_DATA_DIR to a writable folder"


def test_a_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MachineError, match="can't write"):
        write_whole(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(MachineError, match="can't write"):
        write_whole(tmp_path / "gone/file", b"x")
