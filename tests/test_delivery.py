"""Delivery: a branch and nothing else, or a change of the working tree that is whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miyabi_cli.errors import PatchConflict, RepositoryError
from miyabi_cli.workspace.delivery import apply_to_working_tree, check_branch, commit_on_branch, unique_branch
from miyabi_cli.workspace.repository import Identity, Repository, open_repository
from miyabi_cli.workspace.sandbox import open_sandbox
from miyabi_cli.workspace.snapshots import snapshot_uncommitted
from miyabi_cli.workspace.staging import Staged, stage
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from miyabi_cli.workspace.worktrees import create_worktree, remove_worktree
from tests.support.git_repositories import commit_files, contents, run_git

pytest_plugins = ("tests.support.git_fixtures",)

ADA = Identity("Ada Lovelace", "ada@example.org")
FIXED = "def add(a, b):\n    return a + b\n"
MESSAGE = "Fix add\n\nIt subtracted: größer.\n\nAssisted-by: miyabi (some model)\n"


def staged_with(workspace: Workspace, files: dict[str, str | bytes | None], base: str | None = None) -> Staged:
    """Return what an agent's work comes to that writes these files; None deletes one."""
    worktree = create_worktree(workspace, base or workspace.repository.head, "agent")
    for name, content in files.items():
        path = worktree.tree / name
        if content is None:
            path.unlink()
            with contextlib.suppress(OSError):  # other files are in it
                path.parent.rmdir()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sandbox = open_sandbox("off", repository=workspace.repository.root, environ=dict(os.environ))
    staged = asyncio.run(stage(worktree, sandbox))
    remove_worktree(worktree)
    return staged


def deliver(workspace: Workspace, staged: Staged, branch: str = "miyabi/fix-1") -> str:
    return commit_on_branch(workspace, staged, base=staged.base, branch=branch, message=MESSAGE, author=ADA)


def untouched(project: Path) -> dict[str, bytes]:
    """Return all of the repository that a delivery must leave alone: everything but objects and new branches."""
    return {
        name: data
        for name, data in contents(project).items()
        if not name.startswith((".git/objects", ".git/refs/heads/miyabi", ".git/logs/refs/heads/miyabi"))
    }


def test_a_commit_on_a_new_branch(project: Path, workspace: Workspace) -> None:
    (project / "README.md").write_text("the user's own change, staged")
    run_git("add", "README.md", cwd=project)
    (project / "README.md").write_text("and one that is not")
    before = untouched(project)
    commit = deliver(workspace, staged_with(workspace, {"calc.py": FIXED, "new.txt": "new\n"}))
    assert untouched(project) == before
    assert run_git("rev-parse", "miyabi/fix-1", cwd=project) == commit
    shown = run_git("log", "-1", "--format=%P|%an|%ae|%cn|%ce|%G?|%B", commit, cwd=project).split("|")
    assert shown == [workspace.repository.head, *[ADA.name, ADA.email] * 2, "N", MESSAGE.strip()]
    assert run_git("log", "-1", "--format=%(trailers:key=Assisted-by)", commit, cwd=project) == (
        "Assisted-by: miyabi (some model)"
    )
    assert run_git("diff", "--name-status", "main", commit, cwd=project) == "M\tcalc.py\nA\tnew.txt"
    assert "Ada Lovelace <ada@example.org>" in (project / ".git/logs/refs/heads/miyabi/fix-1").read_text()


def test_the_branch_is_whole_when_the_run_is_gone(opened: Repository, tmp_path: Path) -> None:
    with open_workspace(opened, "r", tmp_path / "w") as workspace:
        many = {f"many/{number}.txt": f"{number}\n" for number in range(150)}
        commit = deliver(workspace, staged_with(workspace, {"calc.py": FIXED, **many}))
    assert not workspace.folder.exists()
    run_git("fsck", "--strict", "--no-dangling", cwd=opened.root)
    run_git("checkout", "-q", commit, cwd=opened.root)
    assert (opened.root / "many/149.txt").read_text() == "149\n"


def test_hooks_signing_and_templates_of_the_users_do_nothing(
    project: Path, workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("reference-transaction", "post-commit", "commit-msg"):
        (project / f".git/hooks/{name}").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (project / f".git/hooks/{name}").chmod(0o755)
    run_git("config", "commit.gpgSign", "true", cwd=project)
    run_git("config", "gpg.program", f"{tmp_path}/none", cwd=project)
    deliver(workspace, staged_with(workspace, {"calc.py": FIXED}))
    assert not (tmp_path / "ran").exists()


def test_uncommitted_changes_come_as_a_commit_of_their_own(project: Path, workspace: Workspace) -> None:
    (project / "README.md").write_text("mine\n")
    before = untouched(project)
    base = snapshot_uncommitted(workspace)
    commit = deliver(workspace, staged_with(workspace, {"calc.py": FIXED}, base))
    assert run_git("log", "--format=%s", commit, cwd=project) == "Fix add\nUncommitted changes\nfirst"
    assert run_git("show", "--format=", "--name-only", commit, cwd=project) == "calc.py"
    assert untouched(project) == before


def test_an_older_base(project: Path, tmp_path: Path) -> None:
    base = run_git("rev-parse", "HEAD", cwd=project)
    commit_files(project, {"later.txt": ""})
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        commit = deliver(workspace, staged_with(workspace, {"calc.py": FIXED}, base))
    assert run_git("rev-parse", f"{commit}^", cwd=project) == base
    run_git("fsck", "--no-dangling", cwd=project)


def test_in_a_hook_and_in_a_linked_worktree(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"), cwd=project)
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(project / ".git/index"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Nobody")
    before = untouched(project)
    with open_workspace(open_repository(tmp_path / "side"), "r", tmp_path / "w") as workspace:
        commit = deliver(workspace, staged_with(workspace, {"calc.py": FIXED}))
    assert untouched(project) == before
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_AUTHOR_NAME"):
        monkeypatch.delenv(name)
    assert run_git("log", "-1", "--format=%an", "miyabi/fix-1", cwd=project) == "Ada Lovelace"
    assert run_git("rev-parse", "miyabi/fix-1", cwd=tmp_path / "side") == commit


def test_an_existing_branch_stays(workspace: Workspace, project: Path) -> None:
    staged = staged_with(workspace, {"calc.py": FIXED})
    first = deliver(workspace, staged)
    with pytest.raises(RepositoryError, match="the branch miyabi/fix-1 exists already"):
        deliver(workspace, staged)
    assert run_git("rev-parse", "miyabi/fix-1", cwd=project) == first


def test_a_branch_in_the_way(project: Path, workspace: Workspace) -> None:
    run_git("branch", "miyabi", cwd=project)
    staged = staged_with(workspace, {"calc.py": FIXED})
    with pytest.raises(RepositoryError, match="can't make the branch miyabi/fix-1") as error:
        deliver(workspace, staged)
    assert "--branch" in (error.value.hint or "")
    name = unique_branch(workspace.repository, "Fix add", "ab12")
    assert name == "miyabi-fix-add-ab12"
    deliver(workspace, staged, name)


def test_many_deliveries_at_once(workspace: Workspace, project: Path) -> None:
    staged = staged_with(workspace, {"calc.py": FIXED})
    with ThreadPoolExecutor(8) as pool:
        commits = set(pool.map(lambda number: deliver(workspace, staged, f"miyabi/fix-{number}"), range(16)))
    assert len(run_git("branch", "--list", "miyabi/*", cwd=project).splitlines()) == 16
    assert commits


@pytest.mark.parametrize("name", ["-f", "", "a b", "a..b", "a.lock", "HEAD", "refs/heads/x", "/a", "a\n", "@{x}"])
def test_names_that_no_branch_can_have(opened: Repository, name: str) -> None:
    with pytest.raises(RepositoryError, match="not a name of a branch"):
        check_branch(opened, name)


@pytest.mark.parametrize(
    ("text", "run", "branch"),
    [
        ("Fix the failing test", "1a2b", "miyabi/fix-the-failing-test-1a2b"),
        ("Größe & Übergänge: behebe!", "x", "miyabi/groe-ubergange-behebe-x"),
        ("修正", "1a2b", "miyabi/1a2b"),
        ("--upload-pack=x; rm -rf /", "1", "miyabi/upload-pack-x-rm-rf-1"),
        ("word " * 30, "1", "miyabi/word-word-word-word-word-word-word-word-1"),
        ("x" * 200, "1", "miyabi/" + "x" * 40 + "-1"),
        ("..", "", "miyabi/change"),
    ],
)
def test_names_of_branches(opened: Repository, text: str, run: str, branch: str) -> None:
    assert unique_branch(opened, text, run) == branch
    check_branch(opened, branch)


def test_a_name_is_given_once(opened: Repository) -> None:
    run_git("branch", "miyabi/fix-1", cwd=opened.root)
    assert unique_branch(opened, "fix", "1") == "miyabi/fix-1-2"


def test_applying_changes_files_alone(project: Path, tmp_path: Path) -> None:
    base = {"data.bin": "\x00\x01", "old.txt": "moved\n" * 20, "gone.txt": "gone\n"}
    commit_files(project, base)
    (project / "README.md").write_text("the user's own")
    (project / "mine.txt").write_text("mine")
    run_git("add", "mine.txt", cwd=project)
    index = (project / ".git/index").read_bytes()
    work: dict[str, str | bytes | None] = {
        "calc.py": FIXED,
        "data.bin": b"\x00\x02\xff" * 1000,
        "gone.txt": None,
        "old.txt": None,
        "sub/ümlaut dir/moved\n.txt": "moved\n" * 20,
    }
    with open_workspace(open_repository(project / ".git/.."), "r", tmp_path / "w") as workspace:
        staged = staged_with(workspace, work)
    apply_to_working_tree(open_repository(project), staged.patch)
    for name, content in work.items():
        if content is None:
            assert not (project / name).exists()
        else:
            assert (project / name).read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert (project / "README.md").read_text() == "the user's own"
    assert (project / ".git/index").read_bytes() == index
    apply_to_working_tree(open_repository(project), b"")


def test_applying_where_lines_end_in_crlf(project: Path, tmp_path: Path) -> None:
    commit_files(project, {"a.txt": "a\nb\nc\n"})
    run_git("config", "--global", "core.autocrlf", "true", cwd=project)
    (project / "a.txt").unlink()
    run_git("checkout", "-q", "a.txt", cwd=project)
    assert (project / "a.txt").read_bytes() == b"a\r\nb\r\nc\r\n"
    opened = open_repository(project)
    with open_workspace(opened, "r", tmp_path / "w") as workspace:
        staged = staged_with(workspace, {"a.txt": b"a\r\nB\r\nc\r\n", "new.txt": b"n\r\n"})
    apply_to_working_tree(opened, staged.patch)
    assert (project / "a.txt").read_bytes() == b"a\r\nB\r\nc\r\n"
    assert run_git("diff", "--stat", "--", "a.txt", cwd=project).endswith("1 insertion(+), 1 deletion(-)")


def test_changes_that_overlap_are_a_conflict(project: Path, workspace: Workspace) -> None:
    staged = staged_with(workspace, {"calc.py": FIXED, "README.md": "# other\n", "new.txt": "new\n"})
    (project / "calc.py").write_text("def add(a, b):\n    return 0\n")
    before = contents(project)
    with pytest.raises(PatchConflict, match=r"the patch does not fit your files: calc\.py") as error:
        apply_to_working_tree(workspace.repository, staged.patch)
    assert "--apply" in (error.value.hint or "")
    assert contents(project) == before
    run_git("checkout", "-q", "calc.py", cwd=project)
    (project / "new.txt").write_text("the user's")
    with pytest.raises(PatchConflict, match=r"new\.txt: already exists"):
        apply_to_working_tree(workspace.repository, staged.patch)


TRADED: dict[str, str | bytes | None] = {"t/x": None, "t": "t\n", "u": None, "u/y": "y\n"}


def test_files_and_folders_trade_places(project: Path, tmp_path: Path) -> None:
    commit_files(project, {"t/x": "x\n", "u": "u\n"})
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        staged = staged_with(workspace, TRADED)
    apply_to_working_tree(open_repository(project), staged.patch)
    assert ((project / "t").read_text(), (project / "u/y").read_text()) == ("t\n", "y\n")


def test_what_fails_half_way_is_put_back(project: Path, tmp_path: Path) -> None:
    commit_files(project, {"a/one.txt": "1\n", "z/two.txt": "2\n", "run.sh": "x\n", "t/x": "x\n", "u": "u\n"})
    (project / "run.sh").chmod(0o755)
    (project / "run.sh").unlink()
    (project / "run.sh").symlink_to("calc.py")
    commit_files(project, {})
    opened = open_repository(project)
    work: dict[str, str | bytes | None] = {
        "a/one.txt": "one\n",
        "a/new.txt": "n\n",
        "run.sh": None,
        "z/two.txt": "two\n",
        **TRADED,
    }
    with open_workspace(opened, "r", tmp_path / "w") as workspace:
        staged = staged_with(workspace, work)
    before = {name: data for name, data in contents(project).items() if not name.startswith(".git/")}
    # Root writes everywhere but into what is immutable; so the folder is made a mount that can't be written.
    script = 'mount --bind z z && mount -o remount,ro,bind z && exec "$@"'
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.errors import MiyabiError\n"
        "from miyabi_cli.workspace.delivery import apply_to_working_tree\n"
        "from miyabi_cli.workspace.repository import open_repository\n"
        "try:\n    apply_to_working_tree(open_repository(Path('.')), Path(sys.argv[1]).read_bytes())\n"
        "except MiyabiError as error:\n    print(type(error).__name__, error.message)\n"
    )
    (tmp_path / "patch").write_bytes(staged.patch)
    argv = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        [*argv, sys.executable, "-c", code, str(tmp_path / "patch")],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("RepositoryError git apply: "), done.stderr
    assert {name: data for name, data in contents(project).items() if not name.startswith(".git/")} == before


def test_filters_do_not_run_on_what_the_patch_brings(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    """A14: the patch sends its own file through the user's filter."""
    evil = f"touch {tmp_path}/ran; cat"
    run_git("config", "--global", "filter.lfs.smudge", evil, cwd=project)
    run_git("config", "filter.lfs.clean", evil, cwd=project)
    run_git("config", "filter.my.own.process", f"touch {tmp_path}/ran", cwd=project)
    run_git("config", "filter.lfs.required", "true", cwd=project)
    staged = staged_with(
        workspace, {".gitattributes": "*.a filter=lfs\n*.b filter=my.own\n", "x.a": "a\n", "x.b": "b\n"}
    )
    apply_to_working_tree(workspace.repository, staged.patch)
    (project / ".gitattributes").write_text("*.a filter=lfs\n*.b filter=my.own\n")
    apply_to_working_tree(workspace.repository, _edit("x.a", "a", "A") + _edit("x.b", "b", "B"))
    assert (project / "x.a").read_text() == "A\n"
    assert not (tmp_path / "ran").exists()


def _edit(name: str, old: str, new: str) -> bytes:
    return f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{old}\n+{new}\n".encode()


@pytest.mark.parametrize("name", ["../outside.txt", ".git/hooks/pre-commit", ".GIT/config"])
def test_paths_that_no_patch_may_touch(project: Path, opened: Repository, name: str) -> None:
    before, beside = contents(project), sorted(project.parent.iterdir())
    patch = f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n".encode()
    with pytest.raises(PatchConflict):
        apply_to_working_tree(opened, patch)
    assert (contents(project), sorted(project.parent.iterdir())) == (before, beside)
