"""Connections to one server, kept and lent, that take the time where bytes leave and come: HTTP/1.1 by h11 on asyncio.

Between a byte's arrival and its time stands nothing but the event loop; httpx would add its layers to each.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import h11

from miyabi_cli.bench.load.exchanges import Exchange
from miyabi_cli.bench.load.reading import ReplyReader, error_kind
from miyabi_cli.bench.load.samples import Sample, now
from miyabi_cli.errors import BrokenReply, ProviderError

CONNECT_SECONDS = 10.0
LOST = "connection_lost"
NO_CONNECTION = "connect"


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address, the headers of every request to it, and the seconds to each of its tokens (None: any)."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    base: str
    headers: Sequence[tuple[str, str]]
    idle: float | None

    @classmethod
    def of(
        cls, endpoint: str, authorization: str | None, agent: str, tls: ssl.SSLContext | None, idle: float | None
    ) -> Target:
        """Return the target of an endpoint in its normal form."""
        parts = urlsplit(endpoint)
        headers = [("host", parts.netloc), ("user-agent", agent), ("accept", "*/*"), ("accept-encoding", "identity")]
        headers += [("content-type", "application/json")]
        headers += [("authorization", authorization)] if authorization else []
        port = parts.port or (443 if tls else 80)
        return cls(parts.hostname or "", port, tls, parts.path.rstrip("/"), tuple(headers), idle)

    def request(self, path: str, body: bytes) -> h11.Request:
        """Return the head of a request."""
        headers = [*self.headers, ("content-length", str(len(body)))]
        return h11.Request(method="POST", target=f"{self.base}/{path}", headers=headers)


class Connection(asyncio.Protocol):
    """One connection; it serves one exchange after the other. `is_open`: it may be lent again."""

    def __init__(self) -> None:
        self.is_open = True
        self.uses = 0
        self._transport: asyncio.Transport
        self._http = h11.Connection(h11.CLIENT)
        self._exchange: Exchange | None = None
        self._came: list[tuple[float, bytes]] = []

    def send(self, head: h11.Request, body: bytes, exchange: Exchange) -> None:
        """Send a request; its reply goes to the exchange, whose future ends with it."""
        http = self._http
        self._exchange = exchange
        self.uses += 1
        data = http.send(head) + http.send(h11.Data(data=body)) + http.send(h11.EndOfMessage())
        exchange.sample.sent = now()
        self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Stamp what came, and read it after all else that came with it: servers write to all their streams at once."""
        self._came.append((now(), data))
        if len(self._came) == 1:
            asyncio.get_running_loop().call_soon(self._take_all)

    def _take_all(self) -> None:
        came, self._came = self._came, []
        for moment, data in came:
            self._take(moment, data)

    def _take(self, moment: float, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # bytes that nobody asked for
            self.close()
            return
        try:
            self._http.receive_data(data)
            self._read(exchange, moment)
        except h11.RemoteProtocolError as error:
            self._break("broken_reply", f"the server's HTTP is broken: {error}")
        except ProviderError as error:
            exchange.sample.usage = error.usage
            self._break(error_kind(error), error.message)

    def eof_received(self) -> None:
        """Let a reply end that has no length: its connection's end is its own."""
        self._take_all()
        if (exchange := self._exchange) is None:
            return
        try:
            self._http.receive_data(b"")
            self._read(exchange, now())
        except h11.RemoteProtocolError:
            self._break(LOST, "the server closed the connection within its reply")
        except ProviderError as error:
            self._break(error_kind(error), error.message)

    def connection_lost(self, error: Exception | None) -> None:
        self._take_all()
        self.is_open = False
        if self._exchange is not None:
            self._break(LOST, f"the connection broke: {error or 'the server closed it'}")

    def close(self) -> None:
        """Give the connection up."""
        self.is_open = False
        self._exchange = None
        self._transport.abort()

    def _read(self, exchange: Exchange, moment: float) -> None:
        while True:
            event = self._http.next_event()
            if type(event) is h11.Data:
                exchange.take(moment, bytes(event.data))
            elif type(event) is h11.Response:
                exchange.status = event.status_code
                if any(name == b"content-encoding" and value != b"identity" for name, value in event.headers):
                    raise BrokenReply("the server sent a reply that is compressed, which was not asked for")
            elif type(event) is h11.EndOfMessage:
                self._end(exchange, moment)
                return
            elif type(event) is not h11.InformationalResponse:  # NEED_DATA, PAUSED, ConnectionClosed
                return

    def _end(self, exchange: Exchange, moment: float) -> None:
        self._exchange = None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        try:
            exchange.end(moment)
        except ProviderError as error:
            exchange.fail(error_kind(error), error.message)

    def _break(self, kind: str, words: str) -> None:
        exchange = self._exchange
        self.close()
        if exchange is not None:
            exchange.fail(kind, words)


@dataclass(slots=True)
class Pool:
    """Connections to a target, as many as are needed: a limit would hide a server's queue in the generator's own."""

    target: Target
    opened: int = 0
    _idle: list[Connection] = field(default_factory=list)

    async def ask(self, head: h11.Request, body: bytes, reader: Callable[[], ReplyReader], due: float) -> Sample:
        """Send one request and return what was measured of it; a failure is in the sample.

        A kept connection that the server closed just now says nothing of it: the request goes out once more on a new.
        """
        loop = asyncio.get_running_loop()
        begun = now()
        while True:
            sample = Sample(due, begun)
            exchange = Exchange(sample, reader(), loop.create_future())
            connection = self._kept()
            if connection is None:
                started = now()
                try:
                    connection = await self._connect()
                except OSError as error:  # an SSLError and a TimeoutError are some too
                    exchange.fail(NO_CONNECTION, str(error.strerror or error)[:300])
                    return sample
                sample.connecting = now() - started
            is_kept = connection.uses > 0
            connection.send(head, body, exchange)
            end_watch = self._watch(loop, connection, exchange)
            try:
                await exchange.done
            except asyncio.CancelledError:
                connection.close()
                raise
            finally:
                end_watch()
            if connection.is_open:
                self._idle.append(connection)
            if not (is_kept and sample.error == LOST and not exchange.status):
                return sample

    async def check(self) -> None:
        """Open a connection and give it up. Raises OSError."""
        (await self._connect()).close()

    def close(self) -> None:
        """Give all idle connections up."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self) -> Connection:
        target, loop = self.target, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(Connection, target.host, target.port, ssl=target.tls)
        except TimeoutError:
            raise TimeoutError(f"no connection within {CONNECT_SECONDS:.0f} s") from None
        self.opened += 1
        return connection

    def _watch(self, loop: asyncio.AbstractEventLoop, connection: Connection, exchange: Exchange) -> Callable[[], None]:
        """End an exchange without a token for too long, comments or not; return what ends the watch."""
        idle = self.target.idle
        if idle is None:
            return lambda: None
        handle: list[asyncio.TimerHandle] = []

        def look() -> None:
            sample = exchange.sample
            left = max(sample.sent, sample.last) + idle - now()
            if left > 0:
                handle[:] = [loop.call_later(left, look)]
                return
            connection.close()
            exchange.fail("timeout", f"no token came for {idle:g} s")

        handle.append(loop.call_later(idle, look))
        return lambda: handle[0].cancel()
