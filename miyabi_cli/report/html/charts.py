"""Charts as lines, marks and labels at their places, which a template writes as SVG; no style, no text of mark-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 400.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 388.0, 26.0, 206.0
FIRST_ROW = 4.0
ROW = 38.0  # height of one row of a chart of rows
CAP = 3.0  # half the width of a whisker's end
TICKS = 5
FEW_DIGITS = 100_000  # a step from there on, or as small, is written with its exponent
LETTER = 7.0  # width of a letter of a label, about
MOST_POINTS = 60
LONGEST_LABEL = 48


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure and its interval, None where it has none; `label` says what it is to a person."""

    x: float
    y: float
    low: float | None
    high: float | None
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one name; `color` and `shape` tell it from the others, each in its own way."""

    name: str
    readings: Sequence[Reading]
    color: int
    shape: int


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    path: str
    whisker: str
    label: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A series in its place: `line` is a path, "" where its marks are not joined."""

    name: str
    color: int
    shape: int
    line: str
    marks: tuple[Mark, ...]
    sample: str  # the mark alone, for a legend


@dataclass(frozen=True, slots=True)
class Chart:
    """`across` and `down` are the places of the lines of its grid; `rows` name what is drawn below them.

    Its frame goes from `left` and `top` to `right` and `bottom`.
    """

    title: str
    x_title: str
    y_title: str
    height: float
    left: float
    top: float
    right: float
    bottom: float
    across: tuple[Label, ...]
    down: tuple[Label, ...]
    rows: tuple[Label, ...]
    series: tuple[Drawn, ...]


def chart_by_load(title: str, x_title: str, y_title: str, series: Sequence[Series]) -> Chart:
    """Return lines over levels of load, at logarithmic places: from 1 to 10 is as far as from 10 to 100."""
    readings = [reading for one in series for reading in one.readings]
    levels = sorted({reading.x for reading in readings})
    ends = [math.log(level) for level in (levels[0], levels[-1])] if levels else [0.0, 0.0]
    x_of = _scale(ends[0], ends[1], LEFT + 18, RIGHT - 18)
    top, ticks = _nice(max((reading.high or reading.y for reading in readings), default=0.0))
    y_of = _scale(0.0, top, BOTTOM, TOP)
    drawn = tuple(_drawn(one, lambda x: x_of(math.log(x)), y_of, is_joined=True) for one in series)
    labels = _apart([Label(x_of(math.log(level)), BOTTOM + 16, f"{level:g}") for level in levels])
    down = tuple(Label(LEFT, y_of(tick), text) for tick, text in ticks)
    return Chart(title, x_title, y_title, HEIGHT, LEFT, TOP, RIGHT, BOTTOM, labels, down, (), drawn)


def chart_of_rows(title: str, x_title: str, series: Sequence[Series]) -> Chart:
    """Return shares (0 to 1) in rows, each with its interval, and its name above it; a reading's `y` is its share."""
    bottom = FIRST_ROW + ROW * len(series)
    x_of = _scale(0.0, 1.0, 16.0, RIGHT - 12)
    drawn, rows = [], []
    for place, one in enumerate(series):
        middle = FIRST_ROW + ROW * place + 27
        rows.append(Label(16.0, middle - 12, _cut(one.name)))
        drawn.append(_in_row(one, x_of, middle))
    across = tuple(Label(x_of(tick / 4), bottom + 16, f"{25 * tick} %") for tick in range(5))
    return Chart(title, x_title, "", bottom + 44, 16.0, FIRST_ROW, RIGHT, bottom, across, (), tuple(rows), tuple(drawn))


def scatter(title: str, x_title: str, y_title: str, series: Sequence[Series]) -> Chart:
    """Return points of a figure, from 0 on, against shares (0 to 1)."""
    right, ticks = _nice(max((reading.x for one in series for reading in one.readings), default=0.0))
    x_of, y_of = _scale(0.0, right, LEFT, RIGHT - 12), _scale(0.0, 1.0, BOTTOM, TOP)
    drawn = tuple(_drawn(one, x_of, y_of, is_joined=False) for one in series)
    across = _apart([Label(x_of(tick), BOTTOM + 16, text) for tick, text in ticks])
    down = tuple(Label(LEFT, y_of(tick / 4), f"{25 * tick} %") for tick in range(5))
    return Chart(title, x_title, y_title, HEIGHT, LEFT, TOP, RIGHT, BOTTOM, across, down, (), drawn)


def _drawn(series: Series, x_of: Callable[[float], float], y_of: Callable[[float], float], *, is_joined: bool) -> Drawn:
    readings = series.readings[:MOST_POINTS]
    places = [(x_of(reading.x), y_of(reading.y)) for reading in readings]
    marks = []
    for reading, (x, y) in zip(readings, places, strict=True):
        whisker = ""
        if reading.low is not None and reading.high is not None:
            whisker = _upright(x, y_of(reading.low), y_of(reading.high))
        marks.append(Mark(_shape(series.shape, x, y), whisker, reading.label))
    line = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places) if is_joined and len(places) > 1 else ""
    return Drawn(series.name, series.color, series.shape, line, tuple(marks), _shape(series.shape, 14, 7))


def _in_row(series: Series, x_of: Callable[[float], float], y: float) -> Drawn:
    marks = []
    for reading in series.readings[:1]:
        whisker = ""
        if reading.low is not None and reading.high is not None:
            low, high = x_of(reading.low), x_of(reading.high)
            ends = (f"M{x:.1f} {y - CAP:.1f}V{y + CAP:.1f}" for x in (low, high))
            whisker = f"M{low:.1f} {y:.1f}H{high:.1f}{''.join(ends)}"
        marks.append(Mark(_shape(series.shape, x_of(reading.y), y), whisker, reading.label))
    return Drawn(series.name, series.color, series.shape, "", tuple(marks), _shape(series.shape, 14, 7))


def _upright(x: float, low: float, high: float) -> str:
    ends = (f"M{x - CAP:.1f} {y:.1f}H{x + CAP:.1f}" for y in (low, high))
    return f"M{x:.1f} {low:.1f}V{high:.1f}{''.join(ends)}"


def _shape(number: int, x: float, y: float) -> str:
    """Return the path of a circle, a square, a triangle or a diamond around a point."""
    around = (
        f"M{x - 3.8:.1f} {y:.1f}a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0 -7.6 0z",
        f"M{x - 3.4:.1f} {y - 3.4:.1f}h6.8v6.8h-6.8z",
        f"M{x:.1f} {y - 4.4:.1f}l4.4 7.8h-8.8z",
        f"M{x:.1f} {y - 4.8:.1f}l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
    )
    return around[number % len(around)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return what puts a value between two places; where there is but one value it stands in the middle."""
    if high <= low:
        return lambda _: (start + end) / 2
    return lambda value: start + (min(max(value, low), high) - low) / (high - low) * (end - start)


def _nice(largest: float) -> tuple[float, list[tuple[float, str]]]:
    """Return the end of a scale from 0, and its ticks with their labels: steps of 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return 1.0, [(0.0, "0"), (1.0, "1")]
    raw = largest / TICKS
    exponent = math.floor(math.log10(raw))
    power = 10.0**exponent
    factor = next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step, digits = factor * power, max(0, -exponent - (factor == 10))
    shown = f",.{digits}f" if step < FEW_DIGITS and digits < len(str(FEW_DIGITS)) else ".3g"
    ticks = [number * step for number in range(math.ceil(largest / step - 1e-9) + 1)]
    return ticks[-1], [(tick, format(tick, shown) if tick else "0") for tick in ticks]


def _apart(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Return the labels whose texts would stand in each other without their text: the grid keeps its line."""
    kept: list[Label] = []
    free = -math.inf
    for label in labels:
        half = LETTER * len(label.text) / 2
        has_room = label.x - half >= free
        free = label.x + half + LETTER / 2 if has_room else free
        kept.append(label if has_room else Label(label.x, label.y, ""))
    return tuple(kept)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
