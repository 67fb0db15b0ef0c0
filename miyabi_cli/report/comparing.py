"""Two benchmarks side by side: as a table, as Markdown, and as the data of JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.bench.comparing import PERCENT, Change, Comparison
from miyabi_cli.bench.document import VERSION, Document
from miyabi_cli.report.bench import figure
from miyabi_cli.report.display import counted, plain_text
from miyabi_cli.report.figures import UNKNOWN, milliseconds, percent, share, words_of
from miyabi_cli.report.markdown import code
from miyabi_cli.report.streams import Streams
from miyabi_cli.report.tables import Column, Table, write_table

MOST_NAMES = 20
SHARES = ("errors", "goodput", "lint_clean")
TIMES = {"ttft_ms": "first token", "itl_ms": "between tokens", "e2e_ms": "whole request"}
SIGNS = {"better": "better", "worse": "worse", "same": "same", "different": "differs", "unclear": "can't tell"}
REGRESSION = "REGRESSION"
HEADINGS = ("load", "figure", "before", "after", "change", "difference, 95 %", "p", "verdict")


def comparison_data(
    comparison: Comparison, documents: Sequence[tuple[str, Document]], fail_on: float | None
) -> dict[str, Any]:
    """Return the object that schemas/bench_compare.json describes; `fail_on` is in percent, None for none."""
    regressions = regressed(comparison, fail_on)
    (first, before), (second, after) = documents
    return {
        "version": VERSION,
        "kind": "compare",
        "environment": {"first": dict(before.environment), "second": dict(after.environment)},
        "settings": {"compared": comparison.kind, "first": first, "second": second, "fail_on_regression": fail_on},
        "results": [_change_data(change, change in regressions) for change in comparison.changes],
        "summary": {
            "regressed": bool(regressions),
            "regressions": len(regressions),
            **{name: sum(one.verdict == name for one in comparison.changes) for name in SIGNS},
            "matched": list(comparison.matched),
            "only_in_first": list(comparison.only_first),
            "only_in_second": list(comparison.only_second),
            "lost": list(comparison.lost),
            "won": list(comparison.won),
            "warnings": list(comparison.warnings),
        },
    }


def regressed(comparison: Comparison, fail_on: float | None) -> tuple[Change, ...]:
    """Return the figures that are worse by more than so many percent; see `Change.is_regression`."""
    return tuple(change for change in comparison.changes if change.is_regression(fail_on))


def write_comparison(comparison: Comparison, fail_on: float | None, streams: Streams) -> None:
    """Write the table and what is to be said of it to the result's stream."""
    write_table(comparison_table(comparison, fail_on), streams)
    streams.output.writelines(plain_text(line) + "\n" for line in remarks(comparison, fail_on))
    streams.output.flush()


def comparison_table(comparison: Comparison, fail_on: float | None) -> Table:
    """Return all figures, those of loads with their level."""
    start = 0 if comparison.kind == "serve" else 1
    columns = [Column(name, is_text=name in ("load", "figure", "verdict")) for name in HEADINGS[start:]]
    return Table("Compared", columns, [cells(change, fail_on)[start:] for change in shown(comparison)])


def comparison_markdown(comparison: Comparison, fail_on: float | None) -> str:
    """Return the comparison as GitHub shows it; what a document says stands as code."""
    start = 0 if comparison.kind == "serve" else 1
    lines = [f"### miyabi bench {comparison.kind}, compared", "", f"| {' | '.join(HEADINGS[start:])} |"]
    lines.append(f"|{'---|' * (len(HEADINGS) - start)}")
    for change in shown(comparison):
        row = list(cells(change, fail_on))
        row[1] = code(row[1])
        lines.append(f"| {' | '.join(row[start:])} |")
    lines += ["", *(f"- {code(line, 2000)}" for line in remarks(comparison, fail_on))]
    return "\n".join(lines) + "\n"


def shown(comparison: Comparison) -> list[Change]:
    """Return the figures that either document has."""
    return [change for change in comparison.changes if change.before is not None or change.after is not None]


def cells(change: Change, fail_on: float | None) -> tuple[str, ...]:
    """Return a figure's row, a cell for each of HEADINGS; `fail_on`: percent that make a regression."""
    interval, p_value = change.difference.interval, change.difference.p_value
    span = UNKNOWN
    if interval is not None and any(map(math.isfinite, interval)):
        low, high = ("+" * (end > 0) + _told(change, end) if math.isfinite(end) else UNKNOWN for end in interval)
        span = f"{low.removesuffix(' %')} to {high}".replace(" %", " points")  # the change is in % of before
    return (
        change.group or "all",
        figure_words(change.figure),
        _told(change, change.before),
        _told(change, change.after),
        "from 0" if change.percent is not None and math.isinf(change.percent) else percent(change.percent),
        span,
        UNKNOWN if p_value is None else f"{p_value:.3f}" if p_value >= 0.001 else "<0.001",
        REGRESSION if change.is_regression(fail_on) else SIGNS[change.verdict],
    )


def figure_words(name: str) -> str:
    """Return the name of a compared figure in words: `ttft_ms p50` is `first token p50, ms`."""
    time, _, statistic = name.partition(" ")
    return f"{TIMES[time]} {statistic}, ms" if time in TIMES else words_of(name)


def remarks(comparison: Comparison, fail_on: float | None) -> list[str]:
    """Return what the table does not say: what was lost and won, what is missing, and why the figures may differ."""
    lines = [f"warning: {warning}" for warning in comparison.warnings]
    noun = "level" if comparison.kind == "serve" else "task"
    named = {
        "passed before, fails now": comparison.lost,
        "failed before, passes now": comparison.won,
        f"{noun}s in the first alone": comparison.only_first,
        f"{noun}s in the second alone": comparison.only_second,
    }
    lines += [f"{said}: {_names(names)}" for said, names in named.items() if names]
    if any(change.verdict == "unclear" for change in comparison.changes):
        lines.append("can't tell: the documents hold too little to tell a difference from chance")
    found = counted(len(regressed(comparison, fail_on)), "regression")
    chance = ", and not by chance" if fail_on is None else ""
    lines.append(f"{found} of more than {PERCENT if fail_on is None else fail_on:g} %{chance}")
    return lines


def _change_data(change: Change, is_regression: bool) -> dict[str, Any]:
    interval = change.difference.interval
    finite: Mapping[bool, Any] = {True: change.percent, False: None}
    return {
        "group": change.group,
        "figure": change.figure,
        "better": change.better,
        "before": change.before,
        "after": change.after,
        "change_percent": finite[change.percent is not None and math.isfinite(change.percent)],
        "interval": None if interval is None else [end if math.isfinite(end) else None for end in interval],
        "p_value": change.difference.p_value,
        "method": change.difference.method or None,
        "significant": change.difference.is_significant,
        "verdict": change.verdict,
        "regression": is_regression,
    }


def _told(change: Change, value: float | None) -> str:
    name = change.figure.partition(" ")[0]
    if value is None:
        return UNKNOWN
    sign, size = "-" if value < 0 else "", abs(value)
    if name.endswith("_ms"):
        return sign + milliseconds(size)
    return sign + (share(size) if name in SHARES and size <= 1 else figure(name, size))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
