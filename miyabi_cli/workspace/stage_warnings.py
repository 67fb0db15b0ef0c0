"""What the user should look at before using a patch: links that lead out, and files that tools run by themselves."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from miyabi_cli.workspace.git import Git, split_paths
from miyabi_cli.workspace.trees import LINK, FileChange, read_blobs

# What git or an editor may run on the user's machine once the patch is there.
RUN_BY_TOOLS = (
    *(".husky", ".githooks", ".gitattributes", ".gitmodules", ".envrc", ".devcontainer", ".vscode/tasks.json"),
    *(".pre-commit-config.yaml", "lefthook.yml", "lefthook.yaml"),
)

# What makes a folder a git directory to git, or says what git does in one.
OF_GIT_DIRECTORY = {"head", "config", "config.worktree", "commondir"}
MESSAGE = "tools may run this on your machine: look at it before you use the branch"


@dataclass(frozen=True, slots=True)
class StageWarning:
    """Something that was left out of a patch, or that the user should look at before using it."""

    kind: str
    path: str
    message: str


def links_out(git: Git, changes: Iterable[FileChange]) -> list[StageWarning]:
    """Return a warning for each new symbolic link whose target is not in the repository."""
    links = [change for change in changes if change.new_mode == LINK]
    targets = read_blobs(git, [change.new_id for change in links])
    return [
        StageWarning("symlink", change.path, f"it points out of the repository: {os.fsdecode(target)}")
        for change, target in zip(links, targets, strict=True)
        if _leads_out(change.path, os.fsdecode(target))
    ]


def _leads_out(path: str, target: str) -> bool:
    return (
        posixpath.normpath(posixpath.join(posixpath.dirname(path), target)).startswith(("../", "/")) or target == ".."
    )


def run_by_tools(changes: Iterable[FileChange], hooks: str) -> list[StageWarning]:
    """Return a warning for each new or changed file that git or an editor may run; `hooks` is core.hooksPath."""
    names = {PurePosixPath(name) for name in (*RUN_BY_TOOLS, hooks) if name}
    return [
        StageWarning("runs_on_host", change.path, MESSAGE)
        for change in changes
        if change.status != "deleted" and not names.isdisjoint((path := PurePosixPath(change.path), *path.parents))
    ]


def git_directories(git: Git, tree: str, changes: Iterable[FileChange]) -> list[StageWarning]:
    """Return a warning for each new or changed file that steers git in a folder that git takes for a repository.

    Such a folder needs no `.git`: a HEAD, objects and refs in it will do, and the user's own git, run there, obeys it.
    """
    found = []
    for change in changes:
        path = PurePosixPath(change.path)
        if change.status == "deleted" or len(path.parts) < 2 or path.name.lower() not in OF_GIT_DIRECTORY:
            continue
        listed = split_paths(git.run("ls-tree", "-z", "--name-only", tree, "--", f"{path.parent}/"))
        if "head" in {PurePosixPath(name).name.lower() for name in listed}:
            found.append(StageWarning("runs_on_host", change.path, MESSAGE))
    return found
