"""A snapshot of uncommitted changes: complete, and nothing of the user's is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import open_repository
from miyabi_cli.workspace.snapshots import snapshot_uncommitted
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from miyabi_cli.workspace.worktrees import create_worktree
from tests.support.git_repositories import commit_files, contents, make_repository, run_git

pytest_plugins = ("tests.support.git_fixtures",)


def test_a_clean_working_tree_is_its_head(workspace: Workspace) -> None:
    assert snapshot_uncommitted(workspace) == workspace.repository.head


def test_changes_and_new_files_are_taken_along(project: Path, tmp_path: Path) -> None:
    head = commit_files(project, {".gitignore": "*.log\n", "gone.txt": "", "folder/a": "a"})
    (project / "calc.py").write_text("staged\n")
    run_git("add", "calc.py", cwd=project)
    (project / "calc.py").write_text("and changed again\n")
    (project / "gone.txt").unlink()
    (project / "new folder").mkdir()
    (project / "new folder/ümlaut\n.txt").write_text("new")
    (project / "a.log").write_text("ignored")
    shutil.rmtree(project / "folder")
    (project / "folder").symlink_to("new folder")
    make_repository(project / "nested")
    before, status = contents(project), run_git("status", "--porcelain", cwd=project)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        commit = snapshot_uncommitted(workspace)
        git = Git(workspace.git_dir)
        assert git.run("log", "-1", "--format=%P %an <%ae>%n%s", commit).decode() == (
            f"{head} Ada <ada@example.org>\nUncommitted changes\n"
        )
        tree = create_worktree(workspace, commit, "a").tree
        found = {name for name in contents(tree) if not name.startswith(".git/")}
        assert found == {
            ".git", ".gitignore", "README.md", "calc.py", "folder", "new folder", "new folder/ümlaut\n.txt",
        }  # fmt: skip
        assert (tree / "calc.py").read_text() == "and changed again\n"
        assert run_git("status", "--porcelain", cwd=tree) == ""
        assert run_git("log", "--format=%s", cwd=tree) == "Uncommitted changes\nchange\nfirst"
    assert contents(project) == before
    assert run_git("status", "--porcelain", cwd=project) == status


def test_a_hooks_index_is_not_the_users(project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "calc.py").write_text("changed\n")
    monkeypatch.setenv("GIT_INDEX_FILE", str(project / "no-such-index"))
    monkeypatch.setenv("GIT_DIR", ".git")
    git = Git(workspace.git_dir)
    commit = snapshot_uncommitted(workspace)
    assert git.run("cat-file", "blob", f"{commit}:calc.py") == b"changed\n"


def test_line_endings_and_filters_are_the_users(project: Path, tmp_path: Path) -> None:
    commit_files(project, {".gitattributes": "*.up filter=up\n", "a.txt": "a\n"})
    run_git("config", "--global", "core.autocrlf", "true", cwd=project)
    run_git("config", "--global", "filter.up.clean", "tr a-z A-Z", cwd=project)
    (project / "a.txt").write_bytes(b"b\r\n")
    (project / "b.up").write_bytes(b"shout")
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        commit = snapshot_uncommitted(workspace)
        git = Git(workspace.git_dir)
        assert git.run("cat-file", "blob", f"{commit}:a.txt") == b"b\n"
        assert git.run("cat-file", "blob", f"{commit}:b.up") == b"SHOUT"


def test_conflicts_are_an_error(project: Path, tmp_path: Path) -> None:
    run_git("checkout", "-q", "-b", "side", cwd=project)
    commit_files(project, {"calc.py": "side\n"})
    run_git("checkout", "-q", "main", cwd=project)
    commit_files(project, {"calc.py": "main\n"})
    with pytest.raises(AssertionError, match="merge"):
        run_git("merge", "side", cwd=project)
    with (
        open_workspace(open_repository(project), "r", tmp_path / "w") as workspace,
        pytest.raises(RepositoryError, match=r"calc\.py has conflicts"),
    ):
        snapshot_uncommitted(workspace)


def test_a_clone_without_files_has_no_changes(project: Path, tmp_path: Path) -> None:
    run_git("clone", "-q", "--no-checkout", str(project), "thin", cwd=tmp_path)
    with open_workspace(open_repository(tmp_path / "thin"), "r", tmp_path / "w") as workspace:
        assert snapshot_uncommitted(workspace) == workspace.repository.head
