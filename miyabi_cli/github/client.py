"""A client for one repository's part of GitHub's REST API: it waits for limits, reads page by page, and types errors.

Formats: docs.github.com/rest, version 2022-11-28.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from miyabi_cli.errors import GitHubError
from miyabi_cli.github.answers import BUSY, malformed, refusal, wait_asked, words_of
from miyabi_cli.github.places import Place
from miyabi_cli.github.tokens import Token
from miyabi_cli.http import one_line, open_client

VERSION = "2022-11-28"
JSON_TYPE = "application/vnd.github+json"
DIFF_TYPE = "application/vnd.github.diff"
PAGE = 100  # the most that GitHub gives at a time
MAX_PAGES = 10_000
MAX_BYTES = 32 * 1024 * 1024
IDLE_SECONDS = 30.0
REQUEST_SECONDS = 120.0
REDIRECTS = 3
SILENT_SECONDS = 2.0  # a shorter wait is not worth a word
MOVED = frozenset({301, 302, 307, 308})

Parameters = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to wait, in seconds; a limit that is over later than `longest_wait` is an error.

    `sleep` and `jitter` (0 to 1) are there for tests.
    """

    attempts: int = 4
    first_wait: float = 1.0
    longest_wait: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def backoff(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt `attempt`, from 1."""
        return float(min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait) * (0.5 + self.jitter() / 2))


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer's body, its status, and the address of the next page."""

    status: int
    body: bytes
    next: str = ""

    def data(self, what: str) -> Any:
        """Return the JSON of the body. Raises GitHubError."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise malformed(f"the answer to {what}") from None


@dataclass(slots=True)
class GitHub:
    """Asks the API about the repository at `place`; `tell` hears of long waits. Close it after use.

    Whatever it raises is a GitHubError: refusals with their `status`, answers that are too long or of another format.
    """

    place: Place
    token: Token | None
    client: httpx.AsyncClient
    tell: Callable[[str], None]
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def at(
        cls,
        place: Place,
        token: Token | None,
        tell: Callable[[str], None] = lambda _: None,
        patience: Patience | None = None,
    ) -> GitHub:
        """Return a client with connections of its own. Raises SettingsError for proxies that can't be used."""
        client = open_client(place.api, key=token.value if token else None, idle=IDLE_SECONDS)
        client.headers.update({"x-github-api-version": VERSION, "accept": JSON_TYPE})
        return cls(place, token, client, tell, patience or Patience())

    async def close(self) -> None:
        await self.client.aclose()

    async def get(self, path: str, parameters: Parameters | None = None) -> dict[str, Any]:
        """Return the object at a path of the repository, such as `issues/3`; "" is the repository itself."""
        return _object(await self.send("GET", path, parameters=parameters), path)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send an object, and return the one that it became."""
        return _object(await self.send("POST", path, body=body), path)

    async def account(self) -> dict[str, Any]:
        """Return the account that the token is of; an app's token may not ask, and is refused with 403."""
        return _object(await self._ask("GET", f"{self.place.api}/user", {}, None, JSON_TYPE), "user")

    async def pages(self, path: str, parameters: Parameters | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a list, one page in memory at a time."""
        url, query = self._url(path), {"per_page": PAGE, **(parameters or {})}
        for _ in range(MAX_PAGES):
            answer = await self._ask("GET", url, query, None, JSON_TYPE)
            rows = answer.data(path)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise malformed(f"the answer to {path}")
            for row in rows:
                yield row
            if not answer.next or answer.next == url:
                return
            url, query = answer.next, {}
        raise malformed(f"the list of {path}, which does not end,")

    async def send(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = JSON_TYPE,
        same_twice: bool = False,
    ) -> Answer:
        """Send one request, again where that is safe and helps; return its answer.

        `same_twice`: that it is done twice comes to the same as once. So it is with GET.
        """
        is_safe = same_twice or method == "GET"
        return await self._ask(method, self._url(path), parameters or {}, body, accept, is_safe=is_safe)

    def _url(self, path: str) -> str:
        return f"{self.place.api}/repos/{self.place.full_name}{'/' if path else ''}{path}"

    async def _ask(
        self,
        method: str,
        url: str,
        parameters: Parameters,
        body: Mapping[str, Any] | None,
        accept: str,
        *,
        is_safe: bool = True,
    ) -> Answer:
        what = f"{method} {urlsplit(url).path}"
        for attempt in range(1, self.patience.attempts + 1):
            try:
                response, content = await self._exchange(method, url, parameters, body, accept)
            except httpx.HTTPError as error:
                if attempt == self.patience.attempts or not (is_safe or _has_not_arrived(error)):
                    raise self._unreached(error) from None
                await self._wait(self.patience.backoff(attempt), "the connection broke")
                continue
            if response.is_success:
                return Answer(response.status_code, content, self._next(response))
            said = words_of(content)
            await self._wait_or_raise(response, said, what, attempt, is_safe=is_safe)
        raise AssertionError("the last attempt returns or raises")

    async def _wait_or_raise(
        self, response: httpx.Response, said: str, what: str, attempt: int, *, is_safe: bool
    ) -> None:
        """Wait for what a refusal asks to wait for. Raises GitHubError where that is too long, or of no use."""
        host = urlsplit(self.place.api).netloc
        error = refusal(response, said, what=what, host=host, known=self.token is not None)
        seconds = wait_asked(response, said)
        if seconds is not None:
            error.hint = f"the limit of requests is over in {seconds:.0f} s" + ("" if self.token else _MORE)
        elif response.status_code in BUSY and is_safe:
            seconds = self.patience.backoff(attempt)
        if seconds is None or attempt == self.patience.attempts or seconds > self.patience.longest_wait:
            raise error
        await self._wait(seconds, f"{host} answered {response.status_code}")

    async def _wait(self, seconds: float, why: str) -> None:
        if seconds >= SILENT_SECONDS:
            self.tell(f"{why}: waiting {seconds:.0f} s")
        await self.patience.sleep(seconds)

    async def _exchange(
        self, method: str, url: str, parameters: Parameters, body: Mapping[str, Any] | None, accept: str
    ) -> tuple[httpx.Response, bytes]:
        """Return an answer and its body; GitHub redirects what has been renamed, which is followed on the same host."""
        query = dict(parameters) or None
        for _ in range(REDIRECTS + 1):
            request = self.client.build_request(method, url, params=query, json=body, headers={"accept": accept})
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    response = await self.client.send(request, stream=True)
                    try:
                        content = await _read(response)
                    finally:
                        await response.aclose()
            except TimeoutError:
                raise httpx.ReadTimeout("it did not answer in time") from None
            target = self._target(response)
            if not target or (method != "GET" and response.status_code not in (307, 308)):
                return response, content
            url, query = target, None
        raise GitHubError(f"{urlsplit(self.place.api).netloc} redirects in a circle")

    def _target(self, response: httpx.Response) -> str:
        """Return where an answer redirects to, "" where it does not. Raises GitHubError for another server."""
        location = response.headers.get("location", "")
        return self._joined(response, location) if response.status_code in MOVED and location else ""

    def _next(self, response: httpx.Response) -> str:
        """Return the address of the next page, by the header Link (RFC 8288)."""
        url = response.links.get("next", {}).get("url", "")
        return self._joined(response, url) if url else ""

    def _joined(self, response: httpx.Response, location: str) -> str:
        """Return an address that an answer names. Raises GitHubError for another server: the token is not for that."""
        mine = urlsplit(self.place.api)
        try:
            target = str(response.url.join(location))
            its = urlsplit(target)
        except (httpx.InvalidURL, ValueError):
            raise malformed(f"an address that {mine.netloc} names") from None
        if (mine.scheme, mine.netloc) != (its.scheme, its.netloc):
            raise GitHubError(f"{mine.netloc} redirects to another server", hint="give that one's address instead")
        return target

    def _unreached(self, error: httpx.HTTPError) -> GitHubError:
        detail = one_line(str(error)) or type(error).__name__
        hint = "is there a network, and are the proxies right? HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are obeyed"
        return GitHubError(f"{urlsplit(self.place.api).netloc} can't be reached: {detail}", hint=hint)


_MORE = "; with a token it is 5,000 an hour: set GITHUB_TOKEN, or run gh auth login"


def _has_not_arrived(error: httpx.HTTPError) -> bool:
    """Say whether a request surely has not reached the server, so that it may be sent again whatever it does."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    if "," in response.headers.get("content-encoding", ""):  # each layer may grow a thousandfold
        raise malformed("an answer that is compressed more than once")
    async for block in response.aiter_bytes():
        content += block
        if len(content) > MAX_BYTES:
            raise GitHubError(f"an answer of more than {MAX_BYTES:,} bytes was left unread")
    return bytes(content)


def _object(answer: Answer, path: str) -> dict[str, Any]:
    data = answer.data(path)
    if not isinstance(data, dict):
        raise malformed(f"the answer to {path}")
    return data
