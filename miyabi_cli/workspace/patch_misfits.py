"""Says to a model why a hunk does not fit, and which lines are there instead."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches

SHOWN_LINES = 40
SHOWN_WIDTH = 200
_AROUND = 4
_COMPARED, _PROBED = 20_000, 200  # lines of the file and of the hunk that are compared


def describe_misfit(lines: Sequence[str], body: Sequence[tuple[str, str]]) -> str:
    """Return the lines nearest to what a hunk expects, numbered, at most SHOWN_LINES of them."""
    if not lines:
        return "the file is empty"
    new = [text.rstrip() for prefix, text in body if prefix != "-"]
    adds = any(prefix == "+" for prefix, _ in body)
    if adds and len(new) > 1 and (at := _find([line.rstrip() for line in lines], new)) is not None:
        return f"the change is there already, at line {at + 1}:\n{numbered(lines, at, at + len(new))}"
    old = [text for prefix, text in body if prefix != "+"]
    start = max(0, min(_nearest(lines, old), len(lines) - 1))
    first, last = max(0, start - _AROUND), start + len(old) + _AROUND
    region = numbered(lines, first, min(last, first + SHOWN_LINES))
    return f"{_first_difference(lines, old, start)}the lines there are:\n{region}"


def numbered(lines: Sequence[str], start: int, stop: int) -> str:
    """Return lines [start, stop) with their numbers, each cut at SHOWN_WIDTH, at most SHOWN_LINES of them."""
    shown = enumerate(lines[start : min(stop, start + SHOWN_LINES)], start + 1)
    return "\n".join(f"{number:>5}  {line[:SHOWN_WIDTH]}" for number, line in shown)


def _find(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    places = (at for at in range(len(lines) - len(wanted) + 1) if lines[at : at + len(wanted)] == wanted)
    return next(places, None)


def _nearest(lines: Sequence[str], old: Sequence[str]) -> int:
    """Return the index at which the hunk would begin: by its longest run of lines in the file, else by a like one."""
    there = [line.strip() for line in lines[:_COMPARED]]
    # An empty line is alike everywhere, and says nothing of the place.
    wanted = [line.strip() or "\0" for line in old[:_PROBED]]
    run = SequenceMatcher(None, there, wanted, autojunk=False).find_longest_match()
    if run.size:
        return run.a - run.b
    for at, line in sorted(enumerate(wanted), key=lambda item: -len(item[1]))[:3]:
        if like := get_close_matches(line[:SHOWN_WIDTH], there, 1):
            return there.index(like[0]) - at
    return 0


def _first_difference(lines: Sequence[str], old: Sequence[str], start: int) -> str:
    for at, wanted in enumerate(old, start):
        found = lines[at] if at < len(lines) else None
        if found is None or found.split() != wanted.split():
            is_there = "the file ends before" if found is None else f"line {at + 1} is `{found[:SHOWN_WIDTH]}`, not"
            return f"{is_there} `{wanted[:SHOWN_WIDTH]}`; "
    return ""
