"""Finding and reading the user's repository, in every shape that one can have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.repository import NOBODY, Identity, identity, open_repository, resolve, uncommitted
from tests.support.git_repositories import commit_files, make_repository, run_git

pytest_plugins = ("tests.support.git_fixtures",)


def test_a_plain_repository(project: Path) -> None:
    opened = open_repository(project)
    assert (opened.root, opened.git_dir, opened.common_dir) == (project, project / ".git", project / ".git")
    assert opened.head == run_git("rev-parse", "HEAD", cwd=project)
    assert (opened.branch, opened.object_format) == ("main", "sha1")
    assert opened.object_directories == (project / ".git/objects",)


def test_a_subfolder(project: Path) -> None:
    (project / "a/b").mkdir(parents=True)
    assert open_repository(project / "a/b").root == project


def test_a_detached_head(project: Path) -> None:
    run_git("checkout", "-q", "--detach", cwd=project)
    assert open_repository(project).branch is None


def test_a_linked_worktree(project: Path, tmp_path: Path) -> None:
    run_git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"), cwd=project)
    opened = open_repository(tmp_path / "side")
    assert (opened.root, opened.branch) == (tmp_path / "side", "side")
    assert opened.git_dir == project / ".git/worktrees/side"
    assert opened.common_dir == project / ".git"
    assert opened.object_directories == (project / ".git/objects",)


def test_a_submodule(project: Path, tmp_path: Path) -> None:
    parent = make_repository(tmp_path / "parent")
    run_git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project), "sub", cwd=parent)
    opened = open_repository(parent / "sub")
    assert (opened.root, opened.git_dir) == (parent / "sub", parent / ".git/modules/sub")


@pytest.mark.parametrize("name", ["with space", "ümlaut", "new\nline", "next\x85line"])
def test_a_folder_of_any_name(user: Path, tmp_path: Path, name: str) -> None:
    project = make_repository(tmp_path / name)
    opened = open_repository(project)
    assert (opened.root, opened.git_dir) == (project, project / ".git")


def test_bare_bones_clones(project: Path, tmp_path: Path) -> None:
    commit_files(project, {"second.txt": "2"})
    run_git("clone", "-q", "--depth=1", "--no-checkout", project.as_uri(), str(tmp_path / "thin"), cwd=tmp_path)
    opened = open_repository(tmp_path / "thin")
    assert opened.head == run_git("rev-parse", "HEAD", cwd=project)
    with pytest.raises(RepositoryError, match="no commit is named HEAD~1") as error:
        resolve(opened, "HEAD~1")
    assert "unshallow" in (error.value.hint or "")


def test_a_sha256_repository(user: Path, tmp_path: Path) -> None:
    run_git("init", "-q", "--object-format=sha256", "new", cwd=tmp_path)
    head = commit_files(tmp_path / "new", {"a": "a"})
    opened = open_repository(tmp_path / "new")
    assert (opened.object_format, opened.head, len(head)) == ("sha256", head, 64)


def test_borrowed_objects_are_followed_to_the_end(project: Path, tmp_path: Path) -> None:
    run_git("clone", "-q", "--shared", str(project), "b: 2", cwd=tmp_path)
    run_git("clone", "-q", "--shared", "b: 2", "c", cwd=tmp_path)
    (tmp_path / "c/.git/objects/info/alternates").write_text(
        '# a comment\n"../../../b\\072 2/.git/objects"\n/nowhere\n'
    )
    found = open_repository(tmp_path / "c").object_directories
    assert found == tuple(folder / ".git/objects" for folder in (tmp_path / "c", tmp_path / "b: 2", project))


def test_in_a_hook_the_repository_at_hand_counts(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    (project / "new.txt").write_text("new")
    opened = open_repository(project)
    assert opened.root == project
    assert uncommitted(opened) == ("new.txt",)


def _missing(folder: Path) -> Path:
    return folder / "missing"


def _plain_folder(folder: Path) -> Path:
    return folder


def _empty(folder: Path) -> Path:
    run_git("init", "-q", "-b", "main", "empty", cwd=folder)
    return folder / "empty"


def _bare(folder: Path) -> Path:
    run_git("init", "-q", "--bare", "bare.git", cwd=folder)
    return folder / "bare.git"


def _git_dir(folder: Path) -> Path:
    return make_repository(folder / "with") / ".git"


def _broken_head(folder: Path) -> Path:
    root = make_repository(folder / "broken")
    (root / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    return root


def _broken_config(folder: Path) -> Path:
    root = make_repository(folder / "config")
    (root / ".git/config").write_text("[core\n")
    return root


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (_missing, "is not a folder", "--repo"),
        (_plain_folder, "is not in a git repository", "--repo"),
        (_empty, "has no commit yet", "git commit"),
        (_bare, "is a bare repository", "clone"),
        (_git_dir, "is inside a .git directory", "--repo"),
        (_broken_head, "HEAD can't be read", "git fsck"),
        (_broken_config, "bad config", ""),
    ],
)
def test_what_can_not_be_used(
    user: Path, tmp_path: Path, make: Callable[[Path], Path], message: str, hint: str
) -> None:
    with pytest.raises(RepositoryError, match=message) as error:
        open_repository(make(tmp_path))
    assert hint in (error.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_repository_of_another_user(project: Path) -> None:
    for path in (project, project / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(RepositoryError, match="belongs to another user") as error:
        open_repository(project)
    assert f"safe.directory {project}" in (error.value.hint or "")
    run_git("config", "--global", "--add", "safe.directory", str(project), cwd=project.parent)
    assert open_repository(project).root == project


def test_revisions(project: Path) -> None:
    first = run_git("rev-parse", "HEAD", cwd=project)
    run_git("tag", "-a", "-m", "one", "v1", cwd=project)
    commit_files(project, {"b": "b"})
    opened = open_repository(project)
    assert resolve(opened, "v1") == resolve(opened, "HEAD~1") == resolve(opened, first[:10]) == first
    for wrong in ("nothing", "HEAD:b", "--all"):
        with pytest.raises(RepositoryError):
            resolve(opened, wrong)


def test_uncommitted_changes(project: Path) -> None:
    opened = open_repository(project)
    assert uncommitted(opened) == ()
    (project / ".gitignore").write_text("*.log\n")
    (project / "a.log").write_text("")
    (project / "README.md").unlink()
    (project / "calc.py").write_text("changed")
    (project / "new").mkdir()
    (project / "new/nä me\n.txt").write_text("")
    run_git("add", "calc.py", cwd=project)
    index = (project / ".git/index").read_bytes()
    assert set(uncommitted(opened)) == {".gitignore", "README.md", "calc.py", "new/"}
    assert (project / ".git/index").read_bytes() == index


def test_the_identity_is_the_users(project: Path) -> None:
    opened = open_repository(project)
    assert identity(opened, {}) == Identity("Ada", "ada@example.org")
    run_git("config", "user.name", "Ada of this project", cwd=project)
    assert identity(opened, {}).name == "Ada of this project"


def test_the_identity_of_a_hooks_commit_is_not_the_users(project: Path) -> None:
    opened = open_repository(project)
    variables = {"GIT_AUTHOR_NAME": "Bob", "GIT_AUTHOR_EMAIL": "bob@example.org"}
    assert identity(opened, variables) == Identity("Bob", "bob@example.org")
    assert identity(opened, {**variables, "GIT_INDEX_FILE": ".git/index"}).name == "Ada"


def test_without_an_identity_miyabi_stands_in(project: Path) -> None:
    opened = open_repository(project)
    run_git("config", "--global", "--unset", "user.email", cwd=project)
    run_git("config", "--global", "user.useConfigOnly", "true", cwd=project)
    assert identity(opened, {}) == NOBODY
    assert not NOBODY.configured
