"""Server-sent events: bytes to the data of each event (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator

MAX_LINE_BYTES = 16 * 1024 * 1024


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the `data` of each event; comments and other fields are passed over.

    Lines end in LF, CR LF or CR only: JSON may hold U+2028, at which `str.splitlines` would cut it.
    A last event without its blank line is yielded too, since some servers leave it out.
    Raises ValueError for a line longer than `MAX_LINE_BYTES`.
    """
    data: list[str] = []
    async for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
                data.clear()
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
    if data:
        yield "\n".join(data)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        # A CR at the end may be the first half of CR LF: it waits for the next chunk.
        held = b"\r" if buffer.endswith(b"\r") else b""
        whole = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = whole.split(b"\n")
        for line in lines:
            yield line
        buffer = rest + held
        if len(buffer) > MAX_LINE_BYTES:
            raise ValueError(f"an event of more than {MAX_LINE_BYTES} bytes")
    if buffer:
        yield buffer.rstrip(b"\r")
