"""JSON objects, one a line, as Ollama streams them; a body that holds one object is read too."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.bodies import read_blocks
from miyabi_cli.llm.sse import LONGEST_SILENCE, Lines

MAX_BODY_BYTES = 64 * 1024 * 1024


async def read_objects(response: httpx.Response, provider: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a response. Raises BrokenReply for a web page, and for what is not JSON objects."""
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html"):
        raise BrokenReply(f"{provider} answered with a web page", hint="is --endpoint the address of a model's server?")
    whole = kind.startswith("application/json")
    async for line in _whole(response, provider) if whole else _lines(response, provider):
        if line.strip():
            yield read_object(line, provider)


async def _lines(response: httpx.Response, provider: str) -> AsyncIterator[bytes]:
    lines = Lines()
    last = time.monotonic()
    try:
        async for block in read_blocks(response, provider):
            for line in lines.feed(block):
                if line.strip():
                    yield line
                    last = time.monotonic()
            if time.monotonic() - last > LONGEST_SILENCE:
                raise ValueError(f"{LONGEST_SILENCE:.0f} s without an object")
    except ValueError as error:
        raise BrokenReply(f"{provider} sent a broken stream: {error}") from None
    for line in lines.end():
        yield line


async def _whole(response: httpx.Response, provider: str) -> AsyncIterator[bytes]:
    """Yield what a body that does not stream holds: one object, perhaps over several lines, or one a line."""
    body = bytearray()
    async for block in response.aiter_bytes():
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise BrokenReply(f"{provider} sent more than {MAX_BODY_BYTES} bytes")
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        for line in bytes(body).split(b"\n"):
            yield line
    else:
        yield bytes(body)


def read_object(line: bytes, provider: str) -> dict[str, Any]:
    """Return the object that a line holds. Raises BrokenReply."""
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        shown = line[:100].decode("utf-8", "replace")
        raise BrokenReply(f"{provider} sent something that is not JSON: {shown!r}") from None
    if not isinstance(value, dict):
        raise BrokenReply(f"{provider} sent JSON that is not an object")
    return value
