"""A task's own repository: one commit with the task's files, and nothing of what comes after it.

The tests that are hidden, the solution and the history that a task was taken from are not among its objects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from miyabi_cli.bench.tasks import BenchTask
from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.mounts import dependency_folders
from miyabi_cli.workspace.repository import Identity, Repository, empty_tree, open_repository
from miyabi_cli.workspace.snapshots import write_commit
from miyabi_cli.workspace.trees import ABSENT, LINK, SUBMODULE, Entry, compare_trees, edit_tree, import_pack, tree_id

AUTHOR = Identity("miyabi bench", "bench@localhost")
MESSAGE = "The state that the task begins with"
FILE_MODE = "100644"
PACK_LIMIT = 2 << 30  # bytes
_ENTRY = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]+)\t(.*)", re.DOTALL)


def make_repository(task: BenchTask, folder: Path) -> Repository:
    """Make the repository of a task in a new folder, and return it.

    Raises RepositoryError where the commit that it starts from can't be had, MachineError where the disk fails.
    """
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise MachineError(f"can't make {folder}: {error.strerror}") from None
    git = Git(folder / ".git", folder)
    source = source_git(task) if task.repository else None
    form = source.run("rev-parse", "--show-object-format").decode().strip() if source else "sha1"
    Git(cwd=folder).run("init", "-q", "--template=", f"--object-format={form}", "--initial-branch=main")
    tree = _copied_tree(source, task.base, git) if source else empty_tree(git)
    entries = list(_text_entries(git, task.files))
    if task.visible:
        entries += hidden_tests(task, git)
    tree = edit_tree(git, tree, entries) if entries else tree
    commit = write_commit(git, tree, None, MESSAGE, AUTHOR)
    git.run("update-ref", "refs/heads/main", commit)
    git.run("read-tree", "--reset", "-u", commit)
    _show_dependencies(Path(task.dependencies) if task.dependencies else None, folder)
    return open_repository(folder)


def hidden_tests(task: BenchTask, git: Git) -> list[Entry]:
    """Write the hidden tests among the objects of `git`; return them as entries of a tree."""
    if not task.gold:
        return list(_text_entries(git, task.tests))
    return _entries_from(task, git, task.test_paths)


def solution_entries(task: BenchTask, git: Git) -> list[Entry]:
    """Write the task's own solution among the objects of `git`; return it as entries, none where it has no solution."""
    if not task.gold:
        return list(_text_entries(git, task.solution))
    source = source_git(task)
    changes = compare_trees(source, task.base, task.gold)
    hidden = set(task.test_paths)
    return _entries_from(task, git, [change.path for change in changes if change.path not in hidden])


def source_git(task: BenchTask) -> Git:
    """Return git on the repository that a task was taken from. Raises RepositoryError where there is none."""
    return git_at(Path(task.repository))


def git_at(folder: Path) -> Git:
    """Return git on a repository that is only read, which may be a bare one."""
    if not folder.is_dir():
        raise RepositoryError(f"{folder} is not a folder", hint="the tasks name the repository that they are from")
    answer = Git(cwd=folder, user_config=True).ask("rev-parse", "--path-format=absolute", "--git-common-dir")
    if answer.exit_code:
        raise RepositoryError(f"{folder} is not in a git repository", hint="name one with --repo")
    return Git(Path(os.fsdecode(answer.output.removesuffix(b"\n"))))


def _copied_tree(source: Git, commit: str, git: Git) -> str:
    """Copy the objects of a commit's tree, and of nothing else, and return its id."""
    answer = source.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    if answer.exit_code:
        raise RepositoryError(f"there is no commit {commit}", hint="a task's base is a commit of its repository")
    tree = answer.output.decode().strip()
    pack = source.run("pack-objects", "-q", "--revs", "--window=0", "--stdout", input=f"{tree}\n".encode())
    import_pack(git, pack, PACK_LIMIT)
    return tree_id(git, tree)


def _text_entries(git: Git, files: Mapping[str, str | None]) -> Iterator[Entry]:
    for path, text in files.items():
        if text is None:
            yield Entry(path, ABSENT, "")
        else:
            yield Entry(path, FILE_MODE, _written(git, text.encode("utf-8", "replace")))


def _entries_from(task: BenchTask, git: Git, paths: Sequence[str]) -> list[Entry]:
    """Return paths as they are in the gold commit; those that it lacks are taken away."""
    source = source_git(task)
    listed = source.run("ls-tree", "-r", "-z", "--full-tree", task.gold).split(b"\0")
    wanted, found = set(paths), {}
    for line in listed:
        if (match := _ENTRY.fullmatch(line)) and (path := os.fsdecode(match[4])) in wanted:
            found[path] = (match[1].decode(), match[3].decode())
    entries = []
    for path in paths:
        mode, object_id = found.get(path, (ABSENT, ""))
        if mode not in (ABSENT, SUBMODULE, LINK):
            object_id = _written(git, source.run("cat-file", "blob", object_id))
            entries.append(Entry(path, mode, object_id))
        elif mode == ABSENT:
            entries.append(Entry(path, ABSENT, ""))
    entries.sort(key=lambda entry: entry.mode != ABSENT)  # what goes comes first
    return entries


def _written(git: Git, content: bytes) -> str:
    return git.run("hash-object", "-w", "--stdin", "--no-filters", input=content).decode().strip()


def _show_dependencies(source: Path | None, folder: Path) -> None:
    """Link the environments and packages that the user has installed beside the suite, or in the repository."""
    if source is None or not source.is_dir():
        return
    linked = []
    for path in dependency_folders(source):
        place = folder / path.relative_to(source)
        if place.parent.is_dir() and not place.parent.is_symlink() and not os.path.lexists(place):
            place.symlink_to(path.resolve(), target_is_directory=True)
            linked.append(f"/{path.relative_to(source)}\n")
    exclude = folder / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("".join(linked))
