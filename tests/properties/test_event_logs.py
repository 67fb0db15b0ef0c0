"""A run's log: what was written is read back, also where the log is torn or made of anything else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from miyabi_cli.errors import MachineError
from miyabi_cli.report.streams import Streams
from miyabi_cli.report.transcript import SHOWN, write_transcript
from miyabi_cli.runs import EVENTS, read_log
from tests.properties.strategies import JSON, UNICODE

EVENT = some.dictionaries(UNICODE, JSON, max_size=4)
LINES = some.one_of(
    some.binary(max_size=40),
    EVENT.map(lambda event: json.dumps(event).encode()),
    some.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"null", b"\x00" * 50, b"", b"\xff\xfe{\x00"]),
)


def read(data: bytes, *, strict: bool = False) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        (Path(folder) / EVENTS).write_bytes(data)
        yield from read_log(Path(folder), strict=strict)


@settings(deadline=None)
@given(some.lists(EVENT, max_size=5), some.data())
def test_a_log_that_is_torn_is_what_was_whole(events: list[dict[str, Any]], data: some.DataObject) -> None:
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    whole = b"".join(lines)
    torn = whole[: data.draw(some.integers(0, len(whole)))]
    # An object is whole with its last brace, also where the end of its line was not written any more.
    count = sum(len(b"".join(lines[: number + 1])) - 1 <= len(torn) for number in range(len(lines)))
    assert list(read(torn)) == events[:count]


@settings(deadline=None)
@given(some.lists(LINES, max_size=6), some.booleans())
def test_any_lines_are_events_or_passed_over(lines: list[bytes], strict: bool) -> None:
    try:
        assert all(isinstance(event, dict) for event in read(b"\n".join(lines), strict=strict))
    except MachineError:
        assert strict


FIELDS = (
    "messages",
    "message",
    "reply",
    "call",
    "name",
    "output",
    "failed",
    "seconds",
    "stage",
    "status",
    "path",
    "step",
)


@settings(deadline=None)
@given(
    some.lists(
        some.builds(
            lambda kind, fields: {"type": kind, **fields},
            some.sampled_from([*SHOWN, "of a later version"]) | JSON,
            some.dictionaries(some.sampled_from(FIELDS), JSON | EVENT, max_size=6),
        ),
        max_size=4,
    )
)
def test_a_transcript_is_made_of_any_events(events: list[dict[str, Any]]) -> None:
    output = io.StringIO()
    write_transcript(events, Streams(output, output))
    assert "\x1b" not in output.getvalue()
