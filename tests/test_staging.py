"""Staging: the tree is what the files are, and nothing that an agent wrote steers git on the host."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits, Outcome
from miyabi_cli.workspace.repository import open_repository
from miyabi_cli.workspace.sandbox import Sandbox, open_sandbox
from miyabi_cli.workspace.staging import Staged, StageLimits, stage, tree_of, with_paths_of
from miyabi_cli.workspace.workspaces import Workspace, open_workspace
from miyabi_cli.workspace.worktrees import Worktree, create_worktree
from tests.support.git_repositories import commit_files, contents, make_repository, run_git

pytest_plugins = ("tests.support.git_fixtures",)


@pytest.fixture(params=["auto", "off"])
def sandbox(request: pytest.FixtureRequest, project: Path) -> Sandbox:
    return open_sandbox(request.param, repository=project, environ=dict(os.environ))


@pytest.fixture
def off(project: Path) -> Sandbox:
    return open_sandbox("off", repository=project, environ=dict(os.environ))


@pytest.fixture
def worktree(workspace: Workspace) -> Worktree:
    return create_worktree(workspace, workspace.repository.head, "a")


def take(worktree: Worktree, sandbox: Sandbox, limits: StageLimits | None = None) -> Staged:
    return asyncio.run(stage(worktree, sandbox, limits))


def tree_files(worktree: Worktree, tree: str) -> dict[str, str]:
    """Return mode and path of each file of a tree."""
    listed = Git(worktree.workspace.git_dir).run("ls-tree", "-r", "-z", tree)
    rows = [os.fsdecode(row).split("\t") for row in listed.split(b"\0") if row]
    return {path: about.split(" ")[0] for about, path in rows}


def kinds(staged: Staged) -> set[tuple[str, str]]:
    return {(warning.kind, warning.path) for warning in staged.warnings}


def test_no_change_is_no_patch(worktree: Worktree, sandbox: Sandbox) -> None:
    staged = take(worktree, sandbox)
    assert (staged.files, staged.patch, staged.warnings) == ((), b"", ())
    assert staged.tree == tree_of(worktree.workspace, worktree.base)


def test_all_kinds_of_changes(project: Path, worktree: Worktree, sandbox: Sandbox) -> None:
    before = contents(project)
    tree = worktree.tree
    (tree / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    (tree / "README.md").unlink()
    (tree / "ümlaut dir").mkdir()
    (tree / "ümlaut dir/new\nline \udcff.txt").write_bytes(b"\x00\xff\x00")
    (tree / "link").symlink_to("calc.py")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/calc.cpython-311.pyc").write_text("")
    staged = take(worktree, sandbox)
    assert {(change.path, change.status, change.lines_added, change.lines_removed) for change in staged.files} == {
        ("calc.py", "modified", 1, 1),
        ("README.md", "deleted", 0, 1),
        ("ümlaut dir/new\nline \udcff.txt", "created", 0, 0),
        ("link", "created", 1, 0),
        ("run.sh", "created", 1, 0),
    }
    assert (staged.lines_added, staged.lines_removed) == (3, 2)
    assert staged.warnings == ()
    modes = tree_files(worktree, staged.tree)
    assert (modes["run.sh"], modes["link"], modes["calc.py"]) == ("100755", "120000", "100644")
    assert contents(project) == before
    assert run_git("status", "--porcelain", "calc.py", cwd=tree) == "M calc.py"
    patch = worktree.folder / "patch"
    patch.write_bytes(staged.patch)
    run_git("apply", "--index", str(patch), cwd=project)
    assert run_git("write-tree", cwd=project) == staged.tree


def test_files_and_folders_trade_places(project: Path, workspace: Workspace, sandbox: Sandbox) -> None:
    base = commit_files(project, {"file": "a", "folder/one": "1", "folder/two": "2", "linked/three": "3"})
    worktree = create_worktree(workspace, base, "a")
    tree = worktree.tree
    (tree / "file").unlink()
    (tree / "file").mkdir()
    (tree / "file/inner").write_text("inner")
    shutil.rmtree(tree / "folder")
    (tree / "folder").write_text("now a file")
    (tree / "linked").rename(tree / "moved")
    (tree / "linked").symlink_to("moved")
    staged = take(worktree, sandbox)
    assert {(change.path, change.status) for change in staged.files} == {
        ("file", "deleted"),
        ("file/inner", "created"),
        ("folder/one", "deleted"),
        ("folder/two", "deleted"),
        ("folder", "created"),
        ("linked/three", "deleted"),
        ("linked", "created"),
        ("moved/three", "created"),
    }


def test_an_edit_at_once_that_keeps_the_size_is_seen(workspace: Workspace, off: Sandbox) -> None:
    for number in range(12):
        worktree = create_worktree(workspace, workspace.repository.head, f"a{number}")
        with (worktree.tree / "calc.py").open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace("a - b", "a + b"))
        host, shown = (path.stat() for path in (worktree.folder / "index", worktree.tree / ".git/index"))
        assert shown.st_mtime_ns == host.st_mtime_ns
        assert run_git("status", "--porcelain", cwd=worktree.tree) == "M calc.py"
        assert [change.path for change in take(worktree, off).files] == ["calc.py"]


def test_staging_again_after_more_work(worktree: Worktree, sandbox: Sandbox) -> None:
    (worktree.tree / "calc.py").write_text("1\n")
    first = take(worktree, sandbox)
    (worktree.tree / "calc.py").write_text("2\n")
    (worktree.tree / "new.txt").write_text("")
    second = take(worktree, sandbox)
    assert [len(staged.files) for staged in (first, second)] == [1, 2]
    assert first.tree != second.tree
    run_git("checkout", "-q", "--force", cwd=worktree.tree)
    (worktree.tree / "new.txt").unlink()
    assert take(worktree, sandbox).files == ()


def test_a_staged_tree_can_be_checked_out(worktree: Worktree, sandbox: Sandbox) -> None:
    (worktree.tree / "calc.py").write_text("fixed\n")
    (worktree.tree / "new.txt").write_text("new\n")
    staged = take(worktree, sandbox)
    checks = create_worktree(worktree.workspace, worktree.base, "checks")
    checks.switch(staged.tree)
    assert (checks.tree / "calc.py").read_text() == "fixed\n"
    outcome = asyncio.run(sandbox.run("git status --porcelain; git diff HEAD --stat", checks.place()))
    assert outcome.exit_code == 0
    assert outcome.output.startswith("M  calc.py\nA  new.txt\n")


def test_git_reads_in_the_sandbox(project: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    run_git("clone", "-q", "--shared", str(project), "clone", cwd=tmp_path)
    head = commit_files(tmp_path / "clone", {"b": "b\n"}, "second")
    opened = open_repository(tmp_path / "clone")
    with open_workspace(opened, "r", tmp_path / "w") as workspace:
        worktree = create_worktree(workspace, head, "a")
        place = worktree.place()
        script = "git log --format=%s && git show --stat HEAD^ && git blame b && git fsck --connectivity-only"
        outcome = asyncio.run(sandbox.run(script, place))
        assert outcome.exit_code == 0, outcome.output
        assert outcome.output.startswith("second\nfirst\n")
        assert "error" not in outcome.output
        (worktree.tree / "b").write_text("c\n")
        assert [change.path for change in take(worktree, sandbox).files] == ["b"]


def test_paths_of_the_base_are_put_back(project: Path, workspace: Workspace, off: Sandbox) -> None:
    base = commit_files(project, {"tests/test_a.py": "a", "tests/test_b.py": "b", "src.py": "s"})
    worktree = create_worktree(workspace, base, "a")
    (worktree.tree / "tests/test_a.py").write_text("cheat")
    (worktree.tree / "tests/test_b.py").unlink()
    (worktree.tree / "tests/test_c.py").write_text("c")
    (worktree.tree / "src.py").write_text("fixed")
    staged = take(worktree, off)
    touched = ["tests/test_a.py", "tests/test_b.py", "tests/test_c.py"]
    tree = with_paths_of(workspace, staged.tree, base, touched)
    git = Git(workspace.git_dir)
    assert set(tree_files(worktree, tree)) == set(tree_files(worktree, base))
    assert git.run("cat-file", "blob", f"{tree}:tests/test_a.py") == b"a"
    assert git.run("cat-file", "blob", f"{tree}:src.py") == b"fixed"
    assert with_paths_of(workspace, staged.tree, base, []) == staged.tree


def test_line_endings_are_normalised_as_the_users_git_does(project: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    head = commit_files(project, {"a.txt": "a\nb\n"})
    run_git("config", "--global", "core.autocrlf", "true", cwd=project)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        worktree = create_worktree(workspace, head, "a")
        (worktree.tree / "a.txt").write_bytes(b"a\r\nB\r\n")
        staged = take(worktree, sandbox)
        assert Git(workspace.git_dir).run("cat-file", "blob", f"{staged.tree}:a.txt") == b"a\nB\n"
        assert (staged.lines_added, staged.lines_removed) == (1, 1)


@pytest.fixture
def with_submodule(project: Path, tmp_path: Path) -> Iterator[Worktree]:
    parent = make_repository(tmp_path / "parent")
    for name in ("sub", "deep/sub"):
        run_git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project), name, cwd=parent)
    head = commit_files(parent, {})
    with open_workspace(open_repository(parent), "r", tmp_path / "w") as workspace:
        yield create_worktree(workspace, head, "a")


def test_submodules_stay_as_they_are(with_submodule: Worktree, sandbox: Sandbox) -> None:
    tree = with_submodule.tree
    (tree / "README.md").write_text("changed")
    assert [change.path for change in take(with_submodule, sandbox).files] == ["README.md"]
    (tree / "sub").rmdir()
    (tree / "sub").write_text("a file now")
    (tree / "deep/sub").rmdir()
    (tree / "deep").rmdir()
    staged = take(with_submodule, sandbox)
    assert [change.path for change in staged.files] == ["README.md"]
    assert kinds(staged) == {("submodule", "sub"), ("submodule", "deep/sub")}
    (tree / "sub").unlink()
    (tree / "sub").mkdir()
    (tree / "sub/new.txt").write_text("new")
    (tree / "deep").write_text("in the way of deep/sub")
    staged = take(with_submodule, sandbox)
    assert [change.path for change in staged.files] == ["README.md"]
    assert kinds(staged) == {("submodule", "sub"), ("submodule", "deep/sub")}


def test_a_repository_in_the_tree_is_left_out_and_runs_nothing(
    worktree: Worktree, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A10: nested repositories with filters, hooks and fsmonitor; one without a commit; a bare one (A11)."""
    evil = f"touch {tmp_path}/ran"
    nested = make_repository(worktree.tree / "nested", {".gitattributes": "* filter=evil\n", "a": "a"})
    for key in ("filter.evil.clean", "filter.evil.process", "core.fsmonitor", "core.hooksPath"):
        run_git("config", key, evil, cwd=nested)
    (nested / "a").write_text("changed")
    run_git("init", "-q", str(worktree.tree / "unborn"), cwd=tmp_path)
    run_git("init", "-q", "--bare", str(worktree.tree / "bare"), cwd=tmp_path)
    (worktree.tree / "bare/config").write_text(f"[core]\n\tbare = true\n\tfsmonitor = {evil}\n\tworktree = ..\n")
    (worktree.tree / "kept.txt").write_text("")
    staged = take(worktree, sandbox)
    assert {("nested_repository", "nested/"), ("nested_repository", "unborn/")} <= kinds(staged)
    paths = {change.path for change in staged.files}
    assert "kept.txt" in paths
    assert not any(path.startswith(("nested", "unborn")) for path in paths)
    assert not (tmp_path / "ran").exists()
    worktree.switch(staged.tree)
    assert not (tmp_path / "ran").exists()


def test_a_repository_over_tracked_files_hides_nothing(project: Path, workspace: Workspace, sandbox: Sandbox) -> None:
    worktree = create_worktree(workspace, commit_files(project, {"src/a.py": "a"}), "a")
    run_git("init", "-q", str(worktree.tree / "src"), cwd=project)
    (worktree.tree / "src/a.py").write_text("changed")
    (worktree.tree / "src/b.py").write_text("new")
    staged = take(worktree, sandbox)
    assert [(change.path, change.status) for change in staged.files] == [
        ("src/a.py", "modified"),
        ("src/b.py", "created"),
    ]


def test_attributes_run_nothing_on_the_host(project: Path, worktree: Worktree, off: Sandbox, tmp_path: Path) -> None:
    """A14: the user has filters, textconv and an external diff; the agent names them in .gitattributes."""
    evil = f"touch {tmp_path}/ran; cat"
    for key in ("filter.x.clean", "filter.x.smudge", "diff.x.textconv", "diff.x.command", "diff.external"):
        run_git("config", "--global", key, evil, cwd=project)
        run_git("config", key, evil, cwd=project)
    (worktree.tree / ".gitattributes").write_text("* filter=x diff=x\n")
    (worktree.tree / "calc.py").write_text("changed\n")
    staged = take(worktree, off)
    worktree.switch(staged.tree)
    assert not (tmp_path / "ran").exists()
    assert b"+changed" in staged.patch
    assert ("runs_on_host", ".gitattributes") in kinds(staged)


def test_a_replaced_git_directory_steers_nothing(worktree: Worktree, sandbox: Sandbox, tmp_path: Path) -> None:
    """A9: .git becomes a pointer to a directory whose configuration runs programs."""
    evil = make_repository(tmp_path / "evil")
    run_git("config", "core.fsmonitor", f"touch {tmp_path}/ran", cwd=evil)
    run_git("config", "filter.x.clean", f"touch {tmp_path}/ran", cwd=evil)
    shutil.rmtree(worktree.tree / ".git")
    (worktree.tree / ".git").write_text(f"gitdir: {evil}/.git\n")
    (worktree.tree / ".gitattributes").write_text("* filter=x\n")
    (worktree.tree / "calc.py").write_text("changed")
    if sandbox.kind == "off":
        staged = take(worktree, sandbox)
        assert [change.path for change in staged.files] == [".gitattributes", "calc.py"]
    assert not (tmp_path / "ran").exists()


def test_the_sandbox_keeps_the_git_directory(worktree: Worktree, project: Path) -> None:
    """A9 and A12 where they are tried: from a command of the agent."""
    sandbox = open_sandbox("auto", repository=project, environ=dict(os.environ))
    script = "mv .git x; rm -rf .git; echo 'gitdir: /x' > .git; touch .git/hooks .git/config; git commit -qam x"
    before = contents(worktree.tree / ".git")
    outcome = asyncio.run(sandbox.run(script, worktree.place()))
    assert outcome.exit_code != 0
    assert contents(worktree.tree / ".git") == before
    assert take(worktree, sandbox).files == ()


def test_hooks_in_the_patch_are_flagged(project: Path, off: Sandbox, tmp_path: Path) -> None:
    """A13: .husky under core.hooksPath, and the user's own choice of a folder."""
    run_git("config", "core.hooksPath", "tools/hooks", cwd=project)
    with open_workspace(open_repository(project), "r", tmp_path / "w") as workspace:
        worktree = create_worktree(workspace, workspace.repository.head, "a")
        for name in (".husky/pre-commit", "tools/hooks/pre-push", "tools/other", ".envrc"):
            (worktree.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (worktree.tree / name).write_text("#!/bin/sh\ntouch /tmp/x\n")
        flagged = {path for kind, path in kinds(take(worktree, off)) if kind == "runs_on_host"}
        assert flagged == {".husky/pre-commit", "tools/hooks/pre-push", ".envrc"}


def test_links_out_of_the_repository_are_flagged(worktree: Worktree, sandbox: Sandbox) -> None:
    links = {"up": "../secret", "absolute": "/etc/passwd", "fine": "calc.py", "deep/fine": "../calc.py", "dots": ".."}
    for name, target in links.items():
        (worktree.tree / name).parent.mkdir(exist_ok=True)
        (worktree.tree / name).symlink_to(target)
    staged = take(worktree, sandbox)
    assert {path for kind, path in kinds(staged) if kind == "symlink"} == {"up", "absolute", "dots"}
    assert len(staged.files) == len(links)


def test_what_can_not_be_in_a_patch_is_left_out(project: Path, workspace: Workspace, off: Sandbox) -> None:
    base = commit_files(project, {".gitignore": ".env\n", "tracked": "t"})
    (project / ".env").write_text("SECRET=1")
    worktree = create_worktree(workspace, base, "a", include=[".env"])
    (worktree.tree / ".gitignore").write_text("!.env\n")
    (worktree.tree / "tracked").unlink()
    os.mkfifo(worktree.tree / "tracked")
    os.mkfifo(worktree.tree / "fifo")
    with (worktree.tree / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (worktree.tree / "fine.txt").write_text("fine")
    staged = take(worktree, off)
    assert kinds(staged) == {("included", ".env"), ("special_file", "tracked"), ("too_large", "sparse")}
    assert [change.path for change in staged.files] == [".gitignore", "fine.txt"]


def test_too_much_in_all_is_an_error(worktree: Worktree, off: Sandbox) -> None:
    for number in range(5):
        (worktree.tree / f"file{number}").write_bytes(b"x" * 100)
    with pytest.raises(RepositoryError, match="too large: 500 bytes in 5 files"):
        take(worktree, off, StageLimits(file_bytes=100, total_bytes=400))
    assert list(worktree.folder.glob("stage-*")) == []


class Forger:
    """A sandbox in which the agent has replaced git: it writes what it likes into the stage folder."""

    kind = "bubblewrap"
    warnings: tuple[str, ...] = ()

    def __init__(self, forge: Callable[[Path], None]) -> None:
        self._forge = forge

    def inside(self, place: Place) -> Path:
        return place.inside

    async def run(
        self,
        command: str | Sequence[str],
        place: Place,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Outcome:
        folder = place.writable[0][0]
        for name, content in (("changed", b""), ("others", b"new.txt\0"), ("tree", b"1" * 40), ("pack", b"PACK")):
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(content)
        self._forge(folder)
        return Outcome(0, "", 0.0)


def _escaping(folder: Path) -> None:
    (folder / "others").write_bytes(b"../../outside\0")


def _git_path(folder: Path) -> None:
    (folder / "others").write_bytes(b"a/.GIT/config\0")


def _link(folder: Path) -> None:
    (folder / "others").unlink()
    (folder / "others").symlink_to("/etc/passwd")


def _fifo(folder: Path) -> None:
    (folder / "changed").unlink()
    os.mkfifo(folder / "changed")


def _no_list(folder: Path) -> None:
    (folder / "changed").unlink()


def _option(folder: Path) -> None:
    (folder / "tree").write_bytes(b"--output=/tmp/x")


def _no_pack(folder: Path) -> None:
    return


def _no_objects(folder: Path) -> None:
    (folder / "pack").write_bytes(b"PACK\0\0\0\2\0\0\0\0" + b"\0" * 20)


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (_escaping, "can't be one"),
        (_git_path, "can't be one"),
        (_link, "gave no others"),
        (_fifo, "not a file"),
        (_no_list, "gave no changed"),
        (_option, "no id of a tree"),
        (_no_pack, "not a pack"),
        (_no_objects, "no tree's"),
    ],
)
def test_forged_answers_are_refused(worktree: Worktree, forge: Callable[[Path], None], message: str) -> None:
    (worktree.tree / "new.txt").write_text("")
    with pytest.raises(RepositoryError, match=message):
        take(worktree, Forger(forge))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("100644 blob {blob}\t.git", "git refuses the change: hasDotgit"),
        ("100644 blob {missing}\tx", "did not receive|missing|link"),
    ],
)
def test_a_forged_pack_is_refused(worktree: Worktree, tmp_path: Path, entry: str, message: str) -> None:
    maker = make_repository(tmp_path / "maker")
    git = Git(maker / ".git")
    blob = git.run("hash-object", "-w", "--stdin", input=b"evil").decode().strip()
    row = entry.format(blob=blob, missing="2" * 40)
    tree = git.run("mktree", "--missing", input=f"{row}\n".encode()).decode().strip()
    names = [tree, *([blob] if blob in row else [])]
    pack = git.run("pack-objects", "--stdout", "-q", input="".join(f"{name}\n" for name in names).encode())

    def forge(folder: Path) -> None:
        (folder / "tree").write_text(tree)
        (folder / "pack").write_bytes(pack)

    (worktree.tree / "new.txt").write_text("")
    with pytest.raises(RepositoryError, match=message):
        take(worktree, Forger(forge))
    assert not list((worktree.workspace.objects / "pack").glob("*.idx"))


def test_a_forged_submodule_is_taken_out(worktree: Worktree, tmp_path: Path) -> None:
    maker = make_repository(tmp_path / "maker")
    git = Git(maker / ".git")
    commit = run_git("rev-parse", "HEAD", cwd=maker)
    tree = git.run("mktree", "--missing", input=f"160000 commit {commit}\tevil\n".encode()).decode().strip()
    pack = git.run("pack-objects", "--stdout", "-q", input=f"{tree}\n".encode())

    def forge(folder: Path) -> None:
        (folder / "tree").write_text(tree)
        (folder / "pack").write_bytes(pack)

    (worktree.tree / "new.txt").write_text("")
    staged = take(worktree, Forger(forge))
    assert ("submodule", "evil") in kinds(staged)
    assert tree_files(worktree, staged.tree) == {}


def test_git_that_fails_in_the_sandbox_is_told(worktree: Worktree, off: Sandbox) -> None:
    (worktree.folder / "index").write_bytes(b"broken")
    with pytest.raises(RepositoryError, match=r"can't be staged: .*index"):
        take(worktree, off)
