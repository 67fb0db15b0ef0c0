"""What requests have cost, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from typing import TextIO

from miyabi_cli.ledger.summary import Projection, Spending
from miyabi_cli.report.display import counted, plain_text

VERSION = 1
_HEADINGS = ("requests", "failed", "input", "cached", "output", "cost USD")


def write_json(
    by: str, rows: Sequence[Spending], whole: Spending, month: Projection, budget_usd: float | None, output: TextIO
) -> None:
    """Write one object, as schemas/usage.json describes it."""
    data = {
        "version": VERSION,
        "by": by,
        "rows": [dataclasses.asdict(row) for row in rows],
        "total": dataclasses.asdict(whole),
        "month": {**dataclasses.asdict(month), "budget_usd": budget_usd},
    }
    output.write(json.dumps(data, indent=2) + "\n")


def write_csv(by: str, rows: Sequence[Spending], output: TextIO) -> None:
    """Write a line a group (RFC 4180), with a heading; a group's name never begins a formula of a spreadsheet."""
    names = [field.name for field in dataclasses.fields(Spending)]
    writer = csv.writer(output)
    writer.writerow([by, *names[1:]])
    for row in rows:
        key = f"'{row.key}" if row.key[:1] in ("=", "+", "-", "@", "\t", "\r") else row.key
        writer.writerow([key, *(getattr(row, name) for name in names[1:])])


def write_table(
    by: str, rows: Sequence[Spending], whole: Spending, month: Projection, budget_usd: float | None, output: TextIO
) -> None:
    """Write a table for people, and below it where the month is going."""
    table = [(by, *_HEADINGS), *(_cells(row) for row in rows), _cells(whole)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    for number, (name, *figures) in enumerate(table):
        if number in (1, len(table) - 1):
            output.write("-" * (sum(widths) + 2 * len(figures)) + "\n")
        aligned = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        output.write("  ".join((name.ljust(widths[0]), *aligned)) + "\n")
    if whole.unpriced:
        said = counted(whole.unpriced, "request")
        output.write(f"\n{said} had no known price, and no cost here: set it under prices in the settings\n")
    of_budget = f" of {budget_usd:g} USD" if budget_usd is not None else ""
    if month.spent_usd is None or month.projected_usd is None:
        output.write(f"\n{month.month}: no price is known of what was asked\n")
    else:
        spent, projected = f"{month.spent_usd:.4f} USD", f"{month.projected_usd:.2f} USD"
        output.write(f"\n{month.month}: {spent}{of_budget}; at this rate {projected}\n")


def _cells(row: Spending) -> tuple[str, ...]:
    cost = "unknown" if row.cost_usd is None else f"{row.cost_usd:.4f}{'+' if row.unpriced else ''}"
    tokens = (f"{count:,}" for count in (row.input_tokens, row.cached_tokens, row.output_tokens))
    return plain_text(row.key) or "-", f"{row.requests:,}", f"{row.failed:,}", *tokens, cost
