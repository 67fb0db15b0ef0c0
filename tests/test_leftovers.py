"""`miyabi worktrees list|clean`, and what lies beneath."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miyabi_cli.locks import take_lock
from miyabi_cli.workspace.leftovers import clean_worktrees, list_worktrees
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from miyabi_cli.workspace.worktrees import create_worktree
from tests.conftest import Miyabi
from tests.support.git_repositories import contents

pytest_plugins = ("tests.support.git_fixtures",)


def abandon(workspace: Workspace) -> None:
    """Give up a workspace as a process does that is killed."""
    workspace.lock.release()


@pytest.fixture
def folder(opened: Repository, home: Path) -> Path:
    """A folder with a worktree of each state."""
    folder = home / "cache" / "worktrees"
    dead = open_workspace(opened, "dead", folder)
    create_worktree(dead, opened.head, "whole")
    create_worktree(dead, opened.head, "to-keep").keep()
    abandon(dead)
    with open_workspace(opened, "done", folder) as done:
        create_worktree(done, opened.head, "a").keep()
    return folder


def states(folder: Path) -> dict[tuple[str, str], str]:
    return {(entry.run_id, entry.name): entry.state for entry in list_worktrees(folder)}


def test_the_list_tells_live_from_dead(folder: Path, opened: Repository) -> None:
    expected = {("dead", "to-keep"): "kept", ("dead", "whole"): "left over", ("done", "a"): "kept"}
    assert states(folder) == expected
    with open_workspace(opened, "live", folder) as live:
        create_worktree(live, opened.head, "a")
        assert states(folder) == {**expected, ("live", "a"): "live"}
    (whole,) = [entry for entry in list_worktrees(folder) if entry.name == "whole"]
    assert (whole.repository, whole.base) == (str(opened.root), opened.head)
    assert whole.size_bytes > 4096
    assert list_worktrees(folder / "nothing") == ()


@pytest.mark.parametrize(
    "record",
    [
        '{"repository": 5, "base": [], "created": "then"}',
        '{"repository": null, "created": 1e400}',
        "[" * 200_000,
        '{"repository": {}, "created": -1e308}',
    ],
)
def test_a_damaged_record_is_listed_without_what_it_says(folder: Path, miyabi: Miyabi, record: str) -> None:
    (found,) = folder.glob("*/dead/whole/worktree.json")
    found.write_text(record)
    ran = miyabi("worktrees", "list")
    assert (ran.code, "half-made" in ran.stdout) == (0, True), ran.stderr
    rows = {row["name"]: row for row in json.loads(miyabi("worktrees", "list", "--format", "json").stdout)}
    assert (rows["whole"]["repository"], rows["whole"]["base"], rows["whole"]["created"]) == (None, None, None)


def test_cleaning_removes_what_died(folder: Path) -> None:
    would, _ = clean_worktrees(folder, dry_run=True)
    assert len(states(folder)) == 3
    removed, errors = clean_worktrees(folder)
    assert errors == ()
    assert [(entry.run_id, entry.name) for entry in would] == [(entry.run_id, entry.name) for entry in removed]
    assert states(folder) == {("dead", "to-keep"): "kept", ("done", "a"): "kept"}
    clean_worktrees(folder, kept=True, run_ids=["done"])
    assert states(folder) == {("dead", "to-keep"): "kept"}
    clean_worktrees(folder, kept=True)
    assert list(folder.iterdir()) == []


def test_a_live_run_is_never_cleaned(folder: Path, opened: Repository) -> None:
    with open_workspace(opened, "live", folder) as live:
        worktree = create_worktree(live, opened.head, "a")
        clean_worktrees(folder, kept=True)
        assert states(folder) == {("live", "a"): "live"}
        assert (worktree.tree / "calc.py").exists()


def test_a_half_made_one_is_listed_and_cleaned(folder: Path) -> None:
    (run_folder,) = folder.glob("*/dead")
    (run_folder / "half/tree").mkdir(parents=True)
    (half,) = [entry for entry in list_worktrees(folder) if entry.name == "half"]
    assert (half.state, half.base, half.created) == ("left over", None, None)
    clean_worktrees(folder)
    assert not (run_folder / "half").exists()


def test_folders_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine/thesis/chapter").mkdir(parents=True)
    (tmp_path / "mine/thesis/chapter/text").write_text("")
    before = contents(tmp_path)
    assert clean_worktrees(tmp_path, kept=True) == ((), ())
    assert contents(tmp_path) == before


def test_the_command_lists(folder: Path, miyabi: Miyabi, opened: Repository) -> None:
    listed = miyabi("worktrees", "list", "--format", "json")
    assert listed.code == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert {(row["run_id"], row["name"], row["state"]) for row in rows} == {
        ("dead", "to-keep", "kept"),
        ("dead", "whole", "left over"),
        ("done", "a", "kept"),
    }
    assert all(row["base"] == opened.head and Path(row["path"]).is_dir() for row in rows)
    text = miyabi("worktrees", "list", "--path", str(folder)).stdout
    assert "dead  whole         left over" in text
    assert str(opened.root) in text


def test_the_command_cleans(folder: Path, miyabi: Miyabi) -> None:
    assert "whole" in miyabi("worktrees", "clean", "--dry-run").stdout
    assert "whole" in miyabi("worktrees", "clean").stdout
    again = miyabi("worktrees", "clean")
    assert (again.code, again.stdout, again.stderr) == (0, "", "nothing to remove\n")
    unknown = miyabi("worktrees", "clean", "nosuch")
    assert (unknown.code, unknown.stderr.partition("\n")[0]) == (2, "error: 'nosuch' is no run")
    assert miyabi("worktrees", "clean", "--all", "done").stdout.startswith("done  a ")
    assert miyabi("worktrees", "clean", "--all", "--format", "json").code == 0
    assert miyabi("worktrees", "list", "--format", "json").stdout == "[]\n"


def test_a_list_does_not_disturb_a_start(folder: Path, opened: Repository) -> None:
    (run_folder,) = folder.glob("*/done")
    held = take_lock(run_folder / "lock", shared=True)
    assert held is not None
    assert states(folder)[("done", "a")] == "live"
    held.release()
    open_workspace(opened, "done", folder).close()
