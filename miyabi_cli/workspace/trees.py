"""Trees of files as git keeps them: what differs between two, and new ones made from old."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from miyabi_cli.errors import PatchConflict, RepositoryError
from miyabi_cli.workspace.git import Git, git_failure, joined_lines, last_word

LINK, SUBMODULE, ABSENT = "120000", "160000", "000000"  # modes of git's tree entries

_OBJECTION = re.compile(r"^error: object [0-9a-f]+: (.+)$", re.MULTILINE)  # fsck's, before index-pack's own word

ChangeStatus = Literal["created", "modified", "deleted"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs between two trees; a file that moved is one deleted and one created.

    Modes and object ids are git's, of zeros where there is no such file; lines count 0 for a binary file.
    """

    path: str
    status: ChangeStatus
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str
    lines_added: int = 0
    lines_removed: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file for `edit_tree`; the mode `ABSENT` takes it away."""

    path: str
    mode: str
    object_id: str


def compare_trees(git: Git, old: str, new: str) -> tuple[FileChange, ...]:
    """Return what differs between two trees or commits (ids), by path."""
    options = ("-r", "-z", "--raw", "--numstat", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv")
    fields = iter(git.run("diff-tree", *options, old, new).split(b"\0"))
    changes: dict[str, FileChange] = {}
    for field in fields:
        if field.startswith(b":"):
            change = _raw_change(field.decode(), os.fsdecode(next(fields)))
            changes[change.path] = change
        elif field:
            added, removed, name = field.split(b"\t", 2)
            path = os.fsdecode(name)
            changes[path] = replace(changes[path], lines_added=_count(added), lines_removed=_count(removed))
    return tuple(changes.values())


def patch_between(git: Git, old: str, new: str) -> bytes:
    """Return the patch from one tree or commit (ids) to another, as `git apply` reads it: binary files are in it."""
    options = ("-r", "-p", "--binary", "--full-index", "-M", "--no-color", "--no-ext-diff", "--no-textconv")
    return git.run("diff-tree", *options, old, new)


def tree_id(git: Git, commit: str) -> str:
    """Return the id of a commit's tree, or of a tree itself."""
    return git.run("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()


def edit_tree(git: Git, tree: str, entries: Sequence[Entry]) -> str:
    """Return the id of a tree that is `tree` but for `entries`; an entry takes the place of whatever is in its way."""
    zeros = "0" * len(tree)
    lines = [f"{entry.mode} {zeros if entry.mode == ABSENT else entry.object_id}\t{entry.path}" for entry in entries]
    with tempfile.TemporaryDirectory(prefix="miyabi-") as folder:
        private = replace(git, index=Path(folder) / "index")
        private.run("read-tree", tree)
        private.run("update-index", "--replace", "-z", "--index-info", input=joined_lines(lines))
        return private.run("write-tree").decode().strip()


def patched_tree(git: Git, tree: str, patch: bytes, *, strip: int = 1, reverse: bool = False) -> str:
    """Return the id of a tree with a patch applied, or taken back; raises PatchConflict where it does not fit.

    `strip` is how many leading parts its names have that are no folders: 1 for `a/` and `b/`, 0 for none.
    """
    options = ("--cached", "--whitespace=nowarn", f"-p{strip}", *(["--reverse"] if reverse else []))
    with tempfile.TemporaryDirectory(prefix="miyabi-") as folder:
        private = replace(git, index=Path(folder) / "index")
        private.run("read-tree", tree)
        applied = private.ask("apply", *options, "-", input=patch)
        if applied.exit_code:
            raise PatchConflict(f"the patch does not fit: {last_word(applied)}")
        return private.run("write-tree").decode().strip()


def import_pack(git: Git, pack: bytes, limit: int) -> None:
    """Store a pack's objects after checking each and all that they refer to; raises RepositoryError for a bad one."""
    if not pack_count(pack):
        return
    answer = git.ask("index-pack", "--strict", "--stdin", f"--max-input-size={limit}", input=pack)
    if answer.exit_code == 0:
        return
    if objection := _OBJECTION.search(answer.error):
        hint = "a file such as .gitmodules, or a file's name, is one that git takes for an attack"
        raise RepositoryError(f"git refuses the change: {objection[1]}", hint=hint)
    raise git_failure("index-pack", answer)


def pack_count(pack: bytes) -> int:
    """Return how many objects a pack says it holds (gitformat-pack(5)); raises RepositoryError where it is none."""
    if len(pack) < 12 or not pack.startswith(b"PACK"):
        raise RepositoryError("not a pack of git's")
    return int.from_bytes(pack[8:12], "big")


def read_blobs(git: Git, ids: Sequence[str]) -> Iterator[bytes]:
    """Yield the contents of blobs, in order; they are read together, so they had better be small."""
    output = git.run("cat-file", "--batch", input="".join(f"{name}\n" for name in ids).encode()) if ids else b""
    at = 0
    for _ in ids:
        end = output.index(b"\n", at)
        size = int(output[at:end].rsplit(b" ", 1)[1])
        yield output[end + 1 : end + 1 + size]
        at = end + size + 2


def _raw_change(field: str, path: str) -> FileChange:
    old_mode, new_mode, old_id, new_id, _ = field.removeprefix(":").split(" ")
    status: ChangeStatus = "created" if old_mode == ABSENT else "deleted" if new_mode == ABSENT else "modified"
    return FileChange(path, status, old_mode, new_mode, old_id, new_id)


def _count(number: bytes) -> int:
    return 0 if number == b"-" else int(number)
