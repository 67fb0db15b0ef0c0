"""`miyabi usage`: what requests to models have cost."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from typing import Annotated, Literal

import typer

from miyabi_cli.commands import flags
from miyabi_cli.errors import UsageError

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi usage
  miyabi usage --by model --since 2026-01-01
  miyabi usage --by run --format csv -o usage.csv
"""

Day = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The first day; default: of this month.")]


def usage(
    context: typer.Context,
    by: Annotated[
        Literal["day", "month", "provider", "model", "command", "repository", "run"], typer.Option(help="The rows.")
    ] = "day",
    since: Day = None,
    until: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day; default: today.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="From the first day on.")] = False,
    format: Annotated[Literal["text", "json", "csv"], typer.Option("--format", "-f", help="Of the output.")] = "text",
    output: flags.Output = None,
    config: flags.Config = None,
) -> None:
    """Show what requests to models have cost: tokens, US dollars, and where the month is going.

    Every request of every command is in the ledger, with its time in UTC. Days of this month are shown unless --since,
    --until or --all say otherwise. Your own servers cost nothing; prices can be set under prices in the settings.
    """
    import contextlib

    from miyabi_cli.ledger.store import FILE, Ledger
    from miyabi_cli.ledger.summary import projection, spending, total
    from miyabi_cli.places import data_dir
    from miyabi_cli.report.usage import write_csv, write_json, write_table
    from miyabi_cli.settings.sources import load_settings

    if all_ and (since or until):
        raise UsageError("--all and --since or --until exclude each other")
    now = datetime.now(UTC)
    first = _day("--since", since) or (None if all_ or until else now.date().replace(day=1))
    last = _day("--until", until)
    if first and last and first > last:
        raise UsageError(f"--since {first} is after --until {last}")
    # a cap may be a repository's own, but the month is all repositories' together
    budget = load_settings(flags={}, environ=os.environ, repository=None, config=config).budget.monthly_usd
    with contextlib.closing(Ledger(data_dir() / FILE)) as ledger:
        ledger.settle_dead()
        rows = spending(ledger, by, since=first, until=last)
        whole, month = total(ledger, since=first, until=last), projection(ledger, now)
    with context.obj.streams(output) as streams:
        if format == "csv":
            write_csv(by, rows, streams.output)
        else:
            write = write_json if format == "json" else write_table
            write(by, rows, whole, month, budget, streams.output)


def _day(flag: str, text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise UsageError(f"{flag} {text} is no day", hint="a day is YYYY-MM-DD") from None
