"""Server-sent events: bytes to the data of each event (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

MAX_EVENT_BYTES = 16 * 1024 * 1024
LONGEST_SILENCE = 1800.0  # seconds: comments keep a connection alive while a prompt is read, but not for ever
LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def read_events(blocks: AsyncIterator[bytes], patience: float = LONGEST_SILENCE) -> AsyncIterator[str]:
    """Yield the `data` of each event; comments and other fields are passed over.

    A last event without its blank line is yielded too, since some servers leave it out.
    Raises ValueError for an event longer than `MAX_EVENT_BYTES`, and after `patience` seconds without any.
    """
    events = Events()
    lines = Lines()
    last = time.monotonic()
    async for block in blocks:
        for line in lines.feed(block):
            if (data := events.add(line)) is not None:
                yield data
                last = time.monotonic()
        if time.monotonic() - last > patience:
            raise ValueError(f"{patience:.0f} s without an event")
    for line in (*lines.end(), b""):
        if (data := events.add(line)) is not None:
            yield data


@dataclass(slots=True)
class Lines:
    """Cuts blocks of bytes into lines, which end in LF, CR LF or CR only.

    JSON may hold U+2028, at which `str.splitlines` would cut it. A line that comes in many blocks is joined once.
    """

    limit: int = MAX_EVENT_BYTES
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0
    _after_return: bool = False

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines that end in this block. Raises ValueError past `limit` bytes of one line."""
        if not block:
            return []
        joined = self._after_return and block.startswith(b"\n")  # the second half of a CR LF, cut by the network
        self._after_return = block.endswith(b"\r")
        if joined and not (block := block[1:]):
            return []
        first, *rest = LINE_END.split(block) if b"\r" in block else block.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > self.limit:
            raise ValueError(f"a line of more than {self.limit} bytes")
        if not rest:
            return []
        line = b"".join(self._parts) if len(self._parts) > 1 else first
        *whole, last = rest
        self._parts = [last] if last else []
        self._size = len(last)
        return [line, *whole]

    def end(self) -> list[bytes]:
        """Return the last line, where it has no end."""
        return [b"".join(self._parts)] if self._parts else []


@dataclass(slots=True)
class Events:
    """Puts lines together to events."""

    data: list[bytes] = field(default_factory=list)
    size: int = 0
    begun: bool = False

    def add(self, line: bytes) -> str | None:
        """Take a line; return the event that it ends, if it does."""
        if not self.begun:
            self.begun = True
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line.startswith(b"data:") or line == b"data":  # a field without a colon has an empty value
            self.data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            self.size += len(line) + 1
            if self.size > MAX_EVENT_BYTES:
                raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        elif not line and self.data:
            whole = self.data[0] if len(self.data) == 1 else b"\n".join(self.data)
            self.data, self.size = [], 0
            return whole.decode("utf-8", "replace")
        return None
