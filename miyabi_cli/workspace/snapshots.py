"""The user's uncommitted changes as a commit among the run's objects; the repository and its index stay untouched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git, copy_index, joined_lines, split_paths
from miyabi_cli.workspace.repository import Identity, identity
from miyabi_cli.workspace.trees import SUBMODULE, tree_id
from miyabi_cli.workspace.workspaces import Workspace

MESSAGE = "Uncommitted changes\n\nThey were in the working tree when miyabi began.\n"


def snapshot_uncommitted(workspace: Workspace) -> str:
    """Return the id of a commit on HEAD with the changes of tracked files and the new ones that are not ignored.

    It is HEAD itself when there are none. Repositories within the working tree are left out. Raises RepositoryError
    in the middle of a merge with conflicts.
    """
    repository = workspace.repository
    git = Git(workspace.git_dir)
    tree = snapshot_tree(workspace)
    if tree == tree_id(git, repository.head):
        return repository.head
    return write_commit(git, tree, repository.head, MESSAGE, identity(repository))


def snapshot_tree(workspace: Workspace) -> str:
    """Return the id of a tree as `snapshot_uncommitted` commits it."""
    repository = workspace.repository
    if not (repository.git_dir / "index").exists() and repository.born:  # --no-checkout: there are no files to differ
        return tree_id(Git(workspace.git_dir), repository.head)
    with TemporaryDirectory(prefix="snapshot-", dir=workspace.git_dir) as folder:
        return _tree(workspace, Path(folder) / "index")


def changed_submodules(workspace: Workspace) -> tuple[str, ...]:
    """Return the submodules that are not as the index has them: another commit, changes in them, or gone.

    What `snapshot_tree` gives has them as the index does.
    """
    repository = workspace.repository
    if not (repository.git_dir / "index").exists():
        return ()
    git = _git(workspace, repository.git_dir / "index")
    rows = git.run("diff-files", "-z", "--raw", "--ignore-submodules=none", "--no-ext-diff").split(b"\0")
    changed = zip(rows[::2], rows[1::2], strict=False)
    return tuple(os.fsdecode(path) for row, path in changed if row.startswith(f":{SUBMODULE} ".encode()))


def staged_tree(workspace: Workspace, index: Path) -> str:
    """Return the id of the tree that an index (a file) holds. Raises RepositoryError for one with conflicts."""
    with TemporaryDirectory(prefix="snapshot-", dir=workspace.git_dir) as folder:
        copy = Path(folder) / "index"
        if index.exists():
            copy_index(index, copy)
        git = _git(workspace, copy)
        if conflicts := split_paths(git.run("ls-files", "-z", "--unmerged")):
            path = conflicts[0].partition("\t")[2]
            raise RepositoryError(f"{path} has conflicts of a merge", hint="resolve them first")
        return git.run("write-tree").decode().strip()


def write_commit(git: Git, tree: str, parent: str | None, message: str, author: Identity) -> str:
    """Write a commit, unsigned and in UTF-8, whose author and committer are the same; return its id.

    Without a parent it is a first one.
    """
    variables = {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.email,
        "GIT_COMMITTER_NAME": author.name,
        "GIT_COMMITTER_EMAIL": author.email,
    }
    text = message.replace("\0", "").rstrip() + "\n"
    parents = ("-p", parent) if parent else ()
    signed = replace(git, environment=variables, settings={"i18n.commitEncoding": "UTF-8"})
    return signed.run("commit-tree", tree, *parents, "-F", "-", input=text.encode(errors="replace")).decode().strip()


def _tree(workspace: Workspace, index: Path) -> str:
    repository = workspace.repository
    # A hook's own index is that of the commit at hand; the user's is the one in the git directory.
    if (repository.git_dir / "index").exists():  # nothing was ever staged in a new repository
        copy_index(repository.git_dir / "index", index)
    git = _git(workspace, index)
    fields = split_paths(git.run("diff-files", "-z", "--name-status", "--ignore-submodules=all", "--no-ext-diff"))
    changed = list(zip(fields[1::2], fields[::2], strict=True))
    if conflicts := [path for path, letter in changed if letter == "U"]:
        raise RepositoryError(f"{conflicts[0]} has conflicts of a merge", hint="resolve them first")
    others = split_paths(git.run("ls-files", "-z", "--others", "--exclude-standard"))
    new = [path for path in others if not path.endswith("/")]
    removed = [path for path, letter in changed if letter == "D"]
    added = [path for path, letter in changed if letter != "D"]
    if removed:
        git.run("update-index", "--force-remove", "-z", "--stdin", input=joined_lines(removed))
    git.run("update-index", "--add", "--replace", "-z", "--stdin", input=joined_lines([*added, *new]))
    return git.run("write-tree").decode().strip()


def _git(workspace: Workspace, index: Path) -> Git:
    """Return git on the user's working tree with a copy of an index; what it writes is the run's.

    It is the user's own files and configuration: what `git add` does with them is right here too.
    """
    repository = workspace.repository
    return Git(
        repository.git_dir,
        repository.root,
        index,
        objects=workspace.objects,
        alternates=repository.object_directories,
        user_config=True,
        settings={"core.safecrlf": "false"},
    )
