"""Reads what changed: from two of git's trees, or from a diff alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from miyabi_cli.errors import UsageError
from miyabi_cli.review.change import ChangedFile, FileStatus
from miyabi_cli.review.files import GENERATED, LEADS_OUT, attributes_of, name_reason, path_problem, says_generated
from miyabi_cli.workspace.diffs import FileDiff, parse_diff
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.trees import LINK, SUBMODULE, read_blobs

MAXIMUM_BYTES = 16 << 20  # of one file
MAXIMUM_TOTAL = 128 << 20  # of all files that are read
_STATUSES: dict[str, FileStatus] = {"A": "created", "C": "created", "D": "deleted", "R": "renamed"}
_OPTIONS = ("-r", "-M", "--no-ext-diff", "--no-textconv")
# Larger files count as binary for git's diff.
_SETTINGS = {"core.bigFileThreshold": str(MAXIMUM_BYTES), "diff.renameLimit": "1000"}

_UNREADABLE = {SUBMODULE: "submodule", LINK: "symbolic link"}  # by mode
TOO_LARGE = "too large"
UNREAD = (TOO_LARGE, LEADS_OUT)  # how the reasons of files begin that are left out though they may be code
_SUBPROJECT = re.compile(r"Subproject commit [0-9a-f]{40,64}(?:-dirty)?\r?")
_COMBINED = re.compile(rb"^diff --(?:cc|combined) ", re.MULTILINE)  # git-diff(1), "Combined diff format"


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of `git diff-tree --raw`; modes and ids as git writes them."""

    path: str
    old_path: str
    status: FileStatus
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str


def read_files(git: Git, base: str, head: str, *, untrusted: bool) -> tuple[ChangedFile, ...]:
    """Return the files that differ between two trees (ids), by path.

    Of a change that is `untrusted` neither .gitattributes nor a mark in a file's head says that a file is generated,
    but those of the base do. Raises RepositoryError.
    """
    git = replace(git, settings={**git.settings, **_SETTINGS})
    rows = tuple(_rows(git, base, head))
    told = attributes_of(git, base if untrusted else head, [row.path for row in rows])
    sizes = _sizes(git, rows)
    reasons = {row.path: _row_reason(row, told, sizes) for row in rows}
    _bound(rows, reasons, sizes)
    read = [row for row in rows if not reasons[row.path]]
    diffs = _diffs(git, base, head, read)
    texts = _texts(git, read, old=False)
    before = _texts(git, read, old=True) if untrusted else {}
    files = []
    for row in rows:
        diff, text = diffs.get(row.path), texts.get(row.path)
        reason = reasons[row.path] or ("binary" if diff and diff.binary else "")
        if (
            not reason
            and row.path not in told
            and says_generated(before.get(row.path, "") if untrusted else text or "")
        ):
            reason = f"{GENERATED} (its first lines say so)"
        hunks = diff.hunks if diff and not reason else ()
        executable = row.new_mode == "100755" != row.old_mode
        text = None if reason else text
        files.append(ChangedFile(row.path, row.old_path, row.status, hunks, text, reason, executable))
    return tuple(files)


def with_submodules(files: tuple[ChangedFile, ...], paths: Iterable[str]) -> tuple[ChangedFile, ...]:
    """Return files with submodules that differ, too: what is in them is another repository's."""
    known = {file.path for file in files}
    named = (ChangedFile(path, path, "modified", skipped=_UNREADABLE[SUBMODULE]) for path in paths if path not in known)
    return tuple(sorted((*files, *named), key=lambda file: os.fsencode(file.path)))


def with_left_out(files: tuple[ChangedFile, ...], told: Iterable[ChangedFile]) -> tuple[ChangedFile, ...]:
    """Return files with those that a diff tells only to differ, so that it changes nothing of them in a tree."""
    known = {file.path for file in files}
    return (*files, *(file for file in told if file.skipped and file.path not in known))


def files_of_diff(data: bytes) -> tuple[ChangedFile, ...]:
    """Return the files of a diff that comes without its repository, none of an empty one.

    Raises UsageError where it is no unified diff: to find nothing in it would read as if all were well.
    """
    if _COMBINED.search(data):
        raise UsageError("it is the combined diff of a merge", hint="git show -m --first-parent writes one that tells")
    found: dict[str, ChangedFile] = {}
    for diff in parse_diff(data):
        status: FileStatus = diff.status
        mode = SUBMODULE if _is_of_submodule(diff) else diff.mode
        reason = path_problem(diff.path) or _UNREADABLE.get(mode, "")
        reason = reason or ("binary" if diff.binary else name_reason(diff.path))
        shown = "\n".join(line.text for hunk in diff.hunks[:1] for line in hunk.lines if line.new)
        if not reason and diff.hunks and diff.hunks[0].new_start <= 1 and says_generated(shown):
            reason = f"{GENERATED} (its first lines say so)"
        file = ChangedFile(diff.path, diff.old_path, status, () if reason else diff.hunks, None, reason)
        earlier = found.get(diff.path)
        found[diff.path] = replace(earlier, hunks=earlier.hunks + file.hunks) if earlier else file
    if not found and data.strip():
        raise UsageError("there is no unified diff in it", hint="git diff --no-color writes one")
    return tuple(found.values())


def _is_of_submodule(diff: FileDiff) -> bool:
    """Say whether a diff is that of a submodule; git tells no mode where only something in it has changed."""
    lines = [line.text for hunk in diff.hunks for line in hunk.lines]
    return bool(lines) and all(map(_SUBPROJECT.fullmatch, lines))


def _rows(git: Git, base: str, head: str) -> Iterator[_Row]:
    fields = iter(git.run("diff-tree", *_OPTIONS, "-z", "--raw", "--no-abbrev", base, head).split(b"\0"))
    for field in fields:
        if not field.startswith(b":"):
            continue
        old_mode, new_mode, old_id, new_id, letter = field.decode().removeprefix(":").split(" ")
        status = _STATUSES.get(letter[:1], "modified")
        old_path = os.fsdecode(next(fields))
        path = os.fsdecode(next(fields)) if letter[:1] in "RC" else old_path
        yield _Row(path, old_path, status, old_mode, new_mode, old_id, new_id)


def _row_reason(row: _Row, told: Mapping[str, str], sizes: Mapping[str, int]) -> str:
    mode = row.old_mode if row.status == "deleted" else row.new_mode  # a file may have been a link before
    if reason := _UNREADABLE.get(mode) or path_problem(row.path) or name_reason(row.path, told.get(row.path)):
        return reason
    size = max(sizes.get(row.old_id, 0), sizes.get(row.new_id, 0))
    return f"{TOO_LARGE} ({size:,} bytes)" if size >= MAXIMUM_BYTES else ""


def _bound(rows: Iterable[_Row], reasons: dict[str, str], sizes: Mapping[str, int]) -> None:
    """Leave files out once all that are read would be too much for the memory."""
    total = 0
    for row in rows:
        if not reasons[row.path]:
            total += sizes.get(row.new_id, 0) + sizes.get(row.old_id, 0)
            if total > MAXIMUM_TOTAL:
                reasons[row.path] = f"{TOO_LARGE} a change: over {MAXIMUM_TOTAL >> 20} MB"


def _sizes(git: Git, rows: Iterable[_Row]) -> dict[str, int]:
    """Return the bytes of all blobs, by id."""
    ids = {name for row in rows for name in (row.old_id, row.new_id) if name.strip("0")}
    asked = "".join(f"{name}\n" for name in sorted(ids)).encode()
    lines = git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=asked).decode()
    fields = [line.split(" ") for line in lines.splitlines()]
    return {field[0]: int(field[2]) for field in fields if len(field) == 3 and field[1] == "blob"}


def _diffs(git: Git, base: str, head: str, rows: Iterable[_Row]) -> dict[str, FileDiff]:
    """Return the diffs of files by path; the whole change is diffed, but for its very large files."""
    if not any(True for _ in rows):
        return {}
    diffs = parse_diff(git.run("diff-tree", *_OPTIONS, "-p", "--no-color", "--full-index", base, head))
    by_path: dict[str, FileDiff] = {}
    for diff in diffs:
        # a file that was a link before is one deleted and one created
        if diff.path not in by_path or diff.status != "deleted":
            by_path[diff.path] = diff
    return by_path


def _texts(git: Git, rows: Iterable[_Row], *, old: bool) -> dict[str, str]:
    ids = {row.path: row.old_id if old else row.new_id for row in rows}
    there = {path: name for path, name in ids.items() if name.strip("0")}
    contents = read_blobs(git, list(there.values()))
    return {path: data.decode("utf-8", "surrogateescape") for path, data in zip(there, contents, strict=True)}
