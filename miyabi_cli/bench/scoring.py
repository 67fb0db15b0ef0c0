"""What trials come to: rates with their intervals, cost, tokens; pure functions of the rows."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from miyabi_cli.bench.statistics import MOST_DRAWN, RESAMPLES, SEED, Interval, compare_pairs, wilson_interval
from miyabi_cli.messages import Usage

NO_REVIEW = "no reviewer was asked"

Row = Mapping[str, Any]


def pass_at(k: int, trials: int, passed: int) -> float:
    """Return the chance that at least one of k trials passes, from `passed` of `trials`: unbiased.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, section 2.1); k is from 1 to the number of trials.
    """
    return 1 - math.comb(trials - passed, k) / math.comb(trials, k)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the interval at 95 % of the mean of values, one a task, by drawing the tasks anew (Efron's percentiles);
    None for fewer than two. The same values give the same interval.
    """
    if len(values) < 2:
        return None
    draw = random.Random(SEED)  # noqa: S311 (no secret)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[round(RESAMPLES * 0.025)], means[round(RESAMPLES * 0.975) - 1]


def interval_of(values: Sequence[float]) -> Interval | None:
    """Return the interval of the mean of a value a task, 0 to 1: Wilson's where each is passed or not; else that of
    drawing the tasks anew, since the trials of one task are no samples of their own.
    """
    if set(values) <= {0.0, 1.0}:
        return wilson_interval(round(sum(values)), len(values))
    return mean_interval(values) if len(values) <= MOST_DRAWN else compare_pairs(values).interval


def summarise(rows: Sequence[Row], *, planned: int, reviewed: bool = False) -> dict[str, Any]:
    """Return the summary of a benchmark's rows; `planned` trials were asked for.

    A trial of which it could not be told whether it passed (an error, no test that ran) is in no rate.
    """
    told = [row for row in rows if row["passed"] is not None]
    tasks: dict[str, list[bool]] = {}
    for row in told:
        tasks.setdefault(row["id"], []).append(row["passed"])
    passed = sum(row["passed"] for row in told)
    most = min(map(len, tasks.values()), default=0)
    rates = [statistics.fmean(own) for own in tasks.values()]
    patched = [row for row in rows if row.get("lint_clean") is not None]
    clean = sum(row["lint_clean"] for row in patched)
    scores = [row["review_score"] for row in rows if row.get("review_score") is not None]
    calls = sum(row.get("tool_calls") or 0 for row in rows)
    valid = sum(row.get("valid_tool_calls") or 0 for row in rows)
    usage = sum((Usage(**row["usage"]) for row in rows), Usage())
    cost = usage.cost_usd
    return {
        "tasks": len({row["id"] for row in rows}),
        "trials": len(rows),
        "complete": len(rows) == planned and len(told) == len(rows),
        "passed": passed,
        "tasks_passed": sum(any(own) for own in tasks.values()),
        "pass_rate": _rounded(statistics.fmean(rates)) if rates else None,
        "pass_rate_interval": _listed(interval_of(rates)),
        "pass_at": {str(k): _pass_at(list(tasks.values()), k) for k in _sizes(most)},
        "verified": sum(row["status"] == "verified" for row in rows),
        "verified_but_not_passed": sum(row["status"] == "verified" and row["passed"] is False for row in rows),
        "lint_clean_rate": _share(clean, len(patched)),
        "lint_clean_rate_interval": _listed(wilson_interval(clean, len(patched))),
        "review_score": _rounded(statistics.fmean(scores)) if scores else None,
        "review_score_reason": None if scores else "no patch could be scored" if reviewed else NO_REVIEW,
        "tool_calls": calls,
        "tool_call_validity": _share(valid, calls),
        "cost_usd": _rounded(cost),
        "cost_per_solved_usd": _rounded(cost / passed) if cost is not None and passed else None,
        "tokens_per_solved": _rounded((usage.input_tokens + usage.output_tokens) / passed) if passed else None,
        "steps": _mean(rows, lambda row: row.get("steps")),
        "seconds": _mean(rows, lambda row: row["seconds"]),
        "seconds_median": _rounded(statistics.median(row["seconds"] for row in rows)) if rows else None,
        "failures": dict(sorted(Counter(row["failure"] for row in rows if row["failure"]).items())),
        "usage": dataclasses.asdict(usage),
        "languages": _by_language(told),
    }


def change_against(rows: Sequence[Row], earlier: Sequence[Row], name: str) -> dict[str, Any]:
    """Return what has changed against an earlier report `name`, in the tasks that both have told of."""
    now, before = _rates(rows), _rates(earlier)
    common = sorted(now.keys() & before.keys())
    means = [_rounded(statistics.fmean(rates[task] for task in common)) if common else None for rates in (before, now)]
    costs = [_mean([row for row in kept if row["id"] in common], _cost) for kept in (earlier, rows)]
    return {
        "report": name,
        "tasks": len(common),
        "pass_rate_before": means[0],
        "pass_rate": means[1],
        "change": _rounded(means[1] - means[0]) if means[0] is not None and means[1] is not None else None,
        "gained": [task for task in common if now[task] > before[task]],
        "lost": [task for task in common if now[task] < before[task]],
        "cost_per_trial_before_usd": costs[0],
        "cost_per_trial_usd": costs[1],
    }


def _pass_at(tasks: Sequence[Sequence[bool]], k: int) -> dict[str, Any]:
    values = [pass_at(k, len(own), sum(own)) for own in tasks]
    return {"value": _rounded(statistics.fmean(values)), "interval": _listed(interval_of(values))}


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [round(end, 6) for end in interval]


def _sizes(most: int) -> list[int]:
    """Return 1, 2, 4… and the number of trials itself."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | ({most} if most else set()))


def _by_language(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, list[bool]] = {}
    for row in rows:
        found.setdefault(row.get("language") or "other", []).append(row["passed"])
    return {
        language: {
            "trials": len(own),
            "pass_rate": _share(sum(own), len(own)),
            "interval": _listed(wilson_interval(sum(own), len(own))),
        }
        for language, own in sorted(found.items())
    }


def _rates(rows: Sequence[Row]) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for row in rows:
        if row.get("passed") is not None:
            found.setdefault(row["id"], []).append(bool(row["passed"]))
    return {task: statistics.fmean(own) for task, own in found.items()}


def _cost(row: Row) -> Any:
    return row["usage"]["cost_usd"] if row.get("usage") else None


def _mean(rows: Sequence[Row], value: Callable[[Row], Any]) -> float | None:
    known = [found for row in rows if (found := value(row)) is not None]
    return _rounded(statistics.fmean(known)) if known else None


def _share(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)
