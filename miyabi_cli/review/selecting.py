"""What is to be reviewed: from a range, the index, a commit, a diff or a pull request to the trees of a change."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_cli.errors import PatchConflict, RepositoryError, UsageError
from miyabi_cli.review.change import Change
from miyabi_cli.review.files import LEADS_OUT
from miyabi_cli.review.reading import files_of_diff, read_files, with_left_out, with_submodules
from miyabi_cli.workspace.git import Git, check_name, git_failure
from miyabi_cli.workspace.repository import empty_tree, resolve
from miyabi_cli.workspace.snapshots import changed_submodules, snapshot_tree, staged_tree
from miyabi_cli.workspace.trees import patched_tree, tree_id
from miyabi_cli.workspace.workspaces import Workspace

HINT = "see miyabi review --help"
SHALLOW = "this clone is shallow: `git fetch --unshallow` brings the rest"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user has named; at most one of these, and nothing for what is not committed yet.

    range: `A..B`, `A...B`, or one revision, from which to the working tree. base: a branch that HEAD is to be merged
    into. diff: a unified diff. pull_request: its number at GitHub, see `pulling`.
    """

    range: str | None = None
    staged: bool = False
    base: str | None = None
    commit: str | None = None
    diff: bytes | None = None
    pull_request: int | None = None


@dataclass(frozen=True, slots=True)
class _Ends:
    """Two trees (ids), and what the change between them is called; `is_working_tree`: one is the user's files."""

    what: str
    base: str
    head: str
    commit: str | None = None
    message: str = ""
    is_working_tree: bool = False


def select_change(
    workspace: Workspace, selection: Selection, written: Iterable[Path] = (), environ: Mapping[str, str] = os.environ
) -> Change:
    """Return the change that is meant, without new files that the review itself writes.

    Raises RepositoryError, UsageError.
    """
    if selection.diff is not None:
        return _of_diff(workspace, selection.diff)
    ends = _ends(workspace, selection, environ)
    files = read_files(Git(workspace.git_dir), ends.base, ends.head, untrusted=False)
    if ends.is_working_tree:
        own = {path.resolve() for path in written}
        root = workspace.repository.root.resolve()
        files = tuple(file for file in files if file.status != "created" or root / file.path not in own)
        files = with_submodules(files, changed_submodules(workspace))
    title, _, body = ends.message.partition("\n")
    return Change(ends.what, files, ends.base, ends.head, head_commit=ends.commit, title=title, body=body.strip())


def change_of_diff(data: bytes) -> Change:
    """Return the change that a diff is by itself, without a repository. Raises UsageError where it is none."""
    return Change("the diff", files_of_diff(data), untrusted=True)


def _ends(workspace: Workspace, selection: Selection, environ: Mapping[str, str]) -> _Ends:
    git = Git(workspace.git_dir)
    head = tree_id(git, workspace.repository.head)
    if selection.staged:
        return _Ends("the staged changes", head, staged_tree(workspace, index_file(workspace, environ)))
    if selection.commit:
        return _commit(workspace, selection.commit)
    if selection.base:
        return _since(workspace, selection.base, "HEAD", f"{selection.base}...HEAD")
    if selection.range:
        return _range(workspace, selection.range)
    return _Ends("the uncommitted changes", head, snapshot_tree(workspace), is_working_tree=True)


def index_file(workspace: Workspace, environ: Mapping[str, str]) -> Path:
    """Return the index that a commit is made from: in a hook the one that git names, if it is this repository's.

    `git commit -a` and `git commit PATH` make it of another index than the user's (githooks(5), "pre-commit").
    """
    own = workspace.repository.git_dir / "index"
    named = environ.get("GIT_INDEX_FILE")
    if not named:
        return own
    folder = workspace.repository.git_dir.resolve()
    for top in (Path.cwd(), workspace.repository.root):  # a relative one is relative to where git ran the hook
        path = (top / named).resolve()
        if path.parent == folder and path.is_file():
            return path
    return own


def _commit(workspace: Workspace, name: str) -> _Ends:
    """Return a commit's change against its first parent, the empty tree for a first commit."""
    git = Git(workspace.git_dir)
    commit = resolve(workspace.repository, name)
    fields = git.run("rev-list", "--parents", "-n", "1", commit).decode().split()
    if len(fields) == 1 and b"\nparent " in git.run("cat-file", "commit", commit).partition(b"\n\n")[0]:
        raise RepositoryError(f"the parent of {name} is not in this clone", hint=SHALLOW)
    base = tree_id(git, fields[1]) if len(fields) > 1 else empty_tree(git)
    return _Ends(f"commit {commit[:12]}", base, tree_id(git, commit), commit, _message(git, commit))


def _range(workspace: Workspace, text: str) -> _Ends:
    git = Git(workspace.git_dir)
    if "..." in text:
        old, _, new = text.partition("...")
        return _since(workspace, old or "HEAD", new or "HEAD", text)
    if ".." in text:
        old, _, new = text.partition("..")
        after = resolve(workspace.repository, new or "HEAD")
        return _Ends(text, _tree(workspace, old or "HEAD"), tree_id(git, after), after)
    base = tree_id(git, resolve(workspace.repository, text))
    return _Ends(f"{text} to the working tree", base, snapshot_tree(workspace), is_working_tree=True)


def _tree(workspace: Workspace, name: str) -> str:
    """Return the tree of a commit, or a tree itself: a new branch begins at the empty one."""
    git = Git(workspace.git_dir)
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) and git.ask("cat-file", "-t", name).output == b"tree\n":
        return name
    return tree_id(git, resolve(workspace.repository, name))


def _since(workspace: Workspace, old: str, new: str, what: str) -> _Ends:
    """Return what was done on one side since it parted from another."""
    git = Git(workspace.git_dir)
    before, after = resolve(workspace.repository, old), resolve(workspace.repository, new)
    base = merge_base(git, before, after)
    if base is None:
        shallow = (workspace.repository.common_dir / "shallow").exists()
        hint = SHALLOW if shallow else f"{old}..{new} needs none"
        raise RepositoryError(f"{old} and {new} have no common commit", hint=hint)
    return _Ends(what, tree_id(git, base), tree_id(git, after), after)


def merge_base(git: Git, one: str, other: str) -> str | None:
    """Return the commit that two commits (ids) parted from, None where there is none."""
    answer = git.ask("merge-base", one, other)
    if answer.exit_code > 1:
        raise git_failure("merge-base", answer)
    return answer.output.decode().strip() or None


def _message(git: Git, commit: str) -> str:
    return git.run("log", "-1", "--no-show-signature", "--format=%B", commit).decode("utf-8", "replace").strip()


def _of_diff(workspace: Workspace, data: bytes) -> Change:
    """Return the change that a diff is, with the trees before and after it where it fits HEAD or the working tree, or
    is in them already: as that of what is not committed yet, or of the last commits.
    """
    change = change_of_diff(data)
    git = Git(workspace.git_dir)
    if not change.files or any(file.skipped == LEADS_OUT for file in change.files):
        return change
    head = tree_id(git, workspace.repository.head)
    trees = dict.fromkeys((head, snapshot_tree(workspace)))
    for reverse, tree, strip in itertools.product((False, True), trees, (1, 0)):  # diff.noprefix leaves a/ and b/ out
        try:
            patched = patched_tree(git, tree, data, strip=strip, reverse=reverse)
        except (PatchConflict, RepositoryError):
            continue
        base, after = (patched, tree) if reverse else (tree, patched)
        files = read_files(git, base, after, untrusted=True)
        if {file.path for file in files} >= {file.path for file in change.reviewed}:
            return Change(change.what, with_left_out(files, change.files), base, after, untrusted=True)
    note = "the diff fits neither HEAD nor the working tree, so it is reviewed without the files around it"
    return replace(change, notes=(note,))


def checked_selection(selection: Selection) -> Selection:
    """Return a selection that names one thing. Raises UsageError where it names several, or what git takes for more."""
    named = {
        "RANGE": selection.range is not None,
        "--staged": selection.staged,
        "--base": selection.base is not None,
        "--commit": selection.commit is not None,
        "--diff": selection.diff is not None,
        "--pr": selection.pull_request is not None,
    }
    given = [name for name, is_given in named.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other", hint=HINT)
    for name in (selection.range, selection.base, selection.commit):
        if name is not None:
            check_name(name)
    return selection
