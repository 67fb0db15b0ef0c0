"""Figures as people read them: times, shares, money, and the names of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "-"
MICRO = 1e-6
HUGE = 1e12  # from there on digits say nothing, and a hostile document could have hundreds


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three digits or more: `0.84`, `84.2`, `1,240`."""
    if value is None:
        return UNKNOWN
    if value >= HUGE:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a number: whole ones as they are, others with three digits or so."""
    if value is None:
        return UNKNOWN
    if abs(value) >= HUGE:
        return f"{value:.3g}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def share(value: float | None) -> str:
    """Return `62.0 %`."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def share_with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """Return `62.0 % (48 to 74)`; the interval is that of 95 %."""
    if value is None or interval is None:
        return share(value)
    low, high = (100 * end for end in interval)
    return f"{share(value)} ({low:.0f} to {high:.0f})"


def dollars(value: float | None) -> str:
    """Return US dollars with two digits that say something: `12.40`, `0.0046`, `0.00034`."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if value >= HUGE or value < MICRO:
        return f"{value:.2g}"
    return f"{value:.2f}" if value >= 1 else f"{value:.4f}" if value >= 0.001 else f"{value:.6f}".rstrip("0")


def percent(value: float | None) -> str:
    """Return a change: `+12.5 %`."""
    return UNKNOWN if value is None else f"{value:+.1f} %"


def bytes_name(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count / 2**30:.0f} GiB"


def words_of(name: str) -> str:
    """Return the name of a figure in words: `cost_per_solved_usd` is `cost per solved, USD`."""
    for ending, unit in (("_usd", ", USD"), ("_ms", ", ms")):
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " ") + unit
    return name.replace("_", " ")
