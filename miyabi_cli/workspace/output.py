"""The output of a command, kept at its head and its tail so that memory stays bounded."""

from __future__ import annotations

_SLACK = 1 << 16  # bytes that the tail may overrun before it is cut, so that cutting is rare


class BoundedOutput:
    """At most `limit` bytes of a stream: the first half and the last half of that many; `total` counts all."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._head_limit = max(limit, 0) // 2
        self._tail_limit = max(limit, 0) - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > self._tail_limit + _SLACK:
            del self._tail[: len(self._tail) - self._tail_limit]

    def text(self) -> tuple[str, int]:
        """Return the text, with a line in the middle that says how many bytes were left out, and that number."""
        head, tail = bytes(self._head), bytes(self._tail)
        if len(head) + min(len(tail), self._tail_limit) >= self.total:
            return (head + tail).decode("utf-8", "replace"), 0
        head = _without_cut_end(head)
        tail = _without_cut_start(tail[len(tail) - self._tail_limit :])
        omitted = self.total - len(head) - len(tail)
        between = f"[... {omitted} bytes left out ...]\n"
        if not head.endswith(b"\n"):
            between = f"\n{between}"
        return head.decode("utf-8", "replace") + between + tail.decode("utf-8", "replace"), omitted


def _without_cut_end(data: bytes) -> bytes:
    """Drop a last UTF-8 sequence that lacks its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
        if byte < 0x80:
            break
    return data


def _without_cut_start(data: bytes) -> bytes:
    """Drop the rest of a UTF-8 sequence whose start was cut off."""
    start = 0
    while start < min(3, len(data)) and 0x80 <= data[start] < 0xC0:
        start += 1
    return data[start:]
