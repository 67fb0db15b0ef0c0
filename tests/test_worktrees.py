"""Worktrees: their files, their git directory, and that the user's repository never hears of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.repository import Repository, open_repository
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from miyabi_cli.workspace.worktrees import create_worktree, open_worktree, remove_worktree
from tests.support.git_repositories import commit_files, contents, make_repository, run_git

pytest_plugins = ("tests.support.git_fixtures",)

ROOT = Path(__file__).parent.parent
ODD_NAMES = {
    "with space.txt": "1\n",
    "ümlaut/日本.txt": "2\n",
    "new\nline.txt": "3\n",
    '"quoted"\\.txt': "4\n",
    "\udcff.bin": "5\n",
}


def files_of(tree: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(tree).items() if not name.startswith(".git/") and name != ".git"}


def test_the_files_are_those_of_the_commit(project: Path, workspace: Workspace) -> None:
    commit_files(project, ODD_NAMES)
    (project / "link").symlink_to("calc.py")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    head = commit_files(project, {})
    (project / "calc.py").write_text("not committed")
    tree = create_worktree(workspace, head, "a").tree
    run_git("checkout", "-q", "calc.py", cwd=project)
    assert files_of(tree) == files_of(project)
    assert os.access(tree / "run.sh", os.X_OK)
    assert run_git("status", "--porcelain", cwd=tree) == ""


def test_git_reads_in_the_worktree(project: Path, opened: Repository, tmp_path: Path) -> None:
    run_git("tag", "-a", "-m", "one", "v1.0", cwd=project)
    head = commit_files(project, {"calc.py": "def add(a, b):\n    return a + b\n"}, "second")
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        assert run_git("log", "--format=%s", cwd=tree) == "second\nfirst"
        assert run_git("describe", cwd=tree).startswith("v1.0-1-g")
        assert run_git("branch", "--show-current", cwd=tree) == ""
        assert run_git("rev-parse", "main", cwd=tree) == head
        assert "return a + b" in run_git("show", cwd=tree)
        assert "(Ada" in run_git("blame", "calc.py", cwd=tree)
        (tree / "calc.py").write_text("other\n")
        assert "+other" in run_git("diff", cwd=tree)
        assert run_git("remote", cwd=tree) == ""


def test_tags_made_after_the_base_do_not_show(project: Path, workspace: Workspace) -> None:
    base = run_git("rev-parse", "HEAD", cwd=project)
    (project / "fix").write_text("")
    run_git("add", "fix", cwd=project)
    run_git("commit", "-q", "-m", "fix", cwd=project)
    later = {"GIT_COMMITTER_DATE": "2099-01-01T00:00:00Z"}
    run_git("commit", "-q", "--amend", "--no-edit", cwd=project, env=later)
    run_git("tag", "fixed", cwd=project)
    run_git("tag", "begun", base, cwd=project)
    assert run_git("tag", cwd=create_worktree(workspace, base, "a").tree) == "begun"


def test_no_secret_no_hook_no_branch_of_the_users(project: Path, tmp_path: Path) -> None:
    run_git("remote", "add", "origin", "https://user:canary@example.org/x.git", cwd=project)
    run_git("config", "http.extraHeader", "Authorization: canary", cwd=project)
    (project / ".git/hooks/post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (project / ".git/hooks/post-checkout").chmod(0o755)
    run_git("branch", "secret-plan", cwd=project)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        worktree = create_worktree(workspace, workspace.repository.head, "a")
        for private in (worktree.tree / ".git", workspace.git_dir):
            held = contents(private)
            assert not any(b"canary" in data for data in held.values())
            assert not any("hooks" in name for name in held)
        assert run_git("for-each-ref", "--format=%(refname)", cwd=worktree.tree) == "refs/heads/main"
    assert not (tmp_path / "ran").exists()


def test_no_filter_runs_on_checkout(project: Path, tmp_path: Path) -> None:
    run_git("config", "--global", "filter.evil.smudge", f"touch {tmp_path}/ran; cat", cwd=project)
    (project / ".gitattributes").write_text("*.big filter=evil\n*.huge filter=local\n")
    head = commit_files(project, {"a.big": "pointer\n", "b.huge": "pointer\n"})
    run_git("config", "filter.local.process", f"touch {tmp_path}/ran", cwd=project)
    (tmp_path / "ran").unlink(missing_ok=True)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        assert (tree / "a.big").read_text() == "pointer\n"
    assert not (tmp_path / "ran").exists()


def test_line_endings_are_the_users(project: Path, tmp_path: Path) -> None:
    head = commit_files(project, {"unix.txt": "a\nb\n"})
    run_git("config", "--global", "core.autocrlf", "true", cwd=project)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        assert (tree / "unix.txt").read_bytes() == b"a\r\nb\r\n"
        assert run_git("status", "--porcelain", cwd=tree) == ""


def test_what_checks_leave_behind_is_ignored(project: Path, tmp_path: Path) -> None:
    head = commit_files(project, {"Cargo.toml": "", "venv/tracked.txt": "it is tracked\n", ".gitignore": "*.log\n"})
    (project / ".git/info/exclude").write_text("mine.txt\n")
    run_git("config", "--global", "core.excludesFile", "~/ignored", cwd=project)
    (tmp_path / "home/ignored").write_text("global.txt\n")
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        ignored = (
            "pkg/__pycache__/a.cpython-311.pyc", ".pytest_cache/v", "a.egg-info/PKG-INFO", "target/debug/x", "a.log",
            "node_modules/x/index.js", ".venv/bin/python", "mine.txt", "global.txt", ".coverage",
        )  # fmt: skip
        for name in (*ignored, "venv/new.txt", "kept.txt"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("")
        new = run_git("status", "--porcelain", "-uall", cwd=tree)
        assert new.split("\n") == ["?? kept.txt", "?? venv/new.txt"]


def test_target_is_ignored_only_where_a_build_makes_it(workspace: Workspace) -> None:
    tree = create_worktree(workspace, workspace.repository.head, "a").tree
    (tree / "target").mkdir()
    (tree / "target/new.txt").write_text("")
    assert run_git("status", "--porcelain", cwd=tree) == "?? target/"


@pytest.mark.parametrize("objects", ["sha1", "sha256"])
def test_object_formats(user: Path, tmp_path: Path, objects: str) -> None:
    run_git("init", "-q", f"--object-format={objects}", "new", cwd=tmp_path)
    head = commit_files(tmp_path / "new", {"a": "a"})
    with open_workspace(open_repository(tmp_path / "new"), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        assert run_git("rev-parse", "HEAD", cwd=tree) == head
        assert run_git("status", "--porcelain", cwd=tree) == ""


def test_borrowed_shallow_and_linked_repositories(project: Path, tmp_path: Path) -> None:
    head = commit_files(project, {"b": "b"})
    run_git("clone", "-q", "--shared", str(project), "shared", cwd=tmp_path)
    run_git("clone", "-q", "--depth=1", "--no-checkout", project.as_uri(), "shallow", cwd=tmp_path)
    run_git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), cwd=project)
    for name in ("shared", "shallow", "linked"):
        with open_workspace(open_repository(tmp_path / name), "r", tmp_path / "w") as workspace:
            tree = create_worktree(workspace, head, "a").tree
            assert files_of(tree) == files_of(project), name
            assert run_git("log", "--format=%s", cwd=tree).startswith("change"), name
            assert run_git("status", "--porcelain", cwd=tree) == ""


def test_a_partial_clone_that_lacks_files_says_so(project: Path, tmp_path: Path) -> None:
    run_git("config", "uploadpack.allowFilter", "true", cwd=project)
    run_git("clone", "-q", "--filter=blob:none", "--no-checkout", project.as_uri(), "partial", cwd=tmp_path)
    opened = open_repository(tmp_path / "partial")
    with (
        open_workspace(opened, "r", tmp_path / "w") as workspace,
        pytest.raises(RepositoryError, match="partial clone") as error,
    ):
        create_worktree(workspace, opened.head, "a")
    assert "--refetch" in (error.value.hint or "")
    assert list((tmp_path / "w").iterdir()) == []


def test_submodules_are_empty_folders(project: Path, tmp_path: Path) -> None:
    parent = make_repository(tmp_path / "parent")
    run_git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project), "sub", cwd=parent)
    head = commit_files(parent, {})
    with open_workspace(open_repository(parent), "r", tmp_path / "w") as workspace:
        tree = create_worktree(workspace, head, "a").tree
        assert list((tree / "sub").iterdir()) == []
        assert run_git("status", "--porcelain", cwd=tree) == ""


def test_ignored_files_are_copied_on_request(project: Path, tmp_path: Path) -> None:
    head = commit_files(project, {".gitignore": ".env*\ndata/\n"})
    for name in (".env", ".env.test", "data/deep/rows.csv", "not-ignored.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / "data/deep/run.sh").write_text("#!/bin/sh\n")
    (project / "data/deep/run.sh").chmod(0o755)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        worktree = create_worktree(workspace, head, "a", include=[".env.*", "data/**", "not-ignored.txt"])
        assert set(worktree.included) == {".env.test", "data/deep/rows.csv", "data/deep/run.sh"}
        assert (worktree.tree / "data/deep/rows.csv").read_text() == "data/deep/rows.csv"
        assert os.access(worktree.tree / "data/deep/run.sh", os.X_OK)
        assert not (worktree.tree / ".env").exists()
        assert not (worktree.tree / "not-ignored.txt").exists()


def test_switching_makes_the_files_those_of_another_commit(project: Path, workspace: Workspace) -> None:
    base = workspace.repository.head
    other = commit_files(
        project, {"calc.py": "def add(a, b):\n    return a + b\n", "new/file.txt": "new\n", **ODD_NAMES}
    )
    worktree = create_worktree(workspace, base, "a")
    tree = worktree.tree
    before = files_of(tree)
    (tree / "__pycache__").mkdir()
    for name in ("calc", "calc_more"):
        (tree / f"__pycache__/{name}.cpython-311.pyc").write_text("old")
    (tree / "calc.py").write_text("spoilt by a check")
    (tree / "README.md").unlink()
    (tree / "left/behind").mkdir(parents=True)
    (tree / "left/behind/file").write_text("")
    make_repository(tree / "nested")
    worktree.switch(other)
    assert files_of(tree) == files_of(project) | {
        "__pycache__": b"/",
        "__pycache__/calc_more.cpython-311.pyc": b"old",
    }
    shutil.rmtree(tree / "__pycache__")
    worktree.switch(base)
    assert files_of(tree) == before
    worktree.switch(run_git("rev-parse", f"{other}^{{tree}}", cwd=project))
    assert files_of(tree) == files_of(project)


def test_switching_leaves_what_a_link_leads_to(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    base = commit_files(project, {"pkg/mod.py": "a = 1\n"})
    other = commit_files(project, {"pkg/mod.py": "a = 2\n"})
    outside = tmp_path / "outside"
    (outside / "__pycache__").mkdir(parents=True)
    (outside / "__pycache__/mod.cpython-311.pyc").write_text("theirs")
    (outside / "precious.txt").write_text("theirs")
    worktree = create_worktree(workspace, base, "a")
    shutil.rmtree(worktree.tree / "pkg")
    (worktree.tree / "pkg").symlink_to(outside)
    worktree.switch(other)
    (worktree.tree / "pkg/__pycache__").symlink_to(outside / "__pycache__")
    worktree.switch(base)
    assert (worktree.tree / "pkg/mod.py").read_text() == "a = 1\n"
    assert set(contents(outside)) == {"__pycache__", "__pycache__/mod.cpython-311.pyc", "precious.txt"}


def test_a_replaced_git_directory_is_not_written(workspace: Workspace, tmp_path: Path) -> None:
    worktree = create_worktree(workspace, workspace.repository.head, "a")
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(worktree.tree / ".git")
    (worktree.tree / ".git").symlink_to(tmp_path / "elsewhere")
    worktree.switch(workspace.repository.head)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (worktree.tree / ".git").unlink()
    (worktree.tree / ".git/index").mkdir(parents=True)
    worktree.switch(workspace.repository.head)
    assert list((worktree.tree / ".git/index").iterdir()) == []


def test_names_and_doubles_are_refused(workspace: Workspace) -> None:
    head = workspace.repository.head
    create_worktree(workspace, head, "a")
    with pytest.raises(RepositoryError, match="has a worktree a already"):
        create_worktree(workspace, head, "a")
    for name in ("", "../a", "git", "lock", ".hidden", "a/b"):
        with pytest.raises(RepositoryError, match="not a name of a worktree"):
            create_worktree(workspace, head, name)
    with pytest.raises(RepositoryError):
        create_worktree(workspace, "1" * 40, "b")
    assert not (workspace.folder / "b").exists()


def test_removal_also_of_what_is_read_only(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("")
    worktree = create_worktree(workspace, workspace.repository.head, "a")
    deep = worktree.tree / "deep/er"
    deep.mkdir(parents=True)
    (deep / "file").write_text("")
    (deep / "link").symlink_to(tmp_path / "outside")
    deep.chmod(0o000)
    (worktree.tree / "deep").chmod(0o555)
    remove_worktree(worktree)
    assert not worktree.folder.exists()
    assert (tmp_path / "outside/file").exists()
    remove_worktree(worktree)


def test_a_run_leaves_nothing_but_what_it_keeps(opened: Repository, tmp_path: Path) -> None:
    with open_workspace(opened, "gone", tmp_path / "w") as workspace:
        create_worktree(workspace, opened.head, "a")
    assert list((tmp_path / "w").iterdir()) == []
    with open_workspace(opened, "kept", tmp_path / "w") as workspace:
        create_worktree(workspace, opened.head, "a")
        kept = create_worktree(workspace, opened.head, "b")
        kept.keep()
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["b", "git", "lock"]
    assert run_git("status", "--porcelain", cwd=kept.tree) == ""


def test_a_run_is_one_process(opened: Repository, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.workspace.repository import open_repository\n"
        "from miyabi_cli.workspace.workspaces import open_workspace\n"
        "with open_workspace(open_repository(Path(sys.argv[1])), 'r', Path(sys.argv[2])):\n"
        "    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(opened.root), str(tmp_path / "w")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(RepositoryError, match="at work in another process"):
            open_workspace(opened, "r", tmp_path / "w")
        with open_workspace(opened, "another", tmp_path / "w"):
            pass
        child.communicate()
    open_workspace(opened, "r", tmp_path / "w").close()


def test_a_killed_run_is_healed_by_the_next(project: Path, tmp_path: Path) -> None:
    many = {f"folder{number % 20}/file{number}": "x" * 100 for number in range(3000)}
    head = commit_files(project, many)
    opened = open_repository(project)
    before = contents(project / ".git")
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.workspace.repository import open_repository\n"
        "from miyabi_cli.workspace.workspaces import open_workspace\n"
        "from miyabi_cli.workspace.worktrees import create_worktree\n"
        "workspace = open_workspace(open_repository(Path(sys.argv[1])), 'killed', Path(sys.argv[2]))\n"
        "create_worktree(workspace, workspace.repository.head, 'whole')\n"
        "print('now', flush=True)\ncreate_worktree(workspace, workspace.repository.head, 'half')\nsys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(project), str(tmp_path / "w")]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        (half,) = _wait_for(tmp_path / "w", "*/killed/half/tree/folder*")
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    killed = half.parents[2]
    with open_workspace(opened, "next", tmp_path / "w"):
        assert not (killed / "half").exists()
        assert (killed / "whole/worktree.json").exists()
    with open_workspace(opened, "killed", tmp_path / "w") as workspace:
        assert open_worktree(workspace, "half") is None
        whole = open_worktree(workspace, "whole")
        assert whole is not None
        assert whole.base == head
        whole.switch(head)
        create_worktree(workspace, head, "half")
    assert list((tmp_path / "w").iterdir()) == []
    assert contents(project / ".git") == before


def _wait_for(folder: Path, pattern: str) -> list[Path]:
    for _ in range(30_000):
        if found := list(folder.glob(pattern)):
            return found[:1]
        time.sleep(0.001)
    raise AssertionError(f"{pattern} never came")


def test_many_at_once_by_threads_leave_no_trace(project: Path, opened: Repository, tmp_path: Path) -> None:
    before, status = contents(project / ".git"), run_git("status", "--porcelain", cwd=project)

    def one(number: int) -> None:
        with open_workspace(opened, f"run-{number % 10}-{number}", tmp_path / "w") as workspace:
            worktree = create_worktree(workspace, opened.head, "a")
            (worktree.tree / "calc.py").write_text(str(number))
            worktree.switch(opened.head)
            assert "return" in (worktree.tree / "calc.py").read_text()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(50)))
    with open_workspace(opened, "one-run", tmp_path / "w") as workspace, ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda number: create_worktree(workspace, opened.head, f"a{number}"), range(50)))
        assert len({worktree.tree for worktree in made}) == 50
    assert contents(project / ".git") == before
    assert run_git("status", "--porcelain", cwd=project) == status
    assert list((tmp_path / "w").iterdir()) == []


def test_many_at_once_by_processes(project: Path, tmp_path: Path) -> None:
    before = contents(project / ".git")
    code = (
        "import sys\nfrom pathlib import Path\nfrom miyabi_cli.workspace.repository import open_repository\n"
        "from miyabi_cli.workspace.workspaces import open_workspace\n"
        "from miyabi_cli.workspace.worktrees import create_worktree\n"
        "opened = open_repository(Path(sys.argv[1]))\n"
        "for number in range(5):\n"
        "    with open_workspace(opened, f'{sys.argv[3]}-{number}', Path(sys.argv[2])) as workspace:\n"
        "        create_worktree(workspace, opened.head, 'a')\n"
    )
    argv = [sys.executable, "-c", code, str(project), str(tmp_path / "w")]
    children = [
        subprocess.Popen([*argv, f"run{number}"], cwd=ROOT, stderr=subprocess.PIPE, text=True) for number in range(10)
    ]
    assert [child.communicate()[1] for child in children] == [""] * 10
    assert contents(project / ".git") == before
    assert list((tmp_path / "w").iterdir()) == []


def test_a_folder_inside_the_repository_does_not_show(opened: Repository) -> None:
    with open_workspace(opened, "r", opened.root / ".worktrees") as workspace:
        create_worktree(workspace, opened.head, "a")
        assert run_git("status", "--porcelain", cwd=opened.root) == ""


def test_a_folder_that_can_not_be_made(opened: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as error:
        open_workspace(opened, "r", tmp_path / "file")
    assert "worktree.path" in (error.value.hint or "")
    with pytest.raises(RepositoryError, match="not the id of a run"):
        open_workspace(opened, "../r", tmp_path)
