"""Two documents of one kind set side by side: what is better, what is worse, and what may be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from miyabi_cli.bench.circumstances import differing_circumstances, is_same_task, unlike_tasks, untold_tasks
from miyabi_cli.bench.document import Document
from miyabi_cli.bench.paired_figures import paired_figures
from miyabi_cli.bench.statistics import UNKNOWN, Difference, compare_intervals, compare_pairs, mcnemar, wilson_interval
from miyabi_cli.errors import UsageError

Better = Literal["lower", "higher", "neither"]
Verdict = Literal["better", "worse", "same", "different", "unclear"]

TIMES = ("ttft_ms", "itl_ms", "e2e_ms")
STATISTICS = ("mean", "p50", "p90", "p99")
RATES = ("output_tokens_per_s", "requests_per_min")
# What a kind of benchmark counts in `measures`; of others it is not known which way is better.
MEASURES: Mapping[str, Better] = {
    "comments_met": "higher",
    "anchors_valid": "higher",
    "false_alarms": "lower",
    "rejected_hits": "lower",
}
PERCENT = 5.0  # of many figures that are compared some differ a little
MOST_MEASURES = 40
_NO_NAMES: tuple[str, ...] = ()
Trials = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after: `group` is the level of load, or "" for all tasks together.

    `percent` is the change relative to before: None where there is nothing before or after, infinite from 0.
    """

    group: str
    figure: str
    better: Better
    before: float | None
    after: float | None
    difference: Difference = UNKNOWN

    @property
    def percent(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        change = self.after - self.before
        return 100 * change / abs(self.before) if self.before else math.copysign(math.inf, change) if change else 0.0

    @property
    def worse_percent(self) -> float:
        """How much worse it has become, in percent of before; negative where it is better."""
        change = self.percent or 0.0
        return {"lower": change, "higher": -change, "neither": 0.0}[self.better]

    @property
    def verdict(self) -> Verdict:
        """What is to be said of it; `unclear` where nothing tells whether it is chance."""
        if not self.percent:
            return "same"
        if not self.difference.is_significant:
            return "same" if self.difference.is_bounded else "unclear"
        return "different" if self.better == "neither" else "worse" if self.worse_percent > 0 else "better"

    def is_regression(self, percent: float | None) -> bool:
        """Say whether it is worse by more than `percent`, and not by chance as far as that can be told.

        Where nobody has named a percentage, PERCENT has to be passed, and chance ruled out; how long tasks took is the
        machine's as much.
        """
        if percent is None:
            is_plain = self.difference.is_significant is True and self.figure != "seconds"
            return is_plain and self.worse_percent > PERCENT
        return self.worse_percent > percent and self.difference.is_significant is not False


@dataclass(frozen=True, slots=True)
class Comparison:
    """`matched` levels or tasks are in both documents, the others in one; `lost` and `won` are tasks that only the
    first, or only the second, passed. `warnings` name circumstances that differ.
    """

    kind: str
    changes: tuple[Change, ...]
    matched: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    lost: tuple[str, ...]
    won: tuple[str, ...]
    warnings: tuple[str, ...]


def compare(first: Document, second: Document) -> Comparison:
    """Compare what two documents have in common. Raises UsageError for two kinds, where nothing is common, and where
    one of them has a result of no common task.
    """
    if first.kind != second.kind:
        message = f"a document of bench {first.kind} and one of bench {second.kind} can't be compared"
        raise UsageError(message, hint="name two documents of one kind")
    key = level_of if first.kind == "serve" else _task_of
    before, after = _grouped(first.results, key), _grouped(second.results, key)
    common = tuple(name for name in before if name in after)
    other = tuple(name for name in common if not is_same_task(before[name][0], after[name][0]))
    common = tuple(name for name in common if name not in set(other))
    if not common:
        what = "level of load" if first.kind == "serve" else "task"
        raise UsageError(f"the documents have no {what} in common", hint="measure the same ones in both")
    pairs = [(before[name], after[name]) for name in common]
    if first.kind == "serve":
        changes = [change for name in common for change in _level_changes(name, before[name][-1], after[name][-1])]
        lost, won = _NO_NAMES, _NO_NAMES
    else:
        changes = [*_task_changes(pairs), *_set_changes(first.kind, pairs)]
        lost, won = _turned(common, pairs)
    return Comparison(
        first.kind,
        tuple(changes),
        common,
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
        lost,
        won,
        (*unlike_tasks(other), *untold_tasks(first.kind, common, pairs), *differing_circumstances(first, second)),
    )


def level_of(result: Mapping[str, Any]) -> str:
    """Return what a level of load is called, which is also what it is matched by."""
    if result.get("concurrency") is not None:
        return f"{result['concurrency']} in parallel"
    return f"{result['rate']:g} a second"


def _task_of(result: Mapping[str, Any]) -> str:
    return str(result["id"])


def _grouped(results: Trials, key: Callable[[Mapping[str, Any]], str]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def _level_changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for time in TIMES:
        spreads = before.get(time) or {}, after.get(time) or {}
        for statistic in STATISTICS:
            values = [spread.get(statistic) for spread in spreads]
            ends = [_ends(spread, statistic) for spread in spreads]
            yield Change(name, f"{time} {statistic}", "lower", values[0], values[1], _by_intervals(values, ends))
    for rate in RATES:
        values = [result.get(rate) for result in (before, after)]
        ends = [_rate_ends(result, rate) for result in (before, after)]
        yield Change(name, rate, "higher", values[0], values[1], _by_intervals(values, ends))
    counts = [result["requests"] for result in (before, after)]
    failed = [sum(result["errors"].values()) for result in (before, after)]
    yield _share_change(name, "errors", "lower", failed, counts)
    good = [result.get("goodput") for result in (before, after)]
    if all(value is not None and value <= 1 for value in good):
        yield _share_change(
            name, "goodput", "higher", [round(v * n) for v, n in zip(good, counts, strict=True)], counts
        )
    else:
        yield Change(name, "goodput", "higher", good[0], good[1])


def _share_change(name: str, figure: str, better: Better, parts: Sequence[int], wholes: Sequence[int]) -> Change:
    values = [part / whole if whole else None for part, whole in zip(parts, wholes, strict=True)]
    ends = [wilson_interval(min(part, whole), whole) for part, whole in zip(parts, wholes, strict=True)]
    return Change(name, figure, better, values[0], values[1], _by_intervals(values, ends))


def _ends(spread: Mapping[str, Any], statistic: str) -> tuple[float, float] | None:
    """Return a figure's interval; a side that a sample was too small to bound is unbounded."""
    intervals = spread.get("intervals")
    if not intervals:
        return None
    low, high = intervals.get(statistic) or (None, None)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _rate_ends(result: Mapping[str, Any], rate: str) -> tuple[float, float] | None:
    """Return a rate's interval in a closed loop: what goes through is the requests under way by their mean time
    (Little 1961). In an open loop it is what is sent.
    """
    spread = result.get("e2e_ms") or {}
    value, mean, ends = result.get(rate), spread.get("mean"), _ends(spread, "mean")
    if result.get("concurrency") is None or value is None or not mean or ends is None:
        return None
    return (value * mean / ends[1] if ends[1] else 0.0), (value * mean / ends[0] if ends[0] > 0 else math.inf)


def _by_intervals(values: Sequence[float | None], ends: Sequence[tuple[float, float] | None]) -> Difference:
    (before, after), (first, second) = values, ends
    if before is None or after is None or first is None or second is None:
        return UNKNOWN
    return compare_intervals(before, first, after, second)


def _task_changes(pairs: Sequence[tuple[Trials, Trials]]) -> Iterator[Change]:
    yield _pass_change(pairs)
    yield _paired("lint_clean", "higher", pairs, lambda trial: trial.get("lint_clean"))
    yield _paired("review_score", "higher", pairs, lambda trial: trial.get("review_score"))
    yield _paired("cost_usd", "lower", pairs, lambda trial: (trial.get("usage") or {}).get("cost_usd"))
    yield _paired("tokens", "lower", pairs, _tokens)
    yield _paired("seconds", "lower", pairs, lambda trial: trial.get("seconds"))
    yield _paired("steps", "neither", pairs, lambda trial: trial.get("steps"))
    names = {name: value for sides in pairs for side in sides for one in side for name, value in _measures(one).items()}
    for name, value in list(names.items())[:MOST_MEASURES]:
        better: Better = "higher" if isinstance(value, bool) else MEASURES.get(name, "neither")
        yield _paired(name, better, pairs, lambda trial, name=name: _measures(trial).get(name))  # type: ignore[misc]


def _set_changes(kind: str, pairs: Sequence[tuple[Trials, Trials]]) -> Iterator[Change]:
    """Compare what is no mean of the tasks' own figures, such as F1."""
    for name, better, before, after, difference in paired_figures(kind, [(a[0], b[0]) for a, b in pairs]):
        yield Change("", name, better, before, after, difference)


def _pass_change(pairs: Sequence[tuple[Trials, Trials]]) -> Change:
    """Compare pass rates: one trial a task exactly, several by the tasks' shares, which are independent."""
    change = _paired("pass_rate", "higher", pairs, lambda trial: trial.get("passed"))
    if any(len(side) > 1 for sides in pairs for side in sides):
        return change
    told = [(a[0].get("passed"), b[0].get("passed")) for a, b in pairs]
    known = [(a, b) for a, b in told if a is not None and b is not None]
    counts = (known.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    return Change("", "pass_rate", "higher", change.before, change.after, mcnemar(*counts))


def _paired(
    figure: str,
    better: Better,
    pairs: Sequence[tuple[Trials, Trials]],
    value: Callable[[Mapping[str, Any]], float | None],
) -> Change:
    """Compare a figure's mean over the tasks of which both sides tell it."""
    means = [[_mean(trials, value) for trials in sides] for sides in pairs]
    known = [(before, after) for before, after in means if before is not None and after is not None]
    if not known:
        return Change("", figure, better, None, None)
    before, after = (fmean(side) for side in zip(*known, strict=True))
    return Change("", figure, better, before, after, compare_pairs([after - before for before, after in known]))


def _mean(trials: Trials, value: Callable[[Mapping[str, Any]], float | None]) -> float | None:
    known = [float(found) for trial in trials if (found := value(trial)) is not None]
    return fmean(known) if known else None


def _tokens(trial: Mapping[str, Any]) -> float | None:
    usage = trial.get("usage")
    return usage["input_tokens"] + usage["output_tokens"] if usage else None


def _measures(trial: Mapping[str, Any]) -> Mapping[str, Any]:
    return trial.get("measures") or {}


def _turned(names: Sequence[str], pairs: Sequence[tuple[Trials, Trials]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tasks that pass less often after, and those that pass more often."""
    shares = [[_mean(trials, lambda trial: trial.get("passed")) for trials in sides] for sides in pairs]
    told = [(name, a, b) for name, (a, b) in zip(names, shares, strict=True) if a is not None and b is not None]
    return tuple(name for name, a, b in told if b < a), tuple(name for name, a, b in told if b > a)
