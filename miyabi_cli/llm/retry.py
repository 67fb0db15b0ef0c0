"""When to ask a server again, and how long to wait before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderOverloaded, ProviderUnreachable
from miyabi_cli.messages import Piece, Reply, Usage, Waiting

RETRIED_STATUS = frozenset({408, 409, 429, 498, 500, 502, 503, 504})

Stream = Callable[[], AsyncIterator[Piece]]

SILENT_SECONDS = 2.0  # a shorter wait is not worth a word


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently: waits in seconds; `sleep` and `jitter` (0 to 1) are there for tests."""

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    jitter: Callable[[], float] = field(default=random.random)

    def wait(self, attempt: int, error: ProviderError) -> float | None:
        """Return the seconds to wait after failed attempt `attempt` (from 1), or None to give up.

        A server's Retry-After is obeyed up to `longest_wait`; past that, waiting in silence helps nobody.
        """
        if attempt >= self.attempts or not isinstance(error, (ProviderUnreachable, ProviderOverloaded, BrokenReply)):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_wait else None
        backoff = min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)
        return backoff * (0.5 + self.jitter() / 2)


async def stream_again(stream: Stream, retries: Retries) -> AsyncIterator[Piece]:
    """Yield a stream; where it breaks, throw the partial reply away and ask again.

    Safe because no tool runs before a reply is whole. Deltas of a broken try have been yielded: they are
    for the eye alone. Raises the last try's `ProviderError`, with the usage of all tries.
    """
    spent = Usage()
    for attempt in range(1, retries.attempts + 1):
        try:
            async with closing(stream()) as pieces:
                async for piece in pieces:
                    yield replace(piece, usage=piece.usage + spent) if isinstance(piece, Reply) else piece
            return
        except ProviderError as error:
            spent += error.usage
            seconds = retries.wait(attempt, error)
            if seconds is None:
                error.usage = spent
                raise
            reason = error.message
        if seconds >= SILENT_SECONDS:
            yield Waiting(seconds, reason)
        await retries.sleep(seconds)


@asynccontextmanager
async def closing(pieces: AsyncIterator[Piece]) -> AsyncIterator[AsyncIterator[Piece]]:
    """Close a stream at the block's end, also where it was not read to its own: the server then stops to work on it."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
