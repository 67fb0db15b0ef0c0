"""A file's change as a model sees it: numbered lines, bounded, with nothing in them that hides or reorders text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from miyabi_cli.review.change import ChangedFile
from miyabi_cli.workspace.diffs import DiffHunk, DiffLine, LineKind

LINE_WIDTH = 400  # characters that are shown of a line around the change
CHANGED_WIDTH = 2_000  # of one that comes or goes: the rest is data, or made by a program
LINES_ABOVE, LINES_BELOW = 12, 4  # of the file, around a hunk
# C0 and C1 controls but the tab, what hides or reorders text, and bytes that are no UTF-8 (PEP 383).
_HIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
    "\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line of a change, without its end. `number` is the line's in the file after the change, or of the nearest
    line below or above that is left, where this one goes; 0 where none is.
    """

    kind: LineKind
    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Part:
    """What of a file's change fits one request: its lines, hunk by hunk, each with what git shows of its function."""

    file: ChangedFile
    hunks: tuple[tuple[str, tuple[ShownLine, ...]], ...]

    @property
    def lines(self) -> Iterator[ShownLine]:
        return (line for _, lines in self.hunks for line in lines)

    @property
    def text(self) -> str:
        """The lines, numbered, with those of the file around each hunk where they are known."""
        taken = {line.number for line in self.lines if line.kind != "-"}
        return "\n".join(_hunk_text(self.file, section, lines, taken) for section, lines in self.hunks)


def visible(text: str, width: int = LINE_WIDTH) -> str:
    """Return a line as it is shown: what hides or reorders text is named, and what is too long is cut."""
    text = text.removesuffix("\r")
    return named(text if len(text) <= width else f"{text[:width]}…")


def named(text: str) -> str:
    """Return text in which each character that hides or reorders others is named."""
    return _HIDDEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def parts_of(file: ChangedFile, limit: int) -> tuple[Part, ...]:
    """Return a file's change in parts of about `limit` characters at most; a hunk is cut only where it has to be."""
    parts: list[Part] = []
    held: list[tuple[str, tuple[ShownLine, ...]]] = []
    size = 0
    for hunk in file.hunks:
        for piece in _pieces(_shown(hunk), limit):
            length = _size(piece)
            if held and size + length > limit:
                parts.append(Part(file, tuple(held)))
                held, size = [], 0
            held.append((hunk.section, piece))
            size += length
    return (*parts, Part(file, tuple(held))) if held else tuple(parts)


def halves(part: Part) -> tuple[Part, ...]:
    """Return a part in two, nothing where it is one line."""
    lines = sum(len(lines) for _, lines in part.hunks)
    if lines < 2:
        return ()
    whole: list[tuple[str, tuple[ShownLine, ...]]] = []
    rest: list[tuple[str, tuple[ShownLine, ...]]] = []
    left = lines // 2
    for section, held in part.hunks:
        if held[:left]:
            whole.append((section, held[:left]))
        if held[left:]:
            rest.append((section, held[left:]))
        left = max(0, left - len(held))
    return Part(part.file, tuple(whole)), Part(part.file, tuple(rest))


def excerpt(file: ChangedFile, first: int, last: int, around: int) -> str:
    """Return numbered lines of a file after the change, from `around` before `first` to `around` after `last`."""
    return "\n".join(
        _numbered_in(file, number)
        for number in range(max(1, first - around), last + around + 1)
        if number in file.lines
    )


def _numbered_in(file: ChangedFile, number: int) -> str:
    is_new = number in file.added
    return numbered(number, "+" if is_new else " ", visible(file.lines[number], _width("+" if is_new else " ")))


def _width(kind: LineKind) -> int:
    return LINE_WIDTH if kind == " " else CHANGED_WIDTH


def numbered(number: int | None, kind: str, text: str) -> str:
    return f"{number or '':>5} {kind} {text}"


def _shown(hunk: DiffHunk) -> tuple[ShownLine, ...]:
    numbers = _numbers(hunk.lines)
    return tuple(
        ShownLine(line.kind, visible(line.text, _width(line.kind)), number)
        for line, number in zip(hunk.lines, numbers, strict=True)
    )


def _numbers(lines: Sequence[DiffLine]) -> list[int]:
    """Return for each line its number, or that of the next line that is left, else of the last before it."""
    numbers = [0] * len(lines)
    following = 0
    for position in range(len(lines) - 1, -1, -1):
        following = lines[position].new or following
        numbers[position] = following
    last = 0
    for position, number in enumerate(numbers):
        numbers[position] = last = number or last
    return numbers


def _pieces(lines: Sequence[ShownLine], limit: int) -> Iterator[tuple[ShownLine, ...]]:
    held: list[ShownLine] = []
    size = 0
    for line in lines:
        if held and size + len(line.text) + 9 > limit:
            yield tuple(held)
            held, size = [], 0
        held.append(line)
        size += len(line.text) + 9
    if held:
        yield tuple(held)


def _size(lines: Sequence[ShownLine]) -> int:
    return sum(len(line.text) + 9 for line in lines)


def _hunk_text(file: ChangedFile, section: str, lines: Sequence[ShownLine], taken: set[int]) -> str:
    first, last = lines[0].number, lines[-1].number
    above = _around(file, range(max(1, first - LINES_ABOVE), first), taken)
    below = _around(file, range(last + 1, last + LINES_BELOW + 1), taken)
    body = [numbered(None if line.kind == "-" else line.number, line.kind, line.text) for line in lines]
    return "\n".join([f"@@ {visible(section)}".rstrip(), *above, *body, *below])


def _around(file: ChangedFile, numbers: range, taken: set[int]) -> list[str]:
    if file.text is None:
        return []
    wanted = [number for number in numbers if number not in taken and number in file.lines]
    return [numbered(number, " ", visible(file.lines[number])) for number in wanted]
