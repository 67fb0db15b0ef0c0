"""What a benchmark has measured, as tables with small plots for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miyabi_cli.bench.comparing import level_of
from miyabi_cli.bench.document import Document
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.figures import UNKNOWN, dollars, milliseconds, number, share, share_with_interval, words_of
from miyabi_cli.report.streams import Streams
from miyabi_cli.report.tables import Column, Table, write_table

WIDTH = 40  # characters of the longest bar
MOST_ROWS = 200
MOST_CLASSES = 40
MOST_LATE = 0.1  # of the median first token
_TIMES = (
    ("ttft_ms", "first token", ("p50", "p99")),
    ("itl_ms", "between tokens", ("p50", "p99")),
    ("e2e_ms", "whole request", ("mean", "p50", "p90", "p99")),
)
_OF_CLASS = ("precision", "recall", "f1", "issues")
_LEFT_OUT = ("tasks", "trials", "passed", "pass_rate", "usage")  # of the figures below the headline
_SHARES = ("rate", "validity", "detection", "accuracy", "share", "f1", "precision", "recall", "agreement", "coverage")


def write_document(document: Document, streams: Streams) -> None:
    """Write a document's tables to the result's stream."""
    environment = document.environment
    told = [str(name) for name in map(environment.get, ("provider", "model", "server_version")) if name]
    streams.output.write(plain_text(f"bench {document.kind}: {', '.join(told) or 'no model'}") + "\n\n")
    if document.kind == "serve":
        write_table(rates_table(document.results), streams)
        write_table(times_table(document.results), streams)
        _write_plot(document.results, streams)
        _write_errors(document.results, streams)
        _write_objective(document.summary, streams)
    else:
        write_table(summary_table(document.summary), streams)
        if (classes := classes_table(document.summary)).rows:
            write_table(classes, streams)
        write_table(tasks_table(document.results), streams)
        _write_counts("failures", document.summary.get("failures") or {}, streams)
    streams.output.flush()


def rates_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each level of load got through."""
    columns = [Column("load", is_text=True)]
    columns += [Column(name) for name in ("requests", "failed", "tokens/s", "requests/min", "goodput")]
    return Table("Load", columns, [_rates_row(result) for result in results])


def times_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return how long requests took at each level of load."""
    columns = [Column("load", is_text=True)]
    columns += [Column(name, group) for _, group, statistics in _TIMES for name in statistics]
    return Table("Times, ms", columns, [_times_row(result) for result in results])


def late_levels(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return at which levels miyabi was so late itself that the times tell of this machine more than of the server."""
    found = []
    for result in results:
        spreads = [(result.get("generator") or {}).get(name) or {} for name in ("lag_ms", "loop_delay_ms")]
        late = max(spread.get("mean") or 0.0 for spread in spreads)
        first = (result["ttft_ms"] or {}).get("p50") or 0.0
        if late > MOST_LATE * first > 0:
            told = f"miyabi itself was late by {milliseconds(late)} ms on average"
            found.append(f"{_level(result)}: {told}: the machine that asks is too busy for these times")
    return found


def server_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the server itself told of each level: means of its own times, and how its prefix cache served."""
    columns = (Column("load", is_text=True), Column("by the server's own word", is_text=True), Column("mean"))
    return Table("Server", columns, [row for result in results for row in _server_rows(result)])


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return what all tasks together come to, the pass rate first."""
    rows = []
    if "pass_rate" in summary:
        rate = share_with_interval(summary["pass_rate"], summary.get("pass_rate_interval"))
        rows.append(
            ("pass rate", f"{rate} of {number(summary.get('tasks'))} tasks, {number(summary.get('trials'))} trials")
        )
    rows += [(f"pass@{k}", share_with_interval(one["value"], one["interval"])) for k, one in _pass_at(summary)]
    for name, value in summary.items():
        if (
            name not in _LEFT_OUT
            and not name.endswith(("_reason", "_interval"))
            and (value is None or isinstance(value, int | float))
        ):
            rows.append((words_of(name), figure(name, value)))
    return Table("Summary", (Column("figure", is_text=True), Column("value", is_text=True)), rows)


def classes_table(summary: Mapping[str, Any]) -> Table:
    """Return how well each class was told, and what its tasks were said to be; no rows where there are no classes."""
    classes, confusion = (_objects(summary.get(name)) for name in ("classes", "confusion"))
    said = [name for name in classes if name in confusion]
    columns = [Column("class", is_text=True), *map(Column, _OF_CLASS)]
    columns += [Column(name, "said to be") for name in said]
    return Table(
        "Classes",
        columns,
        [
            (
                name,
                *(figure(score, scores.get(score)) for score in _OF_CLASS),
                *(number(confusion.get(name, {}).get(other)) for other in said),
            )
            for name, scores in classes.items()
        ],
    )


def tasks_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Return what became of each task, all its trials on one row."""
    columns = [Column("task", is_text=True), Column("passed"), Column("why not", is_text=True)]
    columns += [Column("steps"), Column("tokens"), Column("USD"), Column("seconds")]
    trials: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        trials.setdefault(result["id"], []).append(result)
    rows = [_task_row(name, own) for name, own in list(trials.items())[:MOST_ROWS]]
    if len(trials) > MOST_ROWS:
        rows.append((f"and {len(trials) - MOST_ROWS} more", *[""] * (len(columns) - 1)))
    told = [place for place in range(len(columns)) if any(row[place] not in ("", UNKNOWN) for row in rows)]
    return Table("Tasks", [columns[place] for place in told], [[row[place] for place in told] for row in rows])


def figure(name: str, value: float | None) -> str:
    """Return a figure of a summary by what its name says that it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_usd"):
        return dollars(value)
    return share(value) if name.endswith(_SHARES) else number(value)


def _level(result: Mapping[str, Any]) -> str:
    """Return what a level is called for people: a trace's rate, which is measured, with three digits."""
    if result.get("trace_speed") is None:
        return level_of(result)
    return level_of({"rate": float(f"{result['rate']:.3g}")})


def _rates_row(result: Mapping[str, Any]) -> list[str]:
    good = result["goodput"]
    return [
        _level(result),
        number(result["requests"]),
        number(sum(result["errors"].values())),
        number(result["output_tokens_per_s"]),
        number(result["requests_per_min"]),
        share(good) if good is None or good <= 1 else number(good),
    ]


def _times_row(result: Mapping[str, Any]) -> list[str]:
    times = ((result[time] or {}).get(name) for time, _, statistics in _TIMES for name in statistics)
    return [_level(result), *map(milliseconds, times)]


def _objects(value: Any) -> dict[str, Mapping[str, Any]]:
    """Return the objects of an object in a document that a stranger may have written."""
    items = list(value.items())[:MOST_CLASSES] if isinstance(value, dict) else []
    return {name: one for name, one in items if isinstance(one, dict)}


def _server_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    server = result.get("server") or {}
    metrics = server.get("metrics") or {}
    told = {name: (times or {}).get("mean") for name, times in (server.get("reported") or {}).items()}
    for name, mean in {**told, **(metrics.get("means") or {})}.items():
        words = words_of(name.rpartition(":")[2].removesuffix("_ms"))
        yield _level(result), f"{words}, ms", milliseconds(mean)
    if metrics.get("prefix_cache_hit_rate") is not None:
        yield _level(result), "prefix cache hits", share(metrics["prefix_cache_hit_rate"])


def _task_row(name: str, trials: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    failures = {str(trial["failure"]): None for trial in trials if trial.get("failure")}
    usages = [trial["usage"] for trial in trials if trial.get("usage")]
    costs = [usage["cost_usd"] for usage in usages]
    return (
        name,
        f"{sum(trial.get('passed') is True for trial in trials)} of {len(trials)}",
        ", ".join(words_of(failure) for failure in failures),
        number(_sum(trials, "steps")),
        number(sum(usage["input_tokens"] + usage["output_tokens"] for usage in usages) if usages else None),
        dollars(sum(costs) if costs and None not in costs else None),
        number(_sum(trials, "seconds")),
    )


def _sum(trials: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [trial[name] for trial in trials if trial.get(name) is not None]
    return sum(known) if known else None


def _pass_at(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return pass@k for the k that say more than the pass rate does."""
    return [(k, one) for k, one in (summary.get("pass_at") or {}).items() if k != "1"]


def _write_plot(results: Sequence[Mapping[str, Any]], streams: Streams) -> None:
    """Draw how long whole requests took at each level: a bar to the median, and lighter on to the 99th percentile."""
    spreads = [(_level(result), result["e2e_ms"] or {}) for result in results]
    known = [(name, spread["p50"], spread["p99"]) for name, spread in spreads if spread.get("p99") is not None]
    longest = max((p99 for _, _, p99 in known), default=0)
    if not longest:
        return
    solid, light = ("█", "░") if streams.colored(streams.output) else ("#", "-")
    streams.output.write(f"Whole request, ms: {solid} to the median, {light} to the 99th percentile\n")
    width = max(len(name) for name, _, _ in known)
    for name, p50, p99 in known:
        middle, end = round(WIDTH * p50 / longest), round(WIDTH * p99 / longest)
        bar = solid * max(1, middle) + light * (end - max(1, middle))
        streams.output.write(f"{name.ljust(width)}  {bar.ljust(WIDTH)}  {milliseconds(p50)} to {milliseconds(p99)}\n")
    streams.output.write("\n")


def _write_errors(results: Sequence[Mapping[str, Any]], streams: Streams) -> None:
    for result in results:
        _write_counts(f"failed, {_level(result)}", result["errors"], streams)


def _write_counts(title: str, counts: Mapping[str, int], streams: Streams) -> None:
    if counts:
        told = ", ".join(f"{words_of(kind)} {count}" for kind, count in counts.items())
        streams.output.write(plain_text(f"{title}: {told}") + "\n")


def _write_objective(summary: Mapping[str, Any], streams: Streams) -> None:
    if summary.get("slo") is None:
        return
    lines = [f"objective {summary['slo']}: {'kept' if summary.get('passed') else 'not kept'}"]
    lines += [f"  {level}: {miss}" for level, missed in (summary.get("missed") or {}).items() for miss in missed]
    streams.output.writelines(plain_text(line, line[: len(line) - len(line.lstrip())]) + "\n" for line in lines)
