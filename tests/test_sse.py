"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.llm.sse import MAX_EVENT_BYTES, read_events


def events(*blocks: bytes) -> list[str]:
    async def network() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    async def main() -> list[str]:
        return [data async for data in read_events(network())]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data:one\r\n\r\ndata:  two\r\n\r\n", ["one", " two"]),
        (b"data: one\r\rdata: two\r\r", ["one", "two"]),
        (b"\xef\xbb\xbfdata: marked\n\n", ["marked"]),
        (b": keep-alive\n\nevent: ping\nid: 1\nretry: 5\n\ndata: one\n\n", ["one"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\ndata:\n\n", ["\n"]),
        (b"datax: no\n\n", []),
        (b"data: no blank line", ["no blank line"]),
        (b"data: half a line end\r", ["half a line end"]),
        ('data: "\u2028\x85\x0b"\n\n'.encode(), ['"\u2028\x85\x0b"']),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_an_event_is_the_data_of_its_lines(sent: bytes, read: Sequence[str]) -> None:
    assert events(sent) == read
    assert events(*(sent[index : index + 1] for index in range(len(sent)))) == read


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_where_the_network_cuts_makes_no_difference(texts: list[str], end: str, cuts: list[int]) -> None:
    sent = "".join(f": comment{end}data: {text}{end}{end}" for text in texts).encode()
    places = sorted({min(cut, len(sent)) for cut in cuts} | {0, len(sent)})
    assert events(*(sent[start:stop] for start, stop in itertools.pairwise(places))) == texts


def test_a_long_event_in_many_blocks_is_joined_once() -> None:
    # Joined anew at each block, these would be 80 GB of copies.
    blocks = [b"x" * 1_000] * 12_000
    assert [len(data) for data in events(b"data: ", *blocks, b"\n\n")] == [12_000_000]


@pytest.mark.parametrize("end", [b"", b"\ndata: "])
def test_an_event_without_end_is_refused(end: bytes) -> None:
    megabyte = b"x" * 1_000_000 + end
    with pytest.raises(ValueError, match="more than"):
        events(b"data: ", *[megabyte] * (MAX_EVENT_BYTES // 1_000_000 + 2))
