"""The repository itself and its pull requests: what they hold, opening one as a draft, and reviewing one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from miyabi_cli.errors import GitHubError
from miyabi_cli.github.answers import number_of, part_of, text_of
from miyabi_cli.github.client import DIFF_TYPE, GitHub


@dataclass(frozen=True, slots=True)
class Hosted:
    """The repository as GitHub knows it, under its present name."""

    owner: str
    name: str
    default_branch: str


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One pull request; `base_commit` and `head_commit` are ids, `author` a login.

    `changed_files` is their number, 0 where GitHub does not tell it.
    """

    number: int
    url: str
    title: str
    body: str
    author: str
    state: str
    draft: bool
    base: str
    base_commit: str
    head: str
    head_commit: str
    changed_files: int = 0


@dataclass(frozen=True, slots=True)
class PullFile:
    """One file of a pull request: "added", "removed", "modified", "renamed"; `changes` are its lines that come and go.

    `patch` is "" where it is too large, and where there are no `changes`: of a binary file, say. `blob` is its id.
    """

    path: str
    status: str
    patch: str
    previous_path: str = ""
    changes: int = 0
    blob: str = ""


@dataclass(frozen=True, slots=True)
class LineComment:
    """A review's comment on lines of the file as the pull request has it, `first` to `line`."""

    path: str
    line: int
    body: str
    first: int | None = None


async def get_hosted(github: GitHub) -> Hosted:
    """Return what GitHub says of the repository. Raises GitHubError."""
    data = await github.get("")
    return Hosted(
        owner=text_of(part_of(data, "owner"), "login") or github.place.owner,
        name=text_of(data, "name") or github.place.name,
        default_branch=text_of(data, "default_branch"),
    )


async def has_branch(github: GitHub, branch: str) -> bool:
    """Say whether the repository at GitHub has a branch."""
    try:
        await github.get(f"branches/{quote(branch, safe='')}")
    except GitHubError as error:
        if error.status == 404:
            return False
        raise
    return True


async def get_pull(github: GitHub, number: int) -> PullRequest:
    """Return one pull request."""
    return pull_of(await github.get(f"pulls/{number}"))


async def find_pull(github: GitHub, owner: str, branch: str) -> PullRequest | None:
    """Return the open pull request of a branch of that owner's, or None."""
    async for data in github.pages("pulls", {"head": f"{owner}:{branch}", "state": "open"}):
        pull = pull_of(data)
        if pull.head == branch:  # an owner that is not known makes GitHub ignore the question
            return pull
    return None


async def create_draft(github: GitHub, *, head: str, base: str, title: str, body: str) -> PullRequest:
    """Open a draft; `head` is a branch of the same repository. Raises GitHubError, with status 422 for one too many."""
    fields = {"title": title, "head": head, "base": base, "body": body, "draft": True}
    return pull_of(await github.post("pulls", fields))


async def list_pull_files(github: GitHub, number: int) -> AsyncIterator[PullFile]:
    """Yield the files of a pull request, at most 3,000: more GitHub does not tell."""
    async for data in github.pages(f"pulls/{number}/files"):
        yield PullFile(
            path=text_of(data, "filename"),
            status=text_of(data, "status"),
            patch=text_of(data, "patch"),
            previous_path=text_of(data, "previous_filename"),
            changes=_count(data, "changes"),
            blob=text_of(data, "sha"),
        )


async def get_pull_diff(github: GitHub, number: int) -> bytes:
    """Return a pull request's diff. Raises GitHubError, with status 406 for one of over 20,000 lines."""
    return (await github.send("GET", f"pulls/{number}", accept=DIFF_TYPE)).body


async def list_reviews(github: GitHub, number: int) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the reviews of a pull request as GitHub's objects, the oldest first."""
    async for data in github.pages(f"pulls/{number}/reviews"):
        yield data


async def create_review(
    github: GitHub, number: int, *, commit: str, body: str, comments: Sequence[LineComment] = ()
) -> int:
    """Post one review that neither approves nor blocks, with comments on lines of `commit`; return its id."""
    fields = {"commit_id": commit, "event": "COMMENT", "body": body, "comments": [*map(_comment_fields, comments)]}
    return number_of(await github.post(f"pulls/{number}/reviews", fields), "id")


def pull_of(data: Mapping[str, Any]) -> PullRequest:
    """Return a pull request from GitHub's object. Raises GitHubError where it has no number."""
    base, head = part_of(data, "base"), part_of(data, "head")
    return PullRequest(
        number=number_of(data, "number"),
        url=text_of(data, "html_url"),
        title=text_of(data, "title"),
        body=text_of(data, "body"),
        author=text_of(part_of(data, "user"), "login"),
        state=text_of(data, "state"),
        draft=data.get("draft") is True,
        base=text_of(base, "ref"),
        base_commit=text_of(base, "sha"),
        head=text_of(head, "ref"),
        head_commit=text_of(head, "sha"),
        changed_files=_count(data, "changed_files"),
    )


def _count(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) else 0


def _comment_fields(comment: LineComment) -> dict[str, Any]:
    fields: dict[str, Any] = {"path": comment.path, "line": comment.line, "side": "RIGHT", "body": comment.body}
    if comment.first is not None and comment.first < comment.line:
        fields |= {"start_line": comment.first, "start_side": "RIGHT"}
    return fields
