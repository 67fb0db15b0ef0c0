"""Makes a patch's changes to one text, at the one place where each hunk fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from miyabi_cli.errors import PatchConflict
from miyabi_cli.workspace.indentation import Reindent, reindenter
from miyabi_cli.workspace.patch_parsing import FileChange, Hunk
from miyabi_cli.workspace.patch_places import Body, locate, old_lines

Line = tuple[str, str]
"""A line's text and its ending: "\\n", "\\r\\n", or "" for a last line without one."""

MOST_PAIRS = 50_000  # of like lines: difflib's time grows with them times the runs that it finds


def change_text(text: str, change: FileChange) -> str:
    """Return a file's text with the hunks of `change` applied one after the other.

    Lines that the patch does not change keep the file's own bytes, also where they matched tolerantly; the file keeps
    its line endings, its byte order mark and a missing newline at its end. Where the patch is written in another
    indentation than the file, added lines are carried over to the file's, if the matched lines show how.
    Raises PatchConflict, made for the model, where a hunk fits nowhere or in several places.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    lines = _split(text.removeprefix(mark))
    endings = [ending for _, ending in lines if ending]
    newline = "\r\n" if endings.count("\r\n") * 2 > len(endings) else "\n"
    open_ended = bool(lines) and not lines[-1][1]
    floor = 0
    for number, hunk in enumerate(change.hunks, 1):
        where = f"{change.path}: hunk {number} of {len(change.hunks)}"
        lines, floor = _apply(lines, hunk, floor, newline, where)
        if hunk.final_newline is not None:
            open_ended = not hunk.final_newline
    return mark + _joined(lines, newline, open_ended)


def _split(text: str) -> list[Line]:
    *whole, rest = text.split("\n")
    lines = [(line[:-1], "\r\n") if line.endswith("\r") else (line, "\n") for line in whole]
    return [*lines, (rest, "")] if rest else lines


def _joined(lines: Sequence[Line], newline: str, open_ended: bool) -> str:
    text = "".join(line + (ending or newline) for line, ending in lines)
    return text.removesuffix("\n").removesuffix("\r") if open_ended else text


def _apply(lines: list[Line], hunk: Hunk, floor: int, newline: str, where: str) -> tuple[list[Line], int]:
    """Return the lines with a hunk applied, and the index behind its last change."""
    texts = [text for text, _ in lines]
    start, body = locate(texts, hunk, floor, where)
    old = old_lines(body)
    indent = reindenter(zip(old, texts[start : start + len(old)], strict=True))
    position = start
    changed: list[Line] = []
    behind = 0
    for removed, added in _blocks(body):
        own = lines[position : position + len(removed)]
        position += len(removed)
        try:
            changed += _merged(removed, own, added, indent, newline)
        except _Unclear as error:
            raise PatchConflict(
                f"{where} is indented in another way than the file, from line {start + 1} on",
                hint=f"write the hunk with the file's own white space; unclear is {str(error)[:120]!r}",
            ) from None
        if removed is not added:
            behind = len(changed)
    return [*lines[:start], *changed, *lines[position:]], start + behind


class _Unclear(Exception):
    """An added line whose indentation can't be told."""


def _blocks(body: Body) -> Iterator[tuple[list[str], list[str]]]:
    """Yield runs of changed lines as (removed, added), and of unchanged ones as the same list twice."""
    removed: list[str] = []
    added: list[str] = []
    context: list[str] = []
    for prefix, text in body:
        if prefix == " " and (removed or added):
            yield removed, added
            removed, added = [], []
        elif prefix != " " and context:
            yield context, context
            context = []
        {" ": context, "-": removed, "+": added}[prefix].append(text)
    if context:
        yield context, context
    if removed or added:
        yield removed, added


def _merged(removed: list[str], own: list[Line], added: list[str], indent: Reindent, newline: str) -> Iterator[Line]:
    """Yield the new lines; one that is removed and added again as it was stays the file's own."""
    if removed is added:
        yield from own
        return
    done = 0
    for start, first, size in _kept(removed, added):
        for line in added[done:first]:
            indented = indent(line)
            if indented is None:
                raise _Unclear(line)
            yield indented, newline
        yield from own[start : start + size]
        done = first + size


def _kept(removed: list[str], added: list[str]) -> list[tuple[int, int, int]]:
    """Return (index in `removed`, index in `added`, length) of the lines that stay; the last is of length 0.

    Of long runs of the same few lines only those at both ends stay.
    """
    there = Counter(removed)
    if sum(there[line] for line in added) <= MOST_PAIRS:
        blocks = SequenceMatcher(None, removed, added, autojunk=False).get_matching_blocks()
        return [(block.a, block.b, block.size) for block in blocks]
    head = _shared(removed, added)
    tail = _shared(removed[head:][::-1], added[head:][::-1])
    return [(0, 0, head), (len(removed) - tail, len(added) - tail, tail), (len(removed), len(added), 0)]


def _shared(one: list[str], other: list[str]) -> int:
    """Return how many lines two lists begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (line, its) in pairs if line != its), min(len(one), len(other)))
