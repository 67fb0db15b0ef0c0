"""Worktrees that the user's repository never hears of: files in a folder of miyabi's, with a private git directory.

NAME/
    tree/  tree/.git/     what the agent sees; the host never takes anything from that .git
    index  exclude        the host's own view of the tree
    alternates  empty     files that the sandbox mounts over others: its paths are not the host's
    worktree.json  keep   see `workspaces`
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.git import Git, copy_index, git_failure, split_paths
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.private_git import Shown, alternates_file, exclude_rules, make_git_dir, packed_refs
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.trees import SUBMODULE
from miyabi_cli.workspace.workspaces import KEEP, RECORD, STOPPED, Workspace, check_label, discard, read_record

INSIDE = Path("/run/miyabi")  # where the sandbox shows what is neither the tree nor the system


@dataclass(frozen=True, slots=True)
class Worktree:
    """The files of the commit `base`, in `tree`.

    `included` are ignored files of the user's that were copied in; `submodules` are empty folders.
    """

    workspace: Workspace
    name: str
    base: str
    included: tuple[str, ...] = ()
    submodules: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.workspace.folder / self.name

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def exclude(self) -> Path:
        """The ignore rules: what checks leave behind, and the user's own."""
        return self.folder / "exclude"

    @property
    def git(self) -> Git:
        """The host's git on this tree; it takes no configuration from the tree."""
        settings = {"core.excludesFile": str(self.exclude)}
        return Git(self.workspace.git_dir, self.tree, self.folder / "index", settings=settings)

    def place(self, scratch: Path | None = None) -> Place:
        """Return where commands on this tree run: at the repository's own path, its git directory read-only."""
        root = self.workspace.repository.root
        return Place(tree=self.tree, inside=root, readable=self.readable(), scratch=scratch)

    def readable(self) -> tuple[tuple[Path, Path], ...]:
        """Return what git in the sandbox reads, as (host, inside) pairs in the order to mount them.

        The user's objects can't be at their own path, which the tree covers. So they are mounted below `INSIDE`,
        and a file with those paths is mounted over each `alternates` file.
        """
        private = self.workspace.repository.root / ".git"
        alternates, empty = self.folder / "alternates", self.folder / "empty"
        pairs = [(self.tree / ".git", private), (alternates, private / "objects/info/alternates")]
        pairs += [(self.workspace.git_dir, INSIDE / "git"), (alternates, INSIDE / "git/objects/info/alternates")]
        for number, objects in enumerate(self.workspace.repository.object_directories):
            pairs.append((objects, INSIDE / f"objects/{number}"))
            if (objects / "info/alternates").exists():
                pairs.append((empty, INSIDE / f"objects/{number}/info/alternates"))
        return tuple(pairs)

    def switch(self, target: str) -> None:
        """Make the files those of another commit or tree (an id); what is new and not ignored goes away.

        Ignored files stay: caches, dependencies. So does HEAD. No command may run in the tree meanwhile.
        """
        changed = split_paths(self.git.run("diff-index", "--cached", "--name-only", "-z", "--no-renames", target))
        _remove_untracked(self)
        _check_out(self, target)
        _remove_bytecode(self.tree, changed)
        _show_index(self)

    def put_back(self, tree: str) -> None:
        """Make the files those of a tree (an id) that was staged here, still as a change of the base."""
        self.switch(tree)
        self.git.run("read-tree", self.base)
        _show_index(self)

    def keep(self) -> None:
        """Leave this worktree where it is when the run ends."""
        (self.folder / KEEP).touch()

    def leave(self) -> None:
        """Leave this worktree where it is when the run is stopped, so that it can go on."""
        with contextlib.suppress(OSError):  # on a full disk, say; then it begins anew
            (self.folder / STOPPED).touch()


def create_worktree(workspace: Workspace, base: str, name: str, include: Sequence[str] = ()) -> Worktree:
    """Check the commit `base` (an id) out into a new worktree; `include` are globs of ignored files to copy in.

    Raises RepositoryError where objects are missing (a partial clone), MachineError where the disk fails.
    """
    check_label(name, "a name of a worktree")
    worktree = Worktree(workspace, name, base)
    try:
        worktree.folder.mkdir(mode=0o700)
    except FileExistsError:
        raise RepositoryError(f"run {workspace.run_id} has a worktree {name} already") from None
    try:
        return _fill(worktree, include)
    except OSError as error:
        remove_tree(worktree.folder)
        raise MachineError(f"can't make {worktree.tree}: {error.strerror}", hint="see worktree.path") from None
    except BaseException:
        remove_tree(worktree.folder)
        raise


def open_worktree(workspace: Workspace, name: str) -> Worktree | None:
    """Return a worktree that this run made before it was interrupted, or None where there is none that is whole."""
    check_label(name, "a name of a worktree")
    record = read_record(workspace.folder / name) or {}
    try:
        return Worktree(workspace, name, record["base"], tuple(record["included"]), tuple(record["submodules"]))
    except (KeyError, TypeError):
        return None


def remove_worktree(worktree: Worktree) -> None:
    """Remove a worktree, also one to be kept; raises MachineError where the system forbids it."""
    discard(worktree.folder)


def _fill(worktree: Worktree, include: Sequence[str]) -> Worktree:
    repository = worktree.workspace.repository
    worktree.tree.mkdir(mode=0o755)
    shown = _check_out_and_show(worktree)
    worktree.exclude.write_bytes(shown.exclude)
    included = _copy_included(repository, worktree.tree, include)
    _make_private_git_dir(worktree, shown.refs)
    _show_index(worktree)
    made = replace(worktree, included=included, submodules=_submodules(worktree))
    _record(made)
    return made


def _check_out_and_show(worktree: Worktree) -> Shown:
    """Check the base out; return what it shows, which is read once a run, and meanwhile as far as that goes."""
    workspace, base = worktree.workspace, worktree.base
    if known := workspace.shown.get(base):
        _check_out(worktree, base)
        return known
    with ThreadPoolExecutor(1) as pool:
        refs = pool.submit(packed_refs, workspace.repository, base, workspace.objects)
        _check_out(worktree, base)
        shown = Shown(exclude_rules(worktree.git, workspace.template), refs.result())
    return workspace.shown.setdefault(base, shown)


def _record(worktree: Worktree) -> None:
    record = {
        "repository": os.fsdecode(worktree.workspace.repository.root),
        "run_id": worktree.workspace.run_id,
        "name": worktree.name,
        "base": worktree.base,
        "created": time.time(),
        "included": worktree.included,
        "submodules": worktree.submodules,
    }
    # The record makes the worktree whole, so it comes last and at once.
    unfinished = worktree.folder / f"{RECORD}.new"
    unfinished.write_text(json.dumps(record))
    unfinished.replace(worktree.folder / RECORD)


def _submodules(worktree: Worktree) -> tuple[str, ...]:
    if not (worktree.tree / ".gitmodules").exists():
        return ()
    rows = [row.split("\t", 1) for row in split_paths(worktree.git.run("ls-files", "-z", "--stage"))]
    return tuple(path for about, path in rows if about.startswith(f"{SUBMODULE} "))


def _check_out(worktree: Worktree, target: str) -> None:
    answer = worktree.git.ask("read-tree", "--reset", "-u", target)
    if answer.exit_code == 0:
        return
    repository = worktree.workspace.repository
    missing = ("unable to read", "missing", "bad object", "not a tree object", "failed to unpack")
    if _is_partial(repository) and any(words in answer.error for words in missing):
        hint = "bring all of them: git fetch --refetch --no-filter"
        raise RepositoryError("this is a partial clone, and it lacks files of the commit", hint=hint)
    raise git_failure("read-tree", answer)


def _is_partial(repository: Repository) -> bool:
    return any(any(objects.glob("pack/*.promisor")) for objects in repository.object_directories)


def _make_private_git_dir(worktree: Worktree, refs: bytes) -> None:
    workspace, repository = worktree.workspace, worktree.workspace.repository
    private = worktree.tree / ".git"
    alternates = (workspace.objects, *repository.object_directories)
    make_git_dir(private, workspace.template, alternates, worktree.base, refs)
    shutil.copyfile(worktree.exclude, private / "info" / "exclude")
    inside = [INSIDE / f"objects/{number}" for number in range(len(repository.object_directories))]
    (worktree.folder / "alternates").write_bytes(alternates_file([INSIDE / "git/objects", *inside]))
    (worktree.folder / "empty").touch()


def _show_index(worktree: Worktree) -> None:
    # With the same index `git status` in the tree need not read the files. Without a sandbox a command may have
    # put something else at .git; then there is nobody to show it to.
    private = worktree.tree / ".git"
    if private.is_dir() and not private.is_symlink():
        copy = worktree.folder / "index.copy"
        copy_index(worktree.folder / "index", copy)
        with contextlib.suppress(OSError):  # it is a folder, say; nothing but speed is lost
            copy.replace(private / "index")


def _copy_included(repository: Repository, tree: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    if not patterns:
        return ()
    git = Git(repository.git_dir, repository.root, user_config=True)
    globs = [f":(glob){pattern}" for pattern in patterns]
    found = git.run("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *globs)
    paths = tuple(path for path in split_paths(found) if not path.endswith("/"))
    for path in paths:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository.root / path, tree / path, follow_symlinks=False)
    return paths


def _remove_untracked(worktree: Worktree) -> None:
    for path in split_paths(worktree.git.run("ls-files", "-z", "--others", "--exclude-standard")):
        found = worktree.tree / path
        if path.endswith("/"):  # a repository in the tree
            remove_tree(found)
            continue
        try:
            found.unlink(missing_ok=True)
        except PermissionError:
            found.parent.chmod(0o700)
            found.unlink(missing_ok=True)
        _remove_empty(found.parent, worktree.tree)


def _remove_empty(folder: Path, top: Path) -> None:
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def _remove_bytecode(tree: Path, changed: Sequence[str]) -> None:
    # Python takes a .pyc for fresh when size and whole second of its source agree, and a switch is quicker than that.
    top = tree.resolve()
    for path in changed:
        source = tree / path
        cache = source.parent / "__pycache__"
        if source.suffix == ".py" and cache.resolve() == top / source.parent.relative_to(tree) / "__pycache__":
            for compiled in cache.glob(f"{glob.escape(source.stem)}.*.pyc"):
                compiled.unlink(missing_ok=True)
