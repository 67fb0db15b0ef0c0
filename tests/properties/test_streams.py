"""Server-sent events and lines of JSON: any bytes, cut anywhere, read with bounded memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.native.ndjson import read_objects
from miyabi_cli.llm.sse import MAX_EVENT_BYTES, Lines, read_events
from tests.properties.strategies import BYTE_BY_BYTE, CUTS, JSON, cut

FRAGMENTS = some.sampled_from(
    [
        *(b"data: a", b"data:", b"data", b"data: {}", b"\n", b"\r", b"\r\n", b"\n\n", b": x", b"event: e"),
        *(b"\xef\xbb\xbf", b"\xff", b"\xe6\xbc", b"\xa2", b"\xe2\x80\xa8", b"[DONE]"),
        *(b"{", b'{"a": 1}', b'{"a":', b"[1]", b"null"),
    ]
)
STREAMS = some.lists(FRAGMENTS | some.binary(max_size=3), max_size=20).map(b"".join)
OBJECTS = some.lists(some.dictionaries(some.text(max_size=5), JSON, max_size=3), max_size=4)


async def network(blocks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


def events(blocks: Sequence[bytes]) -> list[str]:
    async def main() -> list[str]:
        return [data async for data in read_events(network(blocks))]

    return asyncio.run(main())


def objects(blocks: Sequence[bytes], kind: str = "application/x-ndjson") -> tuple[list[dict[str, Any]], str]:
    """Return the objects of a response, and the error that ended it, "" for none."""

    async def main() -> tuple[list[dict[str, Any]], str]:
        response = httpx.Response(200, headers={"content-type": kind}, content=network(blocks))
        found: list[dict[str, Any]] = []
        try:
            async for value in read_objects(response, "it"):
                found.append(value)
        except BrokenReply as error:
            return found, str(error)
        return found, ""

    return asyncio.run(main())


@settings(deadline=None)
@given(STREAMS, CUTS)
@example(b"data: a\r\n\n", BYTE_BY_BYTE)
def test_however_events_are_cut_they_are_the_same(sent: bytes, cuts: Sequence[int]) -> None:
    assert events([sent]) == events(cut(sent, cuts)) == events(cut(sent, BYTE_BY_BYTE))


@settings(deadline=None)
@given(OBJECTS, some.sampled_from(["\n", "\r\n", "\n\n", "\r"]), CUTS)
def test_objects_that_are_sent_come_as_they_were(sent: list[dict[str, Any]], end: str, cuts: list[int]) -> None:
    lines = "".join(json.dumps(value, ensure_ascii=False) + end for value in sent).encode()
    assert objects(cut(lines, cuts)) == (sent, "")
    assert events(cut(lines.replace(b"{", b"data: {", 1), cuts)) is not None
    as_events = "".join(f"data: {json.dumps(value)}{end}{end}" for value in sent).encode()
    assert [json.loads(data) for data in events(cut(as_events, cuts))] == sent


@settings(deadline=None)
@given(STREAMS, CUTS, some.sampled_from(["application/x-ndjson", "application/json", ""]))
def test_however_lines_are_cut_their_objects_are_the_same(sent: bytes, cuts: list[int], kind: str) -> None:
    whole = objects([sent], kind)
    assert whole == objects(cut(sent, cuts), kind) == objects(cut(sent, BYTE_BY_BYTE), kind)


@given(some.lists(some.binary(max_size=30), max_size=20), some.integers(0, 60))
def test_no_more_of_a_line_is_held_than_its_limit(blocks: list[bytes], limit: int) -> None:
    lines = Lines(limit)
    for block in blocks:
        try:
            lines.feed(block)
        except ValueError:
            return
        assert sum(map(len, lines.end())) <= limit


@pytest.mark.parametrize("line", [b"data\n", b"data:\n", b"data: xxxxxxxxxxx\n"])
def test_an_event_of_endless_lines_is_refused(line: bytes) -> None:
    blocks = [line * 100_000] * (MAX_EVENT_BYTES // len(line) // 100_000 + 3)
    with pytest.raises(ValueError, match="more than"):
        events(blocks)
