"""A pull request of GitHub's as a change: of the commits that are here, else of its diff put onto the base."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import quote

from miyabi_cli.errors import GitHubError, MiyabiError, RepositoryError, UsageError
from miyabi_cli.github.answers import part_of, text_of
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.pulls import PullFile, PullRequest, get_pull, get_pull_diff, list_pull_files
from miyabi_cli.review.change import Change, ChangedFile, FileStatus
from miyabi_cli.review.reading import TOO_LARGE, files_of_diff, read_files, with_left_out
from miyabi_cli.review.selecting import merge_base
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import resolve
from miyabi_cli.workspace.trees import patched_tree, tree_id
from miyabi_cli.workspace.workspaces import Workspace

_TOO_LARGE = 406  # what GitHub answers to the diff of over 20,000 lines
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # the blob of an empty file
_LETTERS = {"added": "new file mode 100644", "removed": "deleted file mode 100644"}


async def pull_change(workspace: Workspace, github: GitHub, number: int) -> Change:
    """Return the change of a pull request, which nobody here has written; raises GitHubError, RepositoryError.

    Nothing is fetched by git: where its commits are not here, its files are those of the base with the diff on them.
    """
    pull = await get_pull(github, number)
    change = await asyncio.to_thread(_of_commits, workspace, pull)
    if change is None:
        data, unread = await _diff(github, number)
        base = await _merge_base(github, pull)
        change = await asyncio.to_thread(_of_diff, workspace, data, [base, pull.base_commit])
        notes = _missing(pull, data, unread)
        change = replace(change, files=(*change.files, *unread), notes=(*change.notes, *notes))
    return replace(
        change,
        what=f"pull request #{number}",
        untrusted=True,
        pull_request=number,
        head_commit=pull.head_commit,
        title=pull.title,
        body=pull.body,
    )


def _of_commits(workspace: Workspace, pull: PullRequest) -> Change | None:
    """Return the change between the commits of a pull request, None where they are not all here."""
    git = Git(workspace.git_dir)
    base, head = _here(workspace, pull.base_commit), _here(workspace, pull.head_commit)
    parted = merge_base(git, base, head) if base and head else None
    if parted is None or head is None:
        return None
    before, after = tree_id(git, parted), tree_id(git, head)
    return Change("", read_files(git, before, after, untrusted=True), before, after)


def _here(workspace: Workspace, commit: str) -> str | None:
    if not _COMMIT.fullmatch(commit):
        return None
    try:
        return resolve(workspace.repository, commit)
    except RepositoryError:
        return None


async def _merge_base(github: GitHub, pull: PullRequest) -> str:
    """Return the commit that a pull request parted from the base at, "" where GitHub does not tell."""
    try:
        ends = f"{quote(pull.base_commit, safe='')}...{quote(pull.head_commit, safe='')}"
        return text_of(part_of(await github.get(f"compare/{ends}"), "merge_base_commit"), "sha")
    except GitHubError:
        return ""


async def _diff(github: GitHub, number: int) -> tuple[bytes, tuple[ChangedFile, ...]]:
    """Return the diff of a pull request, and the files that are not in it."""
    try:
        return await get_pull_diff(github, number), ()
    except GitHubError as error:
        if error.status != _TOO_LARGE:
            raise
    files = [file async for file in list_pull_files(github, number)]
    unread = [file for file in files if file.changes and not file.patch]
    diff = "".join(_file_diff(file) for file in files if file not in unread)
    return diff.encode("utf-8", "surrogateescape"), tuple(map(_unread_file, unread))


def _unread_file(file: PullFile) -> ChangedFile:
    status: FileStatus = "created" if file.status == "added" else "modified"
    reason = f"{TOO_LARGE}: GitHub does not give its diff"
    return ChangedFile(file.path, file.previous_path or file.path, status, skipped=reason)


def _missing(pull: PullRequest, data: bytes, unread: Sequence[ChangedFile]) -> tuple[str, ...]:
    """Return a note on the files that GitHub tells nothing of: it lists no more than 3,000."""
    count = pull.changed_files - len(files_of_diff(data)) - len(unread)
    return (f"{TOO_LARGE} a change: GitHub does not tell of {count} of its files",) if count > 0 else ()


def _file_diff(file: PullFile) -> str:
    """Return a file's part of a diff as git writes it."""
    old = file.previous_path or file.path
    lines = [f"diff --git {_quoted('a/' + old)} {_quoted('b/' + file.path)}"]
    if file.status in _LETTERS:
        lines.append(_LETTERS[file.status])
    if file.status == "renamed":
        lines += [f"rename from {_quoted(old)}", f"rename to {_quoted(file.path)}"]
    if file.patch:
        lines.append(f"--- {'/dev/null' if file.status == 'added' else _quoted('a/' + old)}")
        lines.append(f"+++ {'/dev/null' if file.status == 'removed' else _quoted('b/' + file.path)}")
        lines.append(file.patch)
    elif file.status in ("added", "modified") and file.blob != _EMPTY:
        lines.append(f"Binary files {_quoted('a/' + old)} and {_quoted('b/' + file.path)} differ")
    return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    """Return a path as git quotes it where it has to."""
    if not re.search(r'[\x00-\x1f\x7f"\\]', path):
        return path
    escaped = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", re.sub(r'(["\\])', r"\\\1", path))
    return f'"{escaped}"'


def _of_diff(workspace: Workspace, data: bytes, bases: Iterable[str]) -> Change:
    """Return the change of a diff, with its trees where one of the base commits is here and the diff fits it."""
    git = Git(workspace.git_dir)
    alone = files_of_diff(data)
    for commit in bases:
        base = _here(workspace, commit)
        if base is None:
            continue
        before = tree_id(git, base)
        try:
            after = patched_tree(git, before, _without_binaries(data))
        except (MiyabiError, UsageError):
            continue
        files = read_files(git, before, after, untrusted=True)
        return Change("", with_left_out(files, alone), before, after)
    note = "the base's commit is not in this clone, or the diff does not fit it, so linters have no files"
    return Change("", alone, notes=(note,))


def _without_binaries(data: bytes) -> bytes:
    """Return a diff without the files of which it says only that they differ: those can't be put onto anything."""
    parts = re.split(rb"(?m)^(?=diff --git )", data)
    return b"".join(part for part in parts if not re.search(rb"(?m)^Binary files .* differ\r?$", part[:10_000]))
