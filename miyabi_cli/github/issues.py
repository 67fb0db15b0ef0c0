"""Issues, their comments and labels: plain frozen data, all of it written by strangers, and how to get them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from miyabi_cli.errors import GitHubError, UsageError
from miyabi_cli.github.answers import number_of, part_of, text_of
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.places import Place

GONE = (404, 410)
_NUMBER = re.compile(r"#?([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote something; `association` is GitHub's word for what they are to the repository: OWNER, NONE."""

    login: str
    association: str = ""
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue; `created` is a time of ISO 8601, `comments` how many it has, None where that was not told."""

    number: int
    title: str
    body: str
    author: Author
    url: str
    state: str = "open"
    created: str = ""
    labels: tuple[str, ...] = ()
    comments: int | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment on an issue or a pull request."""

    id: int
    body: str
    author: Author
    created: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a repository; `color` is six hexadecimal digits."""

    name: str
    color: str = ""
    description: str = ""


def issue_number(text: str, place: Place) -> int:
    """Return the number that a user names: `12`, `#12` or the issue's address. Raises UsageError."""
    found = _NUMBER.fullmatch(text.strip())
    number = int(found[1]) if found else _number_in_address(text.strip(), place)
    if not number:
        raise UsageError("issues are numbered from 1")
    return number


def _number_in_address(text: str, place: Place) -> int:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    found = re.fullmatch(r"/([^/]{1,100})/([^/]{1,100})/issues/([0-9]{1,18})/?", parts.path)
    if parts.scheme not in ("https", "http") or not found:
        raise UsageError(
            f"an issue is named by its number or its address, and not by {text[:80]!r}",
            hint=f"such as 12, or {place.server}/{place.full_name}/issues/12",
        )
    if not place.is_at(host, found[1], found[2]):
        hint = "run it in a clone of that one, or name it with --repo"
        raise UsageError(f"that issue is not one of {place.host}/{place.full_name}, this repository", hint=hint)
    return int(found[3])


async def get_issue(github: GitHub, number: int) -> Issue:
    """Return one issue. Raises UsageError where there is none of that number."""
    name = f"{github.place.full_name}#{number}"
    try:
        data = await github.get(f"issues/{number}")
    except GitHubError as error:
        if error.status in GONE and await _is_seen(github):
            raise UsageError(f"there is no issue {name}", hint=f"see {github.place.server}") from None
        raise
    if "pull_request" in data:
        raise UsageError(f"{name} is a pull request, and no issue")
    if number_of(data, "number") != number:
        raise UsageError(f"the issue {name} has moved to {text_of(data, 'html_url')}")
    return issue_of(data)


async def list_issues(github: GitHub, *, state: str = "open") -> AsyncIterator[Issue]:
    """Yield a repository's issues ("open", "closed" or "all"), the newest first, without its pull requests."""
    async for data in github.pages("issues", {"state": state}):
        if "pull_request" not in data:
            yield issue_of(data)


async def list_comments(github: GitHub, number: int) -> AsyncIterator[Comment]:
    """Yield the comments on an issue or a pull request, the oldest first."""
    async for data in github.pages(f"issues/{number}/comments"):
        yield Comment(number_of(data, "id"), text_of(data, "body"), _author(data), text_of(data, "created_at"))


async def list_labels(github: GitHub) -> AsyncIterator[Label]:
    """Yield the labels that a repository has."""
    async for data in github.pages("labels"):
        yield Label(text_of(data, "name"), text_of(data, "color"), text_of(data, "description"))


async def add_labels(github: GitHub, number: int, labels: Sequence[str]) -> None:
    """Put further labels on an issue; those that it has stay."""
    await github.send("POST", f"issues/{number}/labels", body={"labels": list(labels)}, same_twice=True)


async def create_label(github: GitHub, label: Label) -> None:
    """Give the repository a label."""
    body = {"name": label.name, "color": label.color, "description": label.description}
    await github.send("POST", "labels", body=body)


async def update_label(github: GitHub, name: str, label: Label) -> None:
    """Give the repository's label of a name the color and the description of `label`; the name stays."""
    body = {"color": label.color, "description": label.description}
    await github.send("PATCH", f"labels/{quote(name, safe='')}", body=body, same_twice=True)


def issue_of(data: Mapping[str, Any]) -> Issue:
    """Return an issue from GitHub's object. Raises GitHubError where it has no number."""
    labels = data.get("labels")
    comments = data.get("comments")
    return Issue(
        number=number_of(data, "number"),
        title=text_of(data, "title"),
        body=text_of(data, "body"),
        author=_author(data),
        url=text_of(data, "html_url"),
        state=text_of(data, "state"),
        created=text_of(data, "created_at"),
        labels=tuple(filter(None, map(_label_name, labels if isinstance(labels, list) else ()))),
        comments=comments if isinstance(comments, int) else None,
    )


def _label_name(label: Any) -> str:
    """Return a label's name: it comes as an object, and in older answers as a text."""
    if isinstance(label, dict):
        return text_of(label, "name")
    return label if isinstance(label, str) else ""


def _author(data: Mapping[str, Any]) -> Author:
    user = part_of(data, "user")  # null for an account that is gone
    login = text_of(user, "login") or "ghost"
    is_bot = text_of(user, "type") == "Bot" or login.endswith("[bot]")
    return Author(login, text_of(data, "author_association"), is_bot)


async def _is_seen(github: GitHub) -> bool:
    """Say whether the repository itself answers; a private one that the token may not see does not."""
    try:
        await github.get("")
    except GitHubError as error:
        if error.status in GONE:
            return False
        raise
    return True
