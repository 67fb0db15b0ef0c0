"""Long texts cut for a page: the head and the tail of what was written, and how much is left out between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

LONGEST = 20_000  # characters of one text
FENCE = "```"
TAIL_SHARE = 3  # a third of them from the end, where an output says what went wrong


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`omitted` characters stood between `head` and `tail`."""

    head: str
    tail: str = ""
    omitted: int = 0

    @property
    def size(self) -> int:
        """The characters of the whole text."""
        return len(self.head) + self.omitted + len(self.tail)

    @property
    def lines(self) -> int:
        """The lines that are shown."""
        return self.head.count("\n") + self.tail.count("\n") + 1

    def __bool__(self) -> bool:
        return bool(self.head or self.tail)


def excerpt(text: str, limit: int = LONGEST) -> Excerpt:
    """Return a text of at most `limit` characters."""
    text = text.strip("\n").rstrip()
    return Excerpt(text) if len(text) <= limit else _cut(text[: limit + 1], text[-limit:], len(text), limit)


def shortened(one: Excerpt, limit: int) -> Excerpt:
    """Return an excerpt cut further, to at most `limit` characters."""
    if len(one.head) + len(one.tail) <= limit:
        return one
    return _cut(one.head, one.tail or one.head, one.size, limit)


def _cut(beginning: str, end: str, size: int, limit: int) -> Excerpt:
    tail = limit // TAIL_SHARE
    head = limit - tail
    return Excerpt(beginning[:head], end[-tail:] if tail else "", size - head - tail)


def first_of(items: Sequence[T], most: int) -> tuple[tuple[T, ...], int]:
    """Return the first items, and how many are left out."""
    return tuple(items[:most]), max(0, len(items) - most)


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a text in Markdown: (True, what stands between fences), (False, what stands around them)."""
    is_code, lines = False, list[str]()
    for line in [*text.split("\n"), None]:
        if line is None or line.lstrip().startswith(FENCE):
            if part := "\n".join(lines).strip("\n"):
                yield is_code, part
            is_code, lines = not is_code, []
        else:
            lines.append(line)
