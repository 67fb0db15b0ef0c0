"""Sums over the ledger: what was asked of models in a span of days, grouped, and where the month is going."""

from __future__ import annotations

import calendar
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, get_args

from miyabi_cli.ledger.records import NANO
from miyabi_cli.ledger.store import Ledger

Grouping = Literal["day", "month", "provider", "model", "command", "repository", "run"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
_COLUMNS: Mapping[Grouping, str] = {grouping: grouping for grouping in GROUPINGS} | {"run": "run_id"}

_SUMS = """
COUNT(*) AS requests, COALESCE(SUM(error != ''), 0) AS failed, COALESCE(SUM(NOT settled), 0) AS open,
COALESCE(SUM(input_tokens), 0) AS input_tokens, COALESCE(SUM(cached_tokens), 0) AS cached_tokens,
COALESCE(SUM(output_tokens), 0) AS output_tokens, COALESCE(SUM(reasoning_tokens), 0) AS reasoning_tokens,
SUM({nano}) AS nano, COALESCE(SUM({nano} IS NULL), 0) AS unpriced, COALESCE(SUM(seconds), 0) AS seconds
""".format(nano="CASE WHEN settled THEN cost_nano WHEN reserved_tokens = 0 THEN reserved_nano END")


@dataclass(frozen=True, slots=True)
class Spending:
    """What the requests of one group came to.

    `cost_usd` is of those whose price was known, None where none was; `unpriced` counts the others. `failed` ended in
    an error; `open` are under way: they count with the most that they can cost. `seconds`: the sum of all.
    """

    key: str
    requests: int
    failed: int
    open: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Projection:
    """What this month has cost and what it will have at its end if each day costs as much as those so far.

    Both are None where no price was known, and of what had one else.
    """

    month: str
    spent_usd: float | None
    projected_usd: float | None
    days_gone: float
    days: int


def spending(
    ledger: Ledger, by: Grouping, *, since: date | None = None, until: date | None = None
) -> tuple[Spending, ...]:
    """Return the groups of the requests from the day `since` to the day `until`, both with them; days are UTC's.

    Days and months come in their order, other groups by cost and then by requests, the largest first.
    """
    column = _COLUMNS[by]
    where, values = _span(since, until)
    statement = f"SELECT {column} AS key, {_SUMS} FROM requests {where} GROUP BY {column} ORDER BY {column}"  # noqa: S608
    groups = [_spending(row) for row in ledger.rows(statement, values)]
    if by not in ("day", "month"):
        groups.sort(key=lambda group: (-(group.cost_usd or 0.0), -group.requests))
    return tuple(groups)


def total(ledger: Ledger, *, since: date | None = None, until: date | None = None) -> Spending:
    """Return the sum of all requests of a span of days."""
    where, values = _span(since, until)
    statement = f"SELECT 'total' AS key, {_SUMS} FROM requests {where}"  # noqa: S608
    found = ledger.rows(statement, values)
    return _spending(found[0]) if found else Spending("total", 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)


def projection(ledger: Ledger, now: datetime) -> Projection:
    """Return where this month is going; on its first hours a day is taken to be over, so that it is no wild guess."""
    moment = now.astimezone(UTC)
    days = calendar.monthrange(moment.year, moment.month)[1]
    gone = moment.day - 1 + (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86_400
    first = date(moment.year, moment.month, 1)
    spent = total(ledger, since=first, until=first.replace(day=days)).cost_usd
    projected = None if spent is None else spent / max(1.0, gone) * days
    return Projection(f"{first:%Y-%m}", spent, projected, round(gone, 3), days)


def _span(since: date | None, until: date | None) -> tuple[str, tuple[str, ...]]:
    bounds = [("day >= ?", since), ("day <= ?", until)]
    wanted = [(text, day.isoformat()) for text, day in bounds if day is not None]
    where = "WHERE " + " AND ".join(text for text, _ in wanted) if wanted else ""
    return where, tuple(value for _, value in wanted)


def _spending(row: sqlite3.Row) -> Spending:
    counts = {name: row[name] for name in row.keys() if name not in ("nano", "seconds")}  # noqa: SIM118
    cost = None if row["unpriced"] and row["nano"] is None else (row["nano"] or 0) / NANO
    return Spending(**counts, cost_usd=cost, seconds=round(row["seconds"], 3))
