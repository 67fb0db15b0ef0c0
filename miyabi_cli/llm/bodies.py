"""The bytes of a response, bounded: one that never ends, or swells as it is unpacked, fills no memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from miyabi_cli.errors import BrokenReply

MAX_REPLY_BYTES = 512 * 1024 * 1024  # a window of 131,072 tokens, a chunk for each, is a tenth of it
MAX_ANSWER_BYTES = 32 * 1024 * 1024


async def read_blocks(response: httpx.Response, provider: str, limit: int = MAX_REPLY_BYTES) -> AsyncIterator[bytes]:
    """Yield a response as it comes, unpacked. Raises BrokenReply past `limit` bytes."""
    size = 0
    async for block in response.aiter_bytes():
        size += len(block)
        if size > limit:
            raise BrokenReply(f"{provider}'s reply does not end: it has more than {limit:,} bytes")
        yield block


async def read_body(response: httpx.Response, provider: str) -> bytes:
    """Return a short answer whole. Raises BrokenReply for a long one."""
    return b"".join([block async for block in read_blocks(response, provider, MAX_ANSWER_BYTES)])


def check_encoding(response: httpx.Response, provider: str) -> None:
    """Raise BrokenReply for a body that is packed several times over: each time it may grow a thousandfold."""
    if "," in response.headers.get("content-encoding", ""):
        raise BrokenReply(f"{provider} sent a reply that is compressed more than once")
