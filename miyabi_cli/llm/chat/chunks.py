"""The chunks of a chat completion: out of a stream of events, or whole from a server that streams nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError
from miyabi_cli.llm.bodies import read_blocks
from miyabi_cli.llm.failures import refusal, server_message
from miyabi_cli.llm.sse import read_events

MAX_WHOLE_BYTES = 32 * 1024 * 1024
REST_SECONDS = 0.05  # for what comes after the last event

# The words that stand for a status where a stream's error carries no number.
_STATUS_OF_WORDS = (
    (re.compile(r"context_length|context_size|invalid_request|bad_?request", re.IGNORECASE), 400),
    (re.compile(r"authentication|unauthorized|invalid_api_key", re.IGNORECASE), 401),
    (re.compile(r"rate_?limit", re.IGNORECASE), 429),
    (re.compile(r"overloaded|unavailable", re.IGNORECASE), 503),
)


async def read_chunks(response: httpx.Response, provider: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the chunks of a reply. What it is is seen from its first byte: some servers name no type, or a wrong one.

    Raises BrokenReply, and what the server says in the stream as its error.
    """
    kind = response.headers.get("content-type", "")
    blocks = read_blocks(response, provider)
    first = b""
    if not kind.startswith("text/event-stream"):
        first = await _beginning(blocks)
    if kind.startswith("text/html") or first.startswith(b"<"):
        raise BrokenReply(f"{provider} answered with a web page", hint="is --endpoint the address of a model's server?")
    if first.startswith((b"{", b"[")):
        yield read_chunk(await _whole(first, blocks, provider), provider)
        return
    events = read_events(_again(first, blocks))
    try:
        async for data in events:
            if data.strip() == "[DONE]":
                await _read_rest(events)
                return
            yield read_chunk(data, provider)
    except ValueError as error:
        raise BrokenReply(f"{provider} sent a broken stream: {error}") from None


async def _read_rest(events: AsyncIterator[str]) -> None:
    """Read on to the end of a stream that has said all, as far as it is at hand: only so its connection is kept."""
    with contextlib.suppress(TimeoutError, ValueError, ProviderError, httpx.HTTPError):
        async with asyncio.timeout(REST_SECONDS):
            async for _ in events:
                pass


async def _beginning(blocks: AsyncIterator[bytes]) -> bytes:
    """Return the first block that holds more than space."""
    async for block in blocks:
        if block := block.lstrip():
            return block
    return b""


async def _again(first: bytes, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for block in blocks:
        yield block


async def _whole(first: bytes, blocks: AsyncIterator[bytes], provider: str) -> str:
    parts = [first]
    size = len(first)
    async for block in blocks:
        parts.append(block)
        size += len(block)
        if size > MAX_WHOLE_BYTES:
            raise BrokenReply(f"{provider} sent a reply of more than {MAX_WHOLE_BYTES:,} bytes")
    return b"".join(parts).decode("utf-8", "replace")


def read_chunk(data: str, provider: str) -> dict[str, Any]:
    """Return the chunk that an event holds. Raises BrokenReply, and what the server says in it as its error."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenReply(f"{provider} sent something that is not JSON: {data[:100]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenReply(f"{provider} sent a chunk that is not an object")
    groq = chunk.get("x_groq")
    error = chunk.get("error")
    if not error and isinstance(groq, dict) and (error := groq.get("error")):
        data = json.dumps({"error": error})
    if not error and (chunk.get("object") == "error" or ("choices" not in chunk and "message" in chunk)):
        error = chunk  # bare, as FastAPI's servers send it
    if error:
        raise stream_error(error, data, provider)
    return chunk


def stream_error(error: Any, data: str, provider: str) -> ProviderError:
    """Read an error sent in the middle of a stream, whose HTTP status was already 200."""
    detail = error if isinstance(error, dict) else {}
    said = server_message(data.encode("utf-8", "replace"))
    if status := _status(detail):
        return refusal(httpx.Response(status), data.encode("utf-8", "replace"), provider=provider)
    return BrokenReply(f"{provider} failed while it answered: {said}", detail=detail)


def _status(error: Mapping[str, Any]) -> int | None:
    """Return the HTTP status that an error means: its code as a number or digits, or what its words stand for."""
    for key in ("code", "status", "status_code", "http_status"):
        value = error.get(key)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    words = " ".join(str(error.get(key))[:100] for key in ("code", "type"))
    return next((status for pattern, status in _STATUS_OF_WORDS if pattern.search(words)), None)
