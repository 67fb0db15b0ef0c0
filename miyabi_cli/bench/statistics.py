"""Whether two figures differ, by the standard library: scipy would add 130 MB for these few formulas.

All is two-sided at 95 %. What draws numbers does so from a fixed seed: the same documents give the same figures.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import TypeVar

LEVEL = 0.05  # a difference that chance makes more rarely is significant
RESAMPLES = 2000
MOST_DRAWN = 1000  # values: for more a formula is as good, and soon done
FEWEST_DRAWS, TOLD = 200, 0.9  # of very many pairs; the share of draws that have to give a figure
SEED = 20260101

Interval = tuple[float, float]
Row = TypeVar("Row", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the second figure lies above the first: its 95 % interval, and how often chance alone makes as much.

    None where the method gives none; both where there is too little for any difference to be significant.
    """

    interval: Interval | None = None
    p_value: float | None = None
    method: str = ""

    @property
    def is_significant(self) -> bool | None:
        """None where that can't be told."""
        if self.p_value is not None:
            return self.p_value < LEVEL
        if self.interval is None:
            return None
        low, high = self.interval
        return low > 0 or high < 0

    @property
    def is_bounded(self) -> bool:
        """Say whether the interval has both its ends: a sample may be too small to have one."""
        return self.interval is not None and all(map(math.isfinite, self.interval))


UNKNOWN = Difference()


def wilson_interval(passed: int, total: int) -> Interval | None:
    """Return the interval of a share (E. B. Wilson 1927, without continuity correction); None without trials."""
    if total <= 0:
        return None
    z = NormalDist().inv_cdf(1 - LEVEL / 2)
    part, weight = passed / total, z * z / total
    middle = (part + weight / 2) / (1 + weight)
    reach = z * math.sqrt(part * (1 - part) / total + weight / total / 4) / (1 + weight)
    # at none and at all the formula gives 0 and 1 but for rounding
    return (0.0 if passed == 0 else middle - reach), (1.0 if passed == total else middle + reach)


def compare_intervals(first: float, first_interval: Interval, second: float, second_interval: Interval) -> Difference:
    """Compare two independent figures by an interval of each (Zou and Donner 2008; of shares: Newcombe 1998)."""
    (first_low, first_high), (second_low, second_high) = first_interval, second_interval
    change = second - first
    low = change - math.hypot(second - second_low, first_high - first)
    high = change + math.hypot(second_high - second, first - first_low)
    return Difference((low, high), method="intervals")


def mcnemar(both: int, lost: int, won: int, neither: int) -> Difference:
    """Compare paired passes and failures exactly (McNemar 1947, binomial).

    `both`: pairs that both have passed; `lost`: only the first; `won`: only the second. The interval is that of the
    difference of shares (Newcombe 1998, Statistics in Medicine 17, 2635, method 10): the exact test says whether there
    is a difference, and this how large.
    """
    pairs, differing = both + lost + won + neither, lost + won
    if not _can_tell(pairs):
        return UNKNOWN
    tail = sum(math.comb(differing, k) for k in range(min(lost, won) + 1)) / 2**differing
    return Difference(_paired_interval(both, lost, won, neither), min(1.0, 2 * tail), "McNemar")


def compare_pairs(differences: Sequence[float]) -> Difference:
    """Tell whether the mean of paired differences is other than 0, by drawing them anew (bootstrap, percentiles)."""
    count = len(differences)
    if not _can_tell(count):
        return UNKNOWN
    if count > MOST_DRAWN:
        return _normal_difference(fmean(differences), stdev(differences) / math.sqrt(count))
    source = random.Random(SEED)  # noqa: S311 - statistics, no secret
    return _drawn_difference([fmean(source.choices(differences, k=count)) for _ in range(RESAMPLES)])


def compare_resampled(
    pairs: Sequence[tuple[Row, Row]], figures: Callable[[Mapping[Row, int]], Mapping[str, float | None]]
) -> dict[str, Difference]:
    """Tell of figures of a whole set, such as F1, whether they differ, by drawing its pairs anew (Efron 1979).

    `figures` gives them of one side's rows and how often each is there; None where there is nothing to take one of,
    and a figure that many draws lack is `UNKNOWN`.
    """
    kinds = Counter(pairs)
    source = random.Random(SEED)  # noqa: S311 - statistics, no secret
    names = figures(Counter(before for before, _ in pairs)).keys()
    if not _can_tell(len(pairs)):
        return dict.fromkeys(names, UNKNOWN)
    draws = RESAMPLES if len(pairs) <= MOST_DRAWN else max(FEWEST_DRAWS, RESAMPLES * MOST_DRAWN // len(pairs))
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(draws):
        sides: tuple[Counter[Row], Counter[Row]] = (Counter(), Counter())
        for pair, times in Counter(source.choices(list(kinds), list(kinds.values()), k=len(pairs))).items():
            for side, row in zip(sides, pair, strict=True):
                side[row] += times
        first, second = map(figures, sides)
        for name in names:
            before, after = first[name], second[name]
            if before is not None and after is not None:
                drawn[name].append(after - before)
    return {
        name: _drawn_difference(values) if len(values) >= TOLD * draws else UNKNOWN for name, values in drawn.items()
    }


def _drawn_difference(values: Sequence[float]) -> Difference:
    """Judge by what was drawn: the percentiles are the interval's ends."""
    drawn, count = sorted(values), len(values)
    far = min(sum(value <= 0 for value in drawn), sum(value >= 0 for value in drawn))
    place = round(count * LEVEL / 2)
    return Difference((drawn[place], drawn[-1 - place]), min(1.0, 2 * (far + 1) / (count + 1)), "bootstrap")


def _normal_difference(mean: float, spread: float) -> Difference:
    """Judge the mean of many differences, which is normally distributed; `spread` is its standard deviation."""
    if not spread:
        return Difference((mean, mean), 0.0 if mean else 1.0, "normal")
    normal = NormalDist(mean, spread)
    ends = normal.inv_cdf(LEVEL / 2), normal.inv_cdf(1 - LEVEL / 2)
    return Difference(ends, 2 * min(normal.cdf(0.0), normal.cdf(2 * mean)), "normal")


def _paired_interval(both: int, lost: int, won: int, neither: int) -> Interval:
    """Return the interval of how much larger a second share is than the first, of the same pairs."""
    pairs = both + lost + won + neither
    sides = (both + lost, both + won)
    first, second = (side / pairs for side in sides)
    (first_low, first_high), (second_low, second_high) = (wilson_interval(side, pairs) or (0.0, 1.0) for side in sides)
    together = both * neither - lost * won
    spread = math.sqrt(math.prod((side * (pairs - side)) for side in sides))
    correlation = (max(0.0, together - pairs / 2) if together > 0 else together) / spread if spread else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    change = second - first
    low = change - reach(second - second_low, first_high - first)
    return low, change + reach(second_high - second, first - first_low)


def _can_tell(pairs: int) -> bool:
    """Say whether so many pairs could be significant: were all of them worse, a coin would do that with 2 / 2^pairs."""
    return 2 * 0.5**pairs < LEVEL
