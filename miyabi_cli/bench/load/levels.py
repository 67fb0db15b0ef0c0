"""One level of load as a result: what its samples say, in the shape that the document has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.bench.load.driving import Driven
from miyabi_cli.bench.load.objectives import Objectives
from miyabi_cli.bench.load.percentiles import spread_ms
from miyabi_cli.bench.load.samples import Sample
from miyabi_cli.messages import Usage

MOST_KEPT = 20_000  # requests of one level
NO_LEVEL: Mapping[str, Any] = {}


def result_of(
    level: Mapping[str, Any], driven: Driven, objectives: Objectives | None, server: Mapping[str, Any] = NO_LEVEL
) -> dict[str, Any]:
    """Return the result of one level; `level` says which: its concurrency, or its rate.

    `ttft_ms` counts from the request's first byte sent; `e2e_ms` in an open loop from when the request was due, and so
    does `ttft_scheduled_ms` there. Failed requests are errors and no latencies. `goodput`: the share of all requests
    that were answered, and within the objectives where there are some.
    """
    scheduled = "concurrency" not in level
    answered = [sample for sample in driven.samples if not sample.error]
    good = [sample for sample in answered if objectives is None or objectives.is_good(sample, scheduled=scheduled)]
    usage = sum((sample.usage for sample in answered), Usage())
    seconds = max(driven.seconds, 1e-9)
    sent = len(driven.samples)
    return {
        **level,
        "requests": sent,
        "completed": len(answered),
        "unfinished": driven.unfinished,
        "errors": dict(Counter(sample.error for sample in driven.samples if sample.error).most_common()),
        "error_details": _details(driven.samples),
        "seconds": round(seconds, 3),
        "ttft_ms": spread_ms([sample.first_token for sample in answered]),
        "itl_ms": spread_ms([gap for sample in answered for gap in sample.gaps]),
        "e2e_ms": spread_ms([sample.whole(scheduled=scheduled) for sample in answered]),
        "tpot_ms": spread_ms([per_token for sample in answered if (per_token := _per_token(sample)) is not None]),
        **({"ttft_scheduled_ms": spread_ms([one.first - one.due for one in answered])} if scheduled else {}),
        "samples_ms": _kept(answered, scheduled=scheduled),
        "connect_ms": spread_ms([sample.connecting for sample in driven.samples if sample.connecting is not None]),
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_per_s": round(usage.output_tokens / seconds, 3),
        "requests_per_min": round(60 * len(answered) / seconds, 3),
        "goodput": round(len(good) / sent, 4) if sent else 0.0,
        "goodput_per_s": round(len(good) / seconds, 4),
        "generator": {
            "lag_ms": spread_ms([sample.lag for sample in driven.samples]),
            "loop_delay_ms": spread_ms(driven.ticks),
        },
        "server": dict(server),
    }


def _kept(answered: Sequence[Sample], *, scheduled: bool) -> dict[str, list[float]]:
    """Return the times of single requests, in the order of sending, from which another run can be compared."""
    first = sorted(answered, key=lambda sample: sample.sent)[:MOST_KEPT]
    return {
        "ttft_ms": [round(1000 * sample.first_token, 3) for sample in first],
        "e2e_ms": [round(1000 * sample.whole(scheduled=scheduled), 3) for sample in first],
    }


def _details(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the words of the first failure of each kind that came with any; "" for one that never did."""
    details: dict[str, str] = {}
    for sample in samples:
        if sample.error and not details.get(sample.error):
            details[sample.error] = sample.detail
    return details


def _per_token(sample: Sample) -> float | None:
    """Return the seconds from token to token as the server counted tokens, behind the first."""
    following = sample.usage.output_tokens - 1
    return (sample.last - sample.first) / following if following > 0 and sample.gaps else None
