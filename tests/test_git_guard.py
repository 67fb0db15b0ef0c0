"""Keeping `.git` as it was without a mount: what is put back, and what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace import git_guard
from miyabi_cli.workspace.git_guard import GitGuard


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / ".git/refs").mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git/link").symlink_to("HEAD")
    (tmp_path / ".git/refs").chmod(0o500)
    return tmp_path


def test_what_did_not_change_is_left_as_it_is(tree: Path) -> None:
    inode = (tree / ".git/HEAD").stat().st_ino
    with GitGuard().guarding(tree) as change:
        os.utime(tree / ".git/HEAD")
    assert (change.was_undone, (tree / ".git/HEAD").stat().st_ino) == (False, inode)


def test_folders_links_and_modes_are_put_back(tree: Path) -> None:
    with GitGuard().guarding(tree) as change:
        (tree / ".git/refs").chmod(0o700)
        (tree / ".git/refs/new").touch()
        (tree / ".git/link").unlink()
        (tree / ".git/link").mkdir()
    assert change.was_undone
    assert (tree / ".git/link").readlink() == Path("HEAD")
    assert ((tree / ".git/refs").stat().st_mode & 0o777, list((tree / ".git/refs").iterdir())) == (0o500, [])


def test_a_link_in_its_place_is_not_followed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    with GitGuard().guarding(tree) as change:
        (tree / ".git/refs").chmod(0o700)
        (tree / ".git").rename(tree / "away")
        (tree / ".git").symlink_to(elsewhere)
    assert change.was_undone
    assert (tree / ".git/HEAD").read_text() == "ref: refs/heads/main\n"
    assert (elsewhere / "kept").exists()


def test_a_pipe_in_place_of_a_file_does_not_block(tree: Path) -> None:
    with GitGuard().guarding(tree) as change:
        (tree / ".git/HEAD").unlink()
        os.mkfifo(tree / ".git/HEAD")
    assert change.was_undone
    assert (tree / ".git/HEAD").is_file()


def test_it_is_put_back_where_the_command_fails(tree: Path) -> None:
    def fail() -> None:
        with GitGuard().guarding(tree):
            (tree / ".git/HEAD").unlink()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tree / ".git/HEAD").exists()


def test_of_commands_at_once_the_first_ones_view_counts(tree: Path) -> None:
    guard = GitGuard()
    with guard.guarding(tree):
        (tree / ".git/HEAD").write_text("changed")
        with guard.guarding(tree) as second:
            pass
        assert second.was_undone
    assert (tree / ".git/HEAD").read_text() == "ref: refs/heads/main\n"
    (tree / ".git/HEAD").write_text("the host's own change")
    with guard.guarding(tree) as change:
        pass
    assert not change.was_undone


def test_a_tree_without_one_is_left_alone(tmp_path: Path) -> None:
    with GitGuard().guarding(tmp_path) as change:
        (tmp_path / ".git").mkdir()
    assert not change.was_undone
    assert (tmp_path / ".git").is_dir()


def test_one_too_large_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_guard, "_MOST_BYTES", 10)
    with pytest.raises(SandboxError, match="too large to be guarded"), GitGuard().guarding(tree):
        pass
