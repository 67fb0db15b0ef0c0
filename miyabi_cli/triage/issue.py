"""Issues to triage, from GitHub or from a file: plain frozen data, all of it written by strangers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miyabi_cli.errors import GitHubError

LONGEST_TITLE = 1_000  # characters that are kept; GitHub takes 256
LONGEST_BODY = 70_000  # GitHub takes 65,536


@dataclass(frozen=True, slots=True)
class TriageIssue:
    """One issue; `labels` are those that it has. `truth` and `repository` stand in files of labelled issues alone."""

    number: int
    title: str
    body: str
    labels: tuple[str, ...] = ()
    truth: str = ""
    repository: str = ""

    def text_of(self, field: str) -> str:
        """Return the field that evidence names: title or body."""
        return self.title if field == "title" else self.body


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that is no issue: where it stands, and why. `failure`: GitHub's, which did not give it."""

    place: str
    problem: str
    failure: GitHubError | None = None


def issue_from(data: Any, place: str, position: int) -> TriageIssue | Unreadable:
    """Return the issue in an entry of a file; one without a number takes its position in the file, from 1."""
    if not isinstance(data, Mapping):
        return Unreadable(place, "not a JSON object")
    title, body = data.get("title"), data.get("body")
    if not isinstance(title, str | None) or not isinstance(body, str | None):
        return Unreadable(place, "title and body are to be texts")
    if not (title or "").strip() and not (body or "").strip():
        return Unreadable(place, "an issue needs a title")
    number = _number(data.get("number"), position)
    if number is None:
        return Unreadable(place, "number is to be a whole number from 1")
    return TriageIssue(
        number,
        _clean(title or "")[:LONGEST_TITLE],
        _clean(body or "")[:LONGEST_BODY],
        _labels(data.get("labels")),
        _word(data.get("label") or data.get("type")),
        _word(data.get("repo") or data.get("repository")),
    )


def _clean(text: str) -> str:
    """Return text without what is no character by itself, and can't be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number(value: Any, position: int) -> int | None:
    if value is None or value == "":
        return position
    if isinstance(value, str) and (text := value.strip().removeprefix("#")).isascii() and text.isdigit():
        value = int(text[:19])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18:
        return value
    return None


def _labels(value: Any) -> tuple[str, ...]:
    """Return labels from texts, from GitHub's objects, or from one text with commas or semicolons."""
    if isinstance(value, str):
        value = re.split("[,;]", value)
    names = [one.get("name") if isinstance(one, Mapping) else one for one in value] if _is_list(value) else []
    return tuple(_clean(name.strip())[:100] for name in names if isinstance(name, str) and name.strip())[:100]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _word(value: Any) -> str:
    return _clean(value.strip())[:200] if isinstance(value, str) else ""
