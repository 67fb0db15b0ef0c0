"""Where a run's time went: what each attempt did when, as shares of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

MOST_SPANS = 400  # in one lane; of more the longest are drawn
MOST_TICKS = 7
NARROWEST = 0.15  # percent of the width: what is shorter would not be seen
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200, 86_400)

SpanKind = Literal["model", "tool", "check"]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of work; times are seconds since the run began, time in which it stood still not counted."""

    attempt: int
    kind: SpanKind
    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A span as it is drawn: from where and how wide, in percent."""

    kind: SpanKind
    left: float
    width: float
    seconds: float
    label: str


@dataclass(frozen=True, slots=True)
class Lane:
    attempt: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """`ticks` are (percent, seconds); `totals` the seconds of each kind; `stops` where the run was resumed, percent."""

    seconds: float = 0.0
    lanes: tuple[Lane, ...] = ()
    ticks: tuple[tuple[float, float], ...] = ()
    totals: dict[str, float] = field(default_factory=dict)
    stops: tuple[float, ...] = ()


def draw(spans: Iterable[Span], seconds: float, stops: Iterable[float] = ()) -> Timeline:
    """Return the timeline of a run that took so many seconds."""
    spans = list(spans)
    seconds = max([seconds, 0.001, *(span.end for span in spans)])
    by_attempt: dict[int, list[Span]] = {}
    for span in spans:
        by_attempt.setdefault(span.attempt, []).append(span)
    lanes = tuple(Lane(number, _bars(by_attempt[number], seconds)) for number in sorted(by_attempt))
    totals = {
        kind: total
        for kind in ("model", "tool", "check")
        if (total := sum(span.end - span.start for span in spans if span.kind == kind))
    }
    return Timeline(seconds, lanes, _ticks(seconds), totals, tuple(100 * stop / seconds for stop in stops))


def _bars(spans: list[Span], seconds: float) -> tuple[Bar, ...]:
    longest = sorted(spans, key=lambda span: span.start - span.end)[:MOST_SPANS]
    return tuple(
        Bar(
            span.kind,
            100 * span.start / seconds,
            max(NARROWEST, 100 * (span.end - span.start) / seconds),
            span.end - span.start,
            span.label,
        )
        for span in sorted(longest, key=lambda span: span.start)
    )


def _ticks(seconds: float) -> tuple[tuple[float, float], ...]:
    step = next((step for step in STEPS if seconds / step <= MOST_TICKS), seconds)
    return tuple((100 * number * step / seconds, number * step) for number in range(int(seconds / step) + 1))
