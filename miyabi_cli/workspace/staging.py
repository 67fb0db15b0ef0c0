"""What an agent left in a worktree, as a tree of git's: read in the sandbox, checked on the host.

Git on the host is never steered by what the agent wrote: git runs in the sandbox over the files, and gives back lists
and a pack; the host reads those as data.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_cli.errors import RepositoryError
from miyabi_cli.workspace.git import Git, copy_index, joined_lines, split_paths
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.stage_warnings import StageWarning, git_directories, links_out, run_by_tools
from miyabi_cli.workspace.trees import (
    ABSENT,
    SUBMODULE,
    Entry,
    FileChange,
    compare_trees,
    edit_tree,
    import_pack,
    patch_between,
    read_blobs,
    tree_id,
)
from miyabi_cli.workspace.workspaces import Workspace
from miyabi_cli.workspace.worktrees import INSIDE, Worktree

LIST_LIMIT = 64 << 20  # bytes of a list of paths
SECONDS = 600.0

# Both run in the tree; $MIYABI_STAGE is the only folder that is taken from.
LIST_CHANGES = """
git diff-files -z --name-status --ignore-submodules=all --no-ext-diff >"$MIYABI_STAGE/changed" &&
git ls-files -z --others --exclude-standard >"$MIYABI_STAGE/others"
"""
WRITE_PACK = """
git update-index --force-remove -z --stdin <"$MIYABI_STAGE/removed" &&
git update-index --add --replace -z --stdin <"$MIYABI_STAGE/added" &&
tree=$(git write-tree) && echo "$tree" >"$MIYABI_STAGE/tree" &&
printf '%s\\n^%s\\n' "$tree" "$MIYABI_BASE" | git pack-objects -q --revs --window=0 --stdout >"$MIYABI_STAGE/pack"
"""


@dataclass(frozen=True, slots=True)
class StageLimits:
    """The most bytes of one file that is taken along, and of all of them together."""

    file_bytes: int = 20 << 20
    total_bytes: int = 200 << 20


@dataclass(frozen=True, slots=True)
class Staged:
    """A worktree's files as a tree in the run's objects; `patch` leads from the commit `base` to it."""

    base: str
    tree: str
    files: tuple[FileChange, ...]
    patch: bytes
    warnings: tuple[StageWarning, ...] = ()

    @property
    def lines_added(self) -> int:
        return sum(change.lines_added for change in self.files)

    @property
    def lines_removed(self) -> int:
        return sum(change.lines_removed for change in self.files)


async def stage(worktree: Worktree, sandbox: Sandbox, limits: StageLimits | None = None) -> Staged:
    """Return what the files of a worktree have become; ignored files are no part of it.

    Left out with a warning: repositories within the tree, changes of submodules, files that are too large, special or
    unreadable, and the user's own ignored files. Raises RepositoryError where git fails or something is forged.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="stage-", dir=worktree.folder))
    try:
        return await _stage(_Stage(worktree, sandbox, folder, limits or StageLimits()))
    finally:
        await asyncio.to_thread(remove_tree, folder)


def tree_of(workspace: Workspace, commit: str) -> str:
    """Return the id of a commit's tree."""
    return tree_id(Git(workspace.git_dir), commit)


def blobs_of(workspace: Workspace, ids: Sequence[str]) -> list[bytes]:
    """Return the contents of files by their ids, in order."""
    return list(read_blobs(Git(workspace.git_dir), ids))


def with_paths_of(workspace: Workspace, tree: str, base: str, paths: Sequence[str]) -> str:
    """Return the id of a tree that is `tree`, but with `paths` as they are in `base`: those it lacks are taken away."""
    git = Git(workspace.git_dir)
    wanted = set(paths)
    changes = [change for change in compare_trees(git, tree, base) if change.path in wanted]
    # What goes comes first: a file may have to make way for a folder.
    changes.sort(key=lambda change: change.new_mode != ABSENT)
    return edit_tree(git, tree, [Entry(change.path, change.new_mode, change.new_id) for change in changes])


@dataclass(frozen=True, slots=True)
class _Stage:
    """One staging: `folder` is where the sandboxed git writes, and nothing else is read of what it writes."""

    worktree: Worktree
    sandbox: Sandbox
    folder: Path
    limits: StageLimits

    @property
    def git(self) -> Git:
        """The host's git on the run's objects, with no tree and no index."""
        return Git(self.worktree.workspace.git_dir)

    async def run(self, script: str, base_tree: str) -> None:
        """Run git commands on the tree, in the sandbox, with a git directory that the agent never could write."""
        place = replace(self.worktree.place(), writable=((self.folder, INSIDE / "stage"),))
        limits = Limits(seconds=SECONDS, file_bytes=2 * max(self.limits.total_bytes, LIST_LIMIT))
        argv = ["sh", "-c", script]
        outcome = await self.sandbox.run(argv, place, limits=limits, environment=self._variables(place, base_tree))
        if outcome.exit_code:
            said = outcome.output.strip().rpartition("\n")[2] or f"exit code {outcome.exit_code}"
            raise RepositoryError(f"the worktree's files can't be staged: {said}")

    def _variables(self, place: Place, base_tree: str) -> dict[str, str]:
        tree = self.sandbox.inside(place)
        is_mounted = tree != place.tree  # else commands see the host's own paths
        folder = INSIDE / "stage" if is_mounted else self.folder
        git_dir = INSIDE / "git" if is_mounted else self.worktree.workspace.git_dir
        settings = {"core.excludesFile": str(folder / "exclude")}
        git = Git(git_dir, tree, folder / "index", folder / "objects", (git_dir / "objects",), settings=settings)
        return git.variables() | {"MIYABI_STAGE": str(folder), "MIYABI_BASE": base_tree}

    def prepare(self) -> str:
        """Put copies of what the sandboxed git needs into the folder; return the id of the base's tree."""
        copy_index(self.worktree.folder / "index", self.folder / "index")
        shutil.copyfile(self.worktree.exclude, self.folder / "exclude")
        (self.folder / "objects").mkdir()
        return tree_id(self.git, self.worktree.base)

    def read(self, name: str, limit: int = LIST_LIMIT) -> bytes:
        """Return a file that the sandboxed git wrote; raises RepositoryError unless it is one, and within the limit."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise RepositoryError(f"staging gave no {name}: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise RepositoryError(f"staging gave a {name} that is too large or not a file")
            return file.read(limit)

    def write(self, name: str, paths: Iterable[str]) -> None:
        # Made anew: what was run in the sandbox may have put a link here.
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(joined_lines(paths))


async def _stage(job: _Stage) -> Staged:
    base_tree = await asyncio.to_thread(job.prepare)
    await job.run(LIST_CHANGES, base_tree)
    chosen = await asyncio.to_thread(_choose, job)
    tree = base_tree
    if chosen.added or chosen.removed:
        await job.run(WRITE_PACK, base_tree)
        tree = await asyncio.to_thread(_take_over, job)
    return await asyncio.to_thread(_staged, job, tree, chosen.warnings)


@dataclass(frozen=True, slots=True)
class _Chosen:
    added: tuple[str, ...]
    removed: tuple[str, ...]
    warnings: tuple[StageWarning, ...]


def _choose(job: _Stage) -> _Chosen:
    """Decide which of the changed paths belong in the patch, and write the lists for the sandboxed git."""
    listed = split_paths(job.read("changed"))
    changed = dict(zip(listed[1::2], listed[::2], strict=True))
    others = split_paths(job.read("others"))
    for path in (*changed, *others):
        _check_path(path)
    removed = [path for path, letter in changed.items() if letter == "D"]
    added: list[str] = []
    warnings = _submodule_warnings(job.worktree)
    total = 0
    for path in (*(path for path, letter in changed.items() if letter != "D"), *others):
        size, objection = _look_at(job, path)
        if objection:
            warnings.append(objection)
        else:
            added.append(path)
            total += size
    if total > job.limits.total_bytes:
        hint = "let .gitignore name what should not be in the patch"
        raise RepositoryError(f"the change is too large: {total:,} bytes in {len(added)} files", hint=hint)
    job.write("added", added)
    job.write("removed", removed)
    return _Chosen(tuple(added), tuple(removed), tuple(warnings))


def _submodule_warnings(worktree: Worktree) -> list[StageWarning]:
    message = "submodules stay as they are: what was done there is left out"
    return [
        StageWarning("submodule", path, message)
        for path in worktree.submodules
        if not _is_empty_folder(worktree.tree / path)
    ]


def _is_empty_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode) and not any(path.iterdir())
    except OSError:
        return False


def _check_path(path: str) -> None:
    parts = path.removesuffix("/").split("/")
    if not all(parts) or any(part in (".", "..") or part.lower() == ".git" for part in parts):
        raise RepositoryError(f"staging gave a path that can't be one: {path!r}")


def _look_at(job: _Stage, path: str) -> tuple[int, StageWarning | None]:
    """Return a file's bytes, and why it is to be left out."""
    if path.endswith("/"):
        return 0, StageWarning("nested_repository", path, "a repository within the worktree is left out")
    if path in job.worktree.included:
        return 0, StageWarning("included", path, "it was copied from your ignored files, so it is left out")
    file = job.worktree.tree / path
    try:
        status = file.lstat()
    except OSError as error:
        return 0, StageWarning("unreadable", path, f"it is left out: {error.strerror}")
    if stat.S_ISLNK(status.st_mode):
        return status.st_size, None
    if not stat.S_ISREG(status.st_mode):
        return 0, StageWarning("special_file", path, "it is not a regular file, so it is left out")
    if status.st_size > job.limits.file_bytes:
        return 0, StageWarning("too_large", path, f"{status.st_size:,} bytes are too many, so it is left out")
    if not os.access(file, os.R_OK):
        return 0, StageWarning("unreadable", path, "it can't be read, so it is left out")
    return status.st_size, None


def _take_over(job: _Stage) -> str:
    """Bring the sandbox's objects among the run's, checked by git; return the id of their tree."""
    tree = job.read("tree", 100).decode(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", tree):
        raise RepositoryError("staging gave no id of a tree")
    limit = 2 * job.limits.total_bytes
    import_pack(job.git, job.read("pack", limit), limit)
    if job.git.ask("cat-file", "-t", tree).output != b"tree\n":
        raise RepositoryError("staging gave an id that is no tree's")
    return tree


def _staged(job: _Stage, tree: str, warnings: Sequence[StageWarning]) -> Staged:
    git, base = job.git, job.worktree.base
    changes = compare_trees(git, base, tree)
    if links := [change for change in changes if SUBMODULE in (change.old_mode, change.new_mode)]:
        tree = edit_tree(git, tree, [_as_in_base(change) for change in links])
        changes = compare_trees(git, base, tree)
    found = (
        *warnings,
        *(StageWarning("submodule", change.path, "submodules stay as they are") for change in links),
        *links_out(git, changes),
        *run_by_tools(changes, job.worktree.workspace.template.hooks),
        *git_directories(git, tree, changes),
    )
    return Staged(base, tree, changes, patch_between(git, base, tree), found)


def _as_in_base(change: FileChange) -> Entry:
    had_one = change.old_mode == SUBMODULE
    return Entry(change.path, change.old_mode if had_one else ABSENT, change.old_id)
