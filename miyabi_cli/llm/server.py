"""One model's server: its address, its connections, and its answers with every failure as a typed error."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError, SettingsError
from miyabi_cli.llm.failures import connection_error, refusal
from miyabi_cli.llm.http import open_client
from miyabi_cli.messages import Delta, Reply, Timing, Usage
from miyabi_cli.settings.endpoints import normalize_endpoint

JSON_HEADERS = {"content-type": "application/json"}
CONTROL_SECONDS = 30.0

ReadChunks = Callable[[httpx.Response], AsyncIterator[Any]]


class Collector(Protocol):
    """Takes the chunks of one reply."""

    @property
    def usage(self) -> Usage:
        """What the reply has cost so far."""
        ...

    def add(self, chunk: Any) -> Delta | None:
        """Take one chunk; return what is to be seen of it. Raises BrokenReply."""
        ...

    def reply(self, timing: Timing) -> Reply:
        """Return the whole. Raises BrokenReply where it was cut off."""
        ...


@dataclass(slots=True)
class Server:
    """The server called `name` at `endpoint`, its base without `/v1`. One client serves all streams in parallel.

    `observe` sees the headers of every response, also of a refusal.
    """

    name: str
    endpoint: str
    client: httpx.AsyncClient
    observe: Callable[[httpx.Headers], None] = field(default=lambda _: None)

    @classmethod
    def at(cls, name: str, endpoint: str, *, key: str | None = None, idle: float | None = None) -> Server:
        """Return a server with a client of its own; `idle`: the seconds that may pass without a byte.

        `endpoint` may end in `/v1`. Raises SettingsError where it is no address, or the key none.
        """
        try:
            endpoint = normalize_endpoint(endpoint)
        except ValueError as error:
            raise SettingsError(f"the endpoint of {name} is wrong: {error}") from None
        return cls(name, endpoint, open_client(endpoint, key=key, idle=idle))

    @asynccontextmanager
    async def open(self, path: str, body: bytes | None = None) -> AsyncIterator[httpx.Response]:
        """Send a request (GET without a body) and give its reply, still unread, once its status is 200.

        Raises ProviderError, also for what happens while it is read. Leaving the block closes the stream, at which
        servers stop to work on it.
        """
        if self.client.is_closed:  # by another task, while this one waited to ask again
            raise ProviderError(f"the provider {self.name} has been closed")
        try:
            async with self.client.stream(
                "GET" if body is None else "POST", f"{self.endpoint}/{path}", content=body, headers=JSON_HEADERS
            ) as response:
                self.observe(response.headers)
                if response.status_code != 200:
                    raise refusal(response, await _words(response), provider=self.name)
                yield response
        except httpx.TransportError as error:
            raise connection_error(error, endpoint=self.endpoint, provider=self.name) from None
        except httpx.DecodingError:
            raise BrokenReply(f"{self.name} sent a reply that is not compressed as it says") from None

    async def ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """Return the JSON object that a short request is answered with. Raises ProviderError."""
        async with self.open(path, body) as response:
            payload = await response.aread()
        try:
            data = json.loads(payload)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise BrokenReply(f"{self.name} answered /{path} with something that is not a JSON object")
        return data

    async def exchange(
        self, path: str, body: bytes, chunks: ReadChunks, collector: Collector
    ) -> AsyncGenerator[Delta | Reply, None]:
        """Send one request for a reply; yield its deltas and, last, the reply.

        Raises ProviderError with the usage so far.
        """
        watch = Stopwatch()
        try:
            async with self.open(path, body) as response:
                async for chunk in chunks(response):
                    if delta := collector.add(chunk):
                        watch.tick()
                        yield delta
        except BaseException as error:
            if hasattr(error, "usage"):
                error.usage = collector.usage
            raise
        yield collector.reply(watch.timing())

    async def close(self) -> None:
        await self.client.aclose()


async def _words(response: httpx.Response) -> bytes:
    """Return what a refusal says; nothing where it is not compressed as it says: its status holds all the same."""
    try:
        return await response.aread()
    except httpx.DecodingError:
        return b""


@dataclass(slots=True)
class Stopwatch:
    """Takes the times of a stream's deltas, in seconds from its own beginning."""

    started: float = field(default_factory=time.perf_counter)
    first: float | None = None
    last: float = 0.0
    deltas: int = 0
    longest: float | None = None

    def tick(self) -> None:
        """Note a delta."""
        now = time.perf_counter() - self.started
        if self.first is None:
            self.first = now
        elif self.longest is None or now - self.last > self.longest:
            self.longest = now - self.last
        self.last = now
        self.deltas += 1

    def timing(self) -> Timing:
        """Return the times of a stream that ends now."""
        mean = (self.last - self.first) / (self.deltas - 1) if self.first is not None and self.deltas > 1 else None
        return Timing(self.first, time.perf_counter() - self.started, mean, self.longest)
