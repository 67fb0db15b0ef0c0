"""When the requests of an open loop are due: fixed before the first is sent, whatever the server does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Yield the seconds from the start at which requests are due: a Poisson process of `rate` a second, without end.

    Its gaps are exponential and independent, as those of many users who know nothing of each other.
    """
    source = random.Random(f"{seed} arrivals")  # noqa: S311 - a schedule is no secret
    moment = 0.0
    while True:
        moment += source.expovariate(rate)
        yield moment


def traced(moments: Sequence[float], speed: float) -> Iterator[float]:
    """Yield a trace's own arrivals from its first on, `speed` times as fast."""
    first = moments[0] if moments else 0.0
    for moment in moments:
        yield (moment - first) / speed
