"""One model's server: its address, its connections, and its answers with every failure as a typed error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderUnreachable, SettingsError
from miyabi_cli.http import open_client
from miyabi_cli.llm.bodies import check_encoding, read_body
from miyabi_cli.llm.failures import connection_error, refusal
from miyabi_cli.llm.sse import LONGEST_SILENCE
from miyabi_cli.messages import Delta, Reply, Timing, Usage
from miyabi_cli.settings.endpoints import normalize_endpoint

JSON_HEADERS = {"content-type": "application/json"}
CONTROL_SECONDS = 30.0
WORDS_SECONDS = 10.0
MAX_REFUSAL_BYTES = 4 * 1024 * 1024  # what failed of a generation stands in it

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

    `observe` sees the headers of every response, also of a refusal. `patience`: seconds of pieces that say nothing.
    """

    name: str
    endpoint: str
    client: httpx.AsyncClient
    observe: Callable[[httpx.Headers], None] = field(default=lambda _: None)
    patience: float = LONGEST_SILENCE

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
            async with contextlib.AsyncExitStack() as stack:
                response = await self._answer(stack, path, body)
                self.observe(response.headers)
                check_encoding(response, self.name)
                if response.status_code != 200:
                    has_key = "authorization" in self.client.headers
                    raise refusal(response, await _words(response), provider=self.name, has_key=has_key)
                yield response
        except httpx.TransportError as error:
            raise connection_error(error, endpoint=self.endpoint, provider=self.name) from None
        except httpx.DecodingError:
            raise BrokenReply(f"{self.name} sent a reply that is not compressed as it says") from None

    async def _answer(self, stack: contextlib.AsyncExitStack, path: str, body: bytes | None) -> httpx.Response:
        """Return the reply to a request once its status is there; the stack closes it.

        A server may close a connection that was kept alive just when a request is sent on it. That says nothing of the
        server, so the request is sent once more at once, which is no attempt of the caller's.
        """
        dialled = False

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            nonlocal dialled
            dialled = dialled or event.endswith("connect_tcp.started")

        async def send() -> httpx.Response:
            request = self.client.stream(
                "GET" if body is None else "POST",
                f"{self.endpoint}/{path}",
                content=body,
                headers=JSON_HEADERS,
                extensions={"trace": trace},
            )
            return await stack.enter_async_context(request)

        try:
            async with asyncio.timeout(LONGEST_SILENCE):  # interim answers (1xx) keep the idle time from passing
                try:
                    return await send()
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    if dialled:
                        raise
                    return await send()
        except TimeoutError:
            raise ProviderUnreachable(f"{self.name} at {self.endpoint} does not begin to answer") from None

    async def ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """Return the JSON object that a short request is answered with. Raises ProviderError."""
        try:
            async with asyncio.timeout(CONTROL_SECONDS), self.open(path, body) as response:
                payload = await read_body(response, self.name)
        except TimeoutError:
            raise ProviderUnreachable(f"{self.name} at {self.endpoint} did not answer /{path} in time") from None
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
                    elif watch.silence() > self.patience:
                        raise BrokenReply(f"{self.name} sent nothing but empty pieces for {self.patience:.0f} s")
        except BaseException as error:
            if hasattr(error, "usage"):
                error.usage = collector.usage
            raise
        yield collector.reply(watch.timing())

    async def close(self) -> None:
        await self.client.aclose()


async def _words(response: httpx.Response) -> bytes:
    """Return the beginning of what a refusal says, or nothing; its status holds in any case."""
    words = b""
    with contextlib.suppress(httpx.DecodingError, httpx.TransportError, TimeoutError):
        async with asyncio.timeout(WORDS_SECONDS):
            async for block in response.aiter_bytes():
                words += block
                if len(words) > MAX_REFUSAL_BYTES:
                    break
    return words


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

    def silence(self) -> float:
        """Return the seconds since the last delta."""
        return time.perf_counter() - self.started - self.last

    def timing(self) -> Timing:
        """Return the times of a stream that ends now."""
        mean = (self.last - self.first) / (self.deltas - 1) if self.first is not None and self.deltas > 1 else None
        return Timing(self.first, time.perf_counter() - self.started, mean, self.longest)
