"""What is kept of a long output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.output import BoundedOutput


def fed(data: bytes, limit: int, step: int) -> BoundedOutput:
    output = BoundedOutput(limit)
    for start in range(0, len(data), step):
        output.feed(data[start : start + step])
    return output


@given(st.binary(max_size=600), st.integers(0, 300), st.integers(1, 200))
def test_what_fits_is_kept_whole_and_the_rest_is_counted(data: bytes, limit: int, step: int) -> None:
    output = fed(data, limit, step)
    text, omitted = output.text()
    assert output.total == len(data)
    if len(data) <= limit:
        assert (text, omitted) == (data.decode("utf-8", "replace"), 0)
    else:
        assert len(data) - limit <= omitted <= len(data)
        assert f"[... {omitted} bytes left out ...]\n" in text


def test_head_and_tail_are_kept() -> None:
    text, omitted = fed(b"".join(b"%05d\n" % number for number in range(10_000)), 120, 4096).text()
    lines = text.splitlines()
    assert lines == [
        *(f"{number:05}" for number in range(10)),
        f"[... {omitted} bytes left out ...]",
        *(f"{number:05}" for number in range(9990, 10_000)),
    ]
    assert omitted == 60_000 - 120


@pytest.mark.parametrize("limit", range(20, 30))
def test_a_character_is_not_cut(limit: int) -> None:
    text, omitted = fed("é€😀".encode() * 50, limit, 7).text()
    assert "\ufffd" not in text
    kept = text.split("\n")
    assert len((kept[0] + kept[2]).encode()) + omitted == 450


def test_bytes_that_are_not_text_are_replaced() -> None:
    assert fed(b"a\xffb", 10, 3).text() == ("a\ufffdb", 0)


def test_memory_is_bounded() -> None:
    output = BoundedOutput(1000)
    for _ in range(2000):
        output.feed(b"x" * 65536)
    assert output.total == 2000 * 65536
    assert sum(len(part) for part in (output._head, output._tail)) < 100_000
