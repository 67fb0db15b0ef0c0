"""Reviews of a pull request that stand already, and their comments: reading, rewriting and taking them away.

GitHub's REST API deletes comments on lines and rewrites the text of reviews, but deletes no review that was submitted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from miyabi_cli.errors import GitHubError
from miyabi_cli.github.answers import number_of, part_of, text_of
from miyabi_cli.github.client import GitHub

LONGEST_BODY = 65_536  # characters of a review's or a comment's text


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote a review or a comment."""

    login: str
    is_bot: bool


@dataclass(frozen=True, slots=True)
class PostedReview:
    """A review as it stands; `body` is its text."""

    id: int
    body: str
    writer: Writer


@dataclass(frozen=True, slots=True)
class PostedComment:
    """A comment on a line of the file as the pull request has it now; `line` is None where it has no such line now.

    `answers` is the id of the comment that this one replies to, None for none.
    """

    id: int
    path: str
    line: int | None
    body: str
    writer: Writer
    answers: int | None = None


async def find_login(github: GitHub) -> str | None:
    """Return the login that the token is of; None for an app's, as that of Actions: it may not ask.

    Raises GitHubError where the token is no good.
    """
    try:
        return text_of(await github.account(), "login") or None
    except GitHubError as error:
        if error.status in (403, 404):
            return None
        raise


async def list_posted_reviews(github: GitHub, number: int) -> AsyncIterator[PostedReview]:
    """Yield the reviews of a pull request, the oldest first."""
    async for data in github.pages(f"pulls/{number}/reviews"):
        yield PostedReview(number_of(data, "id"), text_of(data, "body"), _writer(data))


async def list_posted_comments(github: GitHub, number: int) -> AsyncIterator[PostedComment]:
    """Yield the comments on lines of a pull request, the oldest first."""
    async for data in github.pages(f"pulls/{number}/comments"):
        line, answers = data.get("line"), data.get("in_reply_to_id")
        yield PostedComment(
            number_of(data, "id"),
            text_of(data, "path"),
            line if isinstance(line, int) else None,
            text_of(data, "body"),
            _writer(data),
            answers if isinstance(answers, int) else None,
        )


async def update_review(github: GitHub, number: int, review: int, body: str) -> None:
    """Give a review another text."""
    await github.send("PUT", f"pulls/{number}/reviews/{review}", body={"body": body})


async def update_comment(github: GitHub, comment: int, body: str) -> None:
    """Give a comment another text."""
    await github.send("PATCH", f"pulls/comments/{comment}", body={"body": body})


async def delete_comment(github: GitHub, comment: int) -> None:
    """Take a comment away; one that is gone is no error."""
    try:
        await github.send("DELETE", f"pulls/comments/{comment}")
    except GitHubError as error:
        if error.status != 404:
            raise


def _writer(data: Mapping[str, Any]) -> Writer:
    user = part_of(data, "user")  # null for an account that is gone
    return Writer(text_of(user, "login"), text_of(user, "type") == "Bot")
