"""Finds the line that a finding speaks of: by its quote in the change, never by the number that a model gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from miyabi_cli.review.model.shown import LINE_WIDTH, ShownLine, visible

CLOSE = 0.85  # difflib's ratio, from which a line is taken for the one that is quoted
FEWEST = 6  # letters without spaces of a quote that may be only a part of its line
MOST_LINES = 30  # of one quote
BESIDE = 3  # lines between the place and the model's number, where several lines are as like the quote
SKIPPED = 3  # lines that a quote may leave out between two
_NUMBERED = re.compile(r"\s{0,12}\d{1,7} ([+-]|  )\s")
_MARKED = re.compile(r"\s{0,12}[+-](?![+-])")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The lines of the file after the change that are meant, and the first of them as it is shown."""

    line: int
    end_line: int
    quote: str


def find_anchor(quote: str, claimed: int, lines: Sequence[ShownLine]) -> Anchor | None:
    """Return where a quote stands among the lines of a change, None where it does not.

    It is looked for as it is, then without regard to spaces, then as a part of a line, then by likeness. Of several
    places the one nearest to the line that the model claims is taken, and of two as near one that comes or goes.
    Raises nothing, whatever the quote is.
    """
    places = [line for line in lines if line.number]
    readings = tuple(_readings(quote))
    for search in (_exact, _spaceless, _within, _alike):
        for quoted in readings:
            found = [_anchor(places, at, quoted) for at in search(places, quoted[0])]
            if search is _alike and len({one.anchor.quote for one in found}) > 1:  # rows of a table, say
                found = [one for one in found if abs(one.line - claimed) <= BESIDE]
            if found:
                return min(found, key=lambda one: (-one.agreeing, abs(one.line - claimed), one.settled)).anchor
    return None


def _readings(quote: str) -> Iterator[list[str]]:
    """Yield what a quote may mean, as lines with something in them: without the marks before lines, and as it is."""
    lines = [visible(line) for line in quote.replace("\r\n", "\n").split("\n") if line.strip()][:MOST_LINES]
    if not lines:
        return
    for pattern in (_NUMBERED, _MARKED):
        if all(pattern.match(line) for line in lines):
            bare = [pattern.sub("", line, count=1) for line in lines]
            if all(line.strip() for line in bare):
                yield bare
    yield lines


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A place that a quote may mean; `agreeing` counts its lines that stand there, `settled`: the first is not new."""

    anchor: Anchor
    agreeing: int
    settled: bool

    @property
    def line(self) -> int:
        return self.anchor.line


def _anchor(places: Sequence[ShownLine], at: int, quoted: Sequence[str]) -> _Candidate:
    """Return a place that goes on as long as the quote's further lines stand there, but for a few between them."""
    last, agreeing = at, 1
    for wanted in quoted[1:]:
        window = places[last + 1 : last + 1 + SKIPPED]
        step = next((step for step, line in enumerate(window) if _same(line.text, wanted)), None)
        if step is None:
            break
        last, agreeing = last + 1 + step, agreeing + 1
    first = places[at].number
    anchor = Anchor(first, max(first, places[last].number), places[at].text.strip())
    return _Candidate(anchor, agreeing, places[at].kind == " ")


def _exact(places: Sequence[ShownLine], quoted: str) -> list[int]:
    return [at for at, line in enumerate(places) if line.text.rstrip() == quoted.rstrip()]


def _spaceless(places: Sequence[ShownLine], quoted: str) -> list[int]:
    return [at for at, line in enumerate(places) if _same(line.text, quoted)]


def _same(text: str, quoted: str) -> bool:
    return "".join(text.split()) == "".join(quoted.split())


def _within(places: Sequence[ShownLine], quoted: str) -> list[int]:
    return [at for at, line in enumerate(places) if _is_part(line.text, quoted)]


def _is_part(text: str, quoted: str) -> bool:
    """Say whether one is a part of the other, and long enough to tell."""
    inner, outer = sorted(("".join(text.split()), "".join(quoted.split())), key=len)
    return len(inner) >= FEWEST and 2 * len(inner) >= min(len(outer), 80) and inner in outer


def _alike(places: Sequence[ShownLine], quoted: str) -> list[int]:
    """Return the lines that are as like the quote as any other, where that is close."""
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2("".join(quoted.split())[:LINE_WIDTH])
    best = CLOSE
    found: list[int] = []
    for at, line in enumerate(places):
        matcher.set_seq1("".join(line.text.split()))
        if matcher.real_quick_ratio() < best or matcher.quick_ratio() < best or (ratio := matcher.ratio()) < best:
            continue
        found = [*found, at] if ratio == best and found else [at]
        best = ratio
    return found
