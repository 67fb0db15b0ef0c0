"""The charts of benchmarks: latency by load, throughput, pass rates, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from miyabi_cli.bench.comparing import level_of
from miyabi_cli.bench.document import Document
from miyabi_cli.bench.scoring import interval_of
from miyabi_cli.bench.statistics import wilson_interval
from miyabi_cli.report.figures import dollars, milliseconds, number, share, share_with_interval
from miyabi_cli.report.html.charts import MOST_POINTS, Chart, Reading, Series, chart_by_load, chart_of_rows, scatter

SECOND = 1000.0
LOADS = {"concurrency": "requests in parallel", "rate": "requests a second"}
TIMES = {"ttft_ms": "First token", "itl_ms": "Between tokens", "e2e_ms": "Whole request"}
EFFORTS = ("low", "medium", "high")
COLORS = 4

Named = Sequence[tuple[str, Document]]


@dataclass(frozen=True, slots=True)
class Group:
    """The trials of one document with one model and one effort."""

    name: str
    trials: Sequence[Mapping[str, Any]]

    def shares(self) -> list[float]:
        """Return the share of each task's trials that passed."""
        tasks: dict[str, list[bool]] = {}
        for trial in self.trials:
            if trial.get("passed") is not None:
                tasks.setdefault(trial["id"], []).append(trial["passed"])
        return [fmean(passed) for passed in tasks.values()]


def serve_charts(documents: Named) -> Iterator[Chart]:
    """Yield times and throughput by load, one set for each way of making load."""
    for load, axis in LOADS.items():
        levels = [(name, [one for one in document.results if one.get(load)]) for name, document in documents]
        if not any(results for _, results in levels):
            continue
        for time, title in TIMES.items():
            chart = _times_chart(title, axis, time, load, levels)
            if any(one.marks for one in chart.series):  # no time between tokens where answers come in one piece
                yield chart
        series = [
            Series(name or "all requests", list(_rates(load, results)), place % COLORS, place)
            for place, (name, results) in enumerate(levels)
        ]
        yield chart_by_load("Throughput", axis, "output tokens a second", series)


def task_charts(documents: Named) -> Iterator[Chart]:
    """Yield pass rates by effort, their cost, and what more trials and other languages make of them."""
    groups = [group for named in documents for group in _groups(*named)]
    groups = [group for group in groups if group.shares()][:MOST_POINTS]
    if not groups:
        return
    yield chart_of_rows(
        "Pass rate by effort", "tasks passed", [_rate_row(group, place) for place, group in enumerate(groups)]
    )
    if any(_mean_usage(group, "input_tokens", "output_tokens") for group in groups):
        yield _cost_chart(groups)
    series = [
        Series(name or "all tasks", list(_pass_at(document.summary)), place % COLORS, place)
        for place, (name, document) in enumerate(documents)
    ]
    if any(len(one.readings) > 1 for one in series):
        yield chart_by_load("Passed in k trials", "k", "tasks passed, %", series)
    languages = [series for place, named in enumerate(documents) for series in _languages(place, *named)]
    if len(languages) > len(documents):
        yield chart_of_rows(
            "Pass rate by language", "trials passed", sorted(languages, key=lambda one: one.name)[:MOST_POINTS]
        )


def _times_chart(
    title: str, axis: str, time: str, load: str, levels: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
) -> Chart:
    statistics = ("p50", "p90", "p99") if len(levels) == 1 else ("p50", "p99")
    highest = max(((one[time] or {}).get("p99") or 0 for _, results in levels for one in results), default=0)
    unit, factor = ("s", SECOND) if highest >= 2 * SECOND else ("ms", 1.0)
    series = []
    for place, (name, results) in enumerate(levels):
        for number_, statistic in enumerate(statistics):
            readings = [reading for one in results if (reading := _reading(one, time, statistic, load, factor))]
            shown = f"{name} {statistic}".strip()
            shape = place * len(statistics) + number_
            series.append(Series(shown, readings, (number_ if len(levels) == 1 else place) % COLORS, shape % COLORS))
    return chart_by_load(title, axis, unit, series)


def _reading(result: Mapping[str, Any], time: str, statistic: str, load: str, factor: float) -> Reading | None:
    spread = result[time] or {}
    value = spread.get(statistic)
    if value is None:
        return None
    interval = (spread.get("intervals") or {}).get(statistic) or (None, None)
    low, high = (None if end is None else end / factor for end in interval)
    label = f"{level_of(result)}, {statistic}: {milliseconds(value)} ms"
    return Reading(float(result[load]), value / factor, low, high, label)


def _rates(load: str, results: Sequence[Mapping[str, Any]]) -> Iterator[Reading]:
    for result in results:
        rate = result["output_tokens_per_s"]
        if rate is not None:
            told = f"{level_of(result)}: {number(rate)} tokens/s, {number(result['requests_per_min'])} requests/min"
            yield Reading(float(result[load]), rate, None, None, told)


def _groups(name: str, document: Document) -> list[Group]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for trial in document.results:
        effort = trial.get("effort") or document.settings.get("effort") or ""
        model = trial.get("model") or document.environment.get("model") or document.environment.get("provider") or ""
        found.setdefault((str(model), str(effort)), []).append(trial)
    keys = sorted(found, key=lambda key: (key[0], EFFORTS.index(key[1]) if key[1] in EFFORTS else -1, key[1]))
    return [Group(", ".join(filter(None, (name, *key))) or "all tasks", found[key]) for key in keys]


def _rate_row(group: Group, place: int) -> Series:
    shares = group.shares()
    rate, interval = fmean(shares), interval_of(shares)
    low, high = interval or (None, None)
    label = f"{group.name}: {share_with_interval(rate, interval)} of {len(shares)} tasks"
    return Series(group.name, [Reading(0.0, rate, low, high, label)], place % COLORS, place)


def _cost_chart(groups: Sequence[Group]) -> Chart:
    """Return cost against pass rate; in tokens where a price is not known, or all is free."""
    costs = [_mean_usage(group, "cost_usd") for group in groups]
    in_dollars = None not in costs and any(costs)
    series = []
    for place, (group, cost) in enumerate(zip(groups, costs, strict=True)):
        x = cost if in_dollars else _mean_usage(group, "input_tokens", "output_tokens")
        shares = group.shares()
        if x is not None:
            low, high = interval_of(shares) or (None, None)
            spent = f"{dollars(x)} USD" if in_dollars else f"{number(x)} tokens"
            label = f"{group.name}: {share(fmean(shares))} at {spent} a trial"
            series.append(Series(group.name, [Reading(x, fmean(shares), low, high, label)], place % COLORS, place))
    return scatter("Cost against pass rate", f"{'USD' if in_dollars else 'tokens'} for a trial", "tasks passed", series)


def _mean_usage(group: Group, *names: str) -> float | None:
    usages = [trial["usage"] for trial in group.trials if trial.get("usage")]
    if not usages or any(usage[name] is None for usage in usages for name in names):
        return None
    return fmean(sum(usage[name] for name in names) for usage in usages)


def _pass_at(summary: Mapping[str, Any]) -> Iterator[Reading]:
    known = {int(k): one for k, one in (summary.get("pass_at") or {}).items() if k.isdecimal() and 0 < len(k) < 6}
    for k in sorted(known)[:MOST_POINTS]:
        value, interval = known[k]["value"], known[k]["interval"] or (None, None)
        if k and value is not None:
            low, high = (None if end is None else 100 * end for end in interval)
            yield Reading(float(k), 100 * value, low, high, f"{k}: {share_with_interval(value, known[k]['interval'])}")


def _languages(place: int, name: str, document: Document) -> Iterator[Series]:
    tried: dict[str, list[bool]] = {}
    for trial in document.results:
        if trial.get("language") and trial.get("passed") is not None:
            tried.setdefault(str(trial["language"]), []).append(trial["passed"])
    for language, passed in sorted(tried.items()):
        rate, interval = fmean(passed), wilson_interval(sum(passed), len(passed))
        low, high = interval or (None, None)
        shown = ", ".join(filter(None, (language, name)))
        label = f"{shown}: {share_with_interval(rate, interval)} of {len(passed)} trials"
        yield Series(shown, [Reading(0.0, rate, low, high, label)], place % COLORS, place)
