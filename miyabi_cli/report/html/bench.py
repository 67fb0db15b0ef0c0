"""The page of a benchmark, or of two that are compared: charts, tables, and what it all ran on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from miyabi_cli.bench.comparing import Comparison, level_of
from miyabi_cli.bench.document import Document
from miyabi_cli.report import bench, comparing
from miyabi_cli.report.display import counted, plain_text
from miyabi_cli.report.figures import UNKNOWN, bytes_name, dollars, milliseconds, number, share, words_of
from miyabi_cli.report.html.bench_charts import serve_charts, task_charts
from miyabi_cli.report.html.charts import Chart
from miyabi_cli.report.html.templating import open_templates, styles
from miyabi_cli.report.tables import Column, Table, groups_of

TEMPLATE = "bench.html"
STYLES = ("style.css", "bench.css")
LONGEST = 2000  # characters of a value
MOST_ROWS, MOST_FIGURES = 500, 5000

Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tile:
    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class BenchPage:
    """What the template shows; `verdict` is "" where nothing was asked that could be kept or missed."""

    kind: str
    title: str
    headline: str
    started: str
    verdict: str
    is_good: bool
    tiles: Sequence[Tile]
    charts: Sequence[Chart]
    tables: Sequence[Table]
    remarks: Sequence[str]
    facts: Sequence[tuple[str, Sequence[Fact]]]


def render_documents(
    documents: Sequence[tuple[str, Document]], comparison: Comparison | None = None, fail_on: float | None = None
) -> bytes:
    """Return the page of a document, or of two that are compared, in UTF-8; of two the names are shown."""
    if comparison is None:
        page = _page_of_one(documents[0][1])
    else:
        page = _page_of_two(_short_names(documents), comparison, fail_on)
    environment = open_templates()
    environment.globals["groups_of"] = groups_of
    html = environment.get_template(TEMPLATE).render(page=page, **styles(*STYLES))
    return html.encode("utf-8", "replace")


def _page_of_one(document: Document) -> BenchPage:
    is_load = document.kind == "serve"
    models = [document.environment.get("model"), *(result.get("model") for result in document.results[:1])]
    model = plain_text(next(filter(None, models), "no model"))
    verdict, is_good = _verdict(document)
    return BenchPage(
        kind=document.kind,
        title=f"bench {document.kind}: {model}",
        headline=f"{model}{' under load' if is_load else ''}",
        started=str(document.environment.get("started") or ""),
        verdict=verdict,
        is_good=is_good,
        tiles=list(_load_tiles(document.results) if is_load else _task_tiles(document.summary)),
        charts=list(serve_charts([("", document)]) if is_load else task_charts([("", document)])),
        tables=[table for table in _tables(document) if table.rows],
        remarks=[*_missed(document), *_late(document)],
        facts=[("Environment", environment_facts(document.environment)), ("Settings", _settings(document.settings))],
    )


def _page_of_two(documents: Sequence[tuple[str, Document]], comparison: Comparison, fail_on: float | None) -> BenchPage:
    charts = serve_charts(documents) if comparison.kind == "serve" else task_charts(documents)
    found = comparing.regressed(comparison, fail_on)
    names = " and ".join(name for name, _ in documents)
    table = comparing.comparison_table(comparison, fail_on)
    verdict = f"{len(found)} regressed" if found else "nothing regressed"
    facts = [
        (f"{name}: {part}", facts)
        for name, document in documents
        for part, facts in (
            ("environment", environment_facts(document.environment)),
            ("settings", _settings(document.settings)),
        )
    ]
    return BenchPage(
        kind=f"compare, {comparison.kind}",
        title=f"bench compare: {names}",
        headline=names,
        started="",
        verdict=verdict,
        is_good=not found,
        tiles=list(_comparison_tiles(comparison)),
        charts=list(charts),
        tables=[replace(table, rows=table.rows[:MOST_FIGURES])],
        remarks=comparing.remarks(comparison, fail_on),
        facts=facts,
    )


def environment_facts(environment: Mapping[str, Any]) -> list[Fact]:
    """Return what a benchmark ran on, in words."""
    hardware = environment.get("hardware") or {}
    prices = environment.get("prices")
    facts = [
        ("Model", environment.get("model")),
        ("Provider", environment.get("provider")),
        ("Endpoint", environment.get("endpoint")),
        ("Server version", environment.get("server_version")),
        ("Prices", _prices(prices) if prices else None),
        ("Processor", _processor(hardware)),
        ("GPU", "; ".join(map(_gpu, hardware.get("gpus") or ()))),
        ("System", environment.get("os")),
        ("Python", environment.get("python")),
        ("miyabi", environment.get("miyabi")),
        ("Commit", environment.get("commit")),
        ("Seeds", ", ".join(map(str, environment.get("seeds") or ()))),
        ("Command", " ".join(["miyabi", *environment["flags"]]) if environment.get("flags") else None),
    ]
    return [(name, _cut(str(value))) for name, value in facts if value]


def _load_tiles(results: Sequence[Mapping[str, Any]]) -> Iterator[Tile]:
    answered = [result for result in results if (result["e2e_ms"] or {}).get("p50") is not None]
    if answered:
        first, last = answered[0], answered[-1]
        if (first["ttft_ms"] or {}).get("p50") is not None:
            yield Tile("First token, median", f"{milliseconds(first['ttft_ms']['p50'])} ms", level_of(first))
        if last["e2e_ms"].get("p99") is not None:
            yield Tile("Whole request, p99", f"{milliseconds(last['e2e_ms']['p99'])} ms", level_of(last))
        for name, title in (
            ("output_tokens_per_s", "Most tokens a second"),
            ("requests_per_min", "Most requests a minute"),
        ):
            best = max(answered, key=lambda result: result[name] or 0)
            yield Tile(title, number(best[name]), level_of(best))
    requests, failed = (sum(counts) for counts in zip(*map(_counts, results), strict=True)) if results else (0, 0)
    yield Tile("Failed requests", number(failed), f"of {number(requests)}")


def _task_tiles(summary: Mapping[str, Any]) -> Iterator[Tile]:
    if summary.get("pass_rate") is not None:
        interval = summary.get("pass_rate_interval")
        more = f"95 %: {100 * interval[0]:.0f} to {100 * interval[1]:.0f} %" if interval else ""
        yield Tile("Pass rate", share(summary["pass_rate"]), more)
    if "tasks" in summary:
        yield Tile("Tasks", number(summary["tasks"]), f"{number(summary.get('trials'))} trials")
    known = (
        ("cost_per_solved_usd", "USD for a solved task", dollars),
        ("tokens_per_solved", "Tokens for a solved task", number),
        ("lint_clean_rate", "Lint-clean patches", share),
        ("review_score", "Mean review score", number),
        ("tool_call_validity", "Valid tool calls", share),
        ("detection", "Detected", share),
        ("false_alarms_per_100_lines", "False alarms in 100 lines", number),
    )
    for name, title, shown in known:
        if isinstance(summary.get(name), int | float):
            yield Tile(title, shown(summary[name]))


def _comparison_tiles(comparison: Comparison) -> Iterator[Tile]:
    noun = "levels" if comparison.kind == "serve" else "tasks"
    alone = len(comparison.only_first) + len(comparison.only_second)
    yield Tile(f"Common {noun}", number(len(comparison.matched)), f"{alone} in one alone" if alone else "")
    for verdict, title in (("worse", "Figures worse"), ("better", "Figures better"), ("same", "No difference seen")):
        yield Tile(title, number(sum(change.verdict == verdict for change in comparison.changes)))
    if comparison.kind != "serve":
        yield Tile("Tasks lost", number(len(comparison.lost)), f"{len(comparison.won)} won")


def _tables(document: Document) -> Iterator[Table]:
    if document.kind == "serve":
        yield bench.rates_table(document.results[:MOST_ROWS])
        yield bench.times_table(document.results[:MOST_ROWS])
        counts = [
            (level_of(one), words_of(kind), number(n)) for one in document.results for kind, n in one["errors"].items()
        ]
        columns = (Column("load", is_text=True), Column("what failed", is_text=True), Column("requests"))
        yield Table("Errors", columns, counts[:MOST_ROWS])
        server = bench.server_table(document.results)
        yield replace(server, rows=server.rows[:MOST_ROWS])
        return
    yield bench.summary_table(document.summary)
    yield bench.classes_table(document.summary)
    failures = document.summary.get("failures") or {}
    rows = [(words_of(kind), number(count)) for kind, count in failures.items()]
    yield Table("Failures", (Column("why a trial did not pass", is_text=True), Column("trials")), rows[:MOST_ROWS])
    yield bench.tasks_table(document.results)


def _verdict(document: Document) -> tuple[str, bool]:
    slo = document.summary.get("slo") if document.kind == "serve" else None
    is_kept = document.summary.get("passed") is True
    return (f"objective {plain_text(slo)} {'kept' if is_kept else 'not kept'}", is_kept) if slo else ("", True)


def _missed(document: Document) -> list[str]:
    missed = document.summary.get("missed") or {} if document.kind == "serve" else {}
    return [f"{level}: {miss}" for level, misses in missed.items() for miss in misses]


def _late(document: Document) -> list[str]:
    return bench.late_levels(document.results) if document.kind == "serve" else []


def _settings(settings: Mapping[str, Any]) -> list[Fact]:
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return [(words_of(name), _cut(value)) for name, value in told.items() if value not in ("null", "[]", "{}", "")]


def _processor(hardware: Mapping[str, Any]) -> str:
    parts = [str(hardware.get("processor") or "")]
    if hardware.get("cores"):
        parts.append(f"{counted(hardware['cores'], 'core')} for miyabi")
    if hardware.get("memory_bytes"):
        parts.append(f"{bytes_name(hardware['memory_bytes'])} of memory")
    return ", ".join(filter(None, parts))


def _gpu(gpu: Mapping[str, Any]) -> str:
    driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
    return f"{gpu['name']}, {bytes_name(gpu.get('memory_bytes'))}{driver}"


def _prices(prices: Mapping[str, Any]) -> str:
    names = (("input", "input"), ("cached_input", "cached input"), ("output", "output"))
    rates = ", ".join(
        f"{said} {UNKNOWN if prices.get(name) is None else format(prices[name], 'g')}" for name, said in names
    )
    since = f", {prices['since']}" if prices.get("since") else ""
    return f"{rates} USD for a million tokens ({prices.get('source')}{since})"


def _counts(result: Mapping[str, Any]) -> tuple[int, int]:
    return result["requests"], sum(result["errors"].values())


def _short_names(documents: Sequence[tuple[str, Document]]) -> list[tuple[str, Document]]:
    """Return the documents by the last parts of their paths, where these differ."""
    names = [PurePath(name).name for name, _ in documents]
    if len(set(names)) < len(names):
        names = [name for name, _ in documents]
    return [(plain_text(name), document) for name, (_, document) in zip(names, documents, strict=True)]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
