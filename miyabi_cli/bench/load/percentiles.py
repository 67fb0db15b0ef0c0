"""Percentiles with intervals that assume no distribution."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from typing import Any

CONFIDENCE = 0.95
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MILLISECONDS = 1000.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value under which a share (0 to 1) of a sorted sample lies, linear between neighbours.

    It is definition 7 of Hyndman and Fan (1996), the default of numpy. Raises ValueError for an empty sample.
    """
    if not ordered:
        raise ValueError("an empty sample has no percentiles")
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def percentile_interval(
    ordered: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Return between which values of a sorted sample the true percentile lies, with at least `confidence`.

    How many of n values lie under it is binomial, so two order statistics bound it whatever the distribution (David
    and Nagaraja, Order Statistics, 7.1). None: the sample is too small to bound that side.
    """
    count = len(ordered)
    tail = (1 - confidence) / 2
    below = _cumulative(count, share)
    # P(value[low] > q) = P(at most `low` lie under q); P(value[high] < q) = P(at least `high + 1` lie under q).
    low = bisect.bisect_right(below, tail) - 1
    high = bisect.bisect_left(below, 1 - tail)
    return (ordered[low] if low >= 0 else None, ordered[high] if high < count else None)


def _cumulative(count: int, share: float) -> list[float]:
    """Return P(X <= k) for k from 0 to `count` of a binomial, around its mean alone: the rest is 0 and 1."""
    spread = 10 * math.sqrt(count * share * (1 - share)) + 10
    first, last = max(0, math.floor(count * share - spread)), min(count, math.ceil(count * share + spread))
    total, sums = 0.0, [0.0] * first
    odds = (math.log(share), math.log1p(-share))
    for hits in range(first, last + 1):
        ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        total += math.exp(ways + hits * odds[0] + (count - hits) * odds[1])
        sums.append(min(1.0, total))
    return sums + [1.0] * (count - last)


def mean_interval(sample: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return between which values the true mean lies, by the central limit; None for fewer than two values."""
    if len(sample) < 2:
        return None
    centre = statistics.fmean(sample)
    reach = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * statistics.stdev(sample) / math.sqrt(len(sample))
    return centre - reach, centre + reach


def spread_ms(seconds: Sequence[float]) -> dict[str, Any]:
    """Return what a sample of seconds says, in milliseconds: its mean and percentiles, and their intervals (95 %).

    Each is None where nothing was measured.
    """
    ordered = sorted(value * MILLISECONDS for value in seconds)
    if not ordered:
        return {"count": 0, **dict.fromkeys(("mean", *SHARES, "min", "max")), "intervals": {}}
    intervals = {name: _rounded(percentile_interval(ordered, share)) for name, share in SHARES.items()}
    return {
        "count": len(ordered),
        "mean": round(statistics.fmean(ordered), 3),
        **{name: round(percentile(ordered, share), 3) for name, share in SHARES.items()},
        "min": round(ordered[0], 3),
        "max": round(ordered[-1], 3),
        "intervals": {"mean": _rounded(mean_interval(ordered)), **intervals},
    }


def _rounded(interval: tuple[float | None, float | None] | None) -> list[float] | None:
    """Return an interval's ends; None where the sample is too small to bound both sides."""
    if interval is None or interval[0] is None or interval[1] is None:
        return None
    return [round(interval[0], 3), round(interval[1], 3)]
