"""GitHub's answers: refusals as errors, how long it asks to wait, and fields of objects that nobody vouches for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from miyabi_cli.errors import GitHubError
from miyabi_cli.http import one_line, retry_after

BUSY = frozenset({500, 502, 503, 504})
SECONDARY_WAIT = 60.0  # what the documentation asks for where a secondary limit names no time


def wait_asked(response: httpx.Response, said: str) -> float | None:
    """Return the seconds until a limit of requests is over; None where it is no limit that was met.

    By docs.github.com, "Rate limits for the REST API": 403 or 429, with retry-after, else x-ratelimit-remaining 0 and
    the second of x-ratelimit-reset, else a secondary limit, which is a minute.
    """
    if response.status_code not in (403, 429):
        return None
    if (seconds := retry_after(response.headers.get("retry-after"))) is not None:
        return seconds
    if response.headers.get("x-ratelimit-remaining") == "0":
        reset = response.headers.get("x-ratelimit-reset", "")
        if reset.isascii() and reset.isdigit() and len(reset) < 12:
            return max(1.0, int(reset) - time.time() + 1.0)
    limited = response.status_code == 429 or "rate limit" in said.lower()
    return SECONDARY_WAIT if limited else None


def words_of(body: bytes) -> str:
    """Return what an answer says on one line: its `message`, and the messages of its `errors`."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(data, dict):
        return ""
    errors = data.get("errors")
    parts = [data.get("message")]
    for error in errors[:5] if isinstance(errors, list) else ():
        parts.append(_error_words(error) if isinstance(error, dict) else error)
    return one_line(": ".join(part for part in parts if isinstance(part, str) and part))


def _error_words(error: Mapping[str, Any]) -> str:
    """Return one of a 422's errors: its own message, or its field and code."""
    if isinstance(error.get("message"), str):
        return str(error["message"])
    return " ".join(str(error[key]) for key in ("resource", "field", "code") if isinstance(error.get(key), str))


def refusal(response: httpx.Response, said: str, *, what: str, host: str, known: bool) -> GitHubError:
    """Return the error for an answer that is none of success; `known`: a token was sent with the request."""
    status = response.status_code
    message = f"{host} answered {status} to {what}" + (f": {said}" if said else "")
    return GitHubError(message, hint=_hint(status, said, known=known), status=status)


def _hint(status: int, said: str, *, known: bool) -> str | None:
    if "not permitted to create" in said:
        return "allow it in the repository's settings: Actions, General, Workflow permissions"
    if status == 401 and known:
        return "the token is wrong or has expired: set GITHUB_TOKEN, or run gh auth login"
    if status in (401, 403, 404) and not known:
        return "a private repository needs a token: set GITHUB_TOKEN, or run gh auth login"
    if status == 403:
        return "the token lacks a right: Issues and Pull requests are read, and written by --draft-pr and --post"
    if status == 404:
        return "is the name right, and may the token see the repository?"
    if status in BUSY:
        return "GitHub is busy or broken; try again later (www.githubstatus.com)"
    return None


def malformed(what: str) -> GitHubError:
    """Return the error for an answer that is not of the API's format."""
    return GitHubError(f"{what} is not as GitHub's API describes it", hint="is GITHUB_API_URL right?")


def text_of(data: Mapping[str, Any], key: str) -> str:
    """Return a text of an object; "" where it is null, is not there or is none."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def part_of(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object within an object; {} where it is null, is not there or is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def number_of(data: Mapping[str, Any], key: str) -> int:
    """Return a number of an object. Raises GitHubError where it is none: without it the object can't be named."""
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"an answer without {key!r}")
    return value
