"""Tables for people: columns aligned by spaces, with colours where the stream has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from miyabi_cli.report.display import plain_text
from miyabi_cli.report.streams import Streams

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """`group` stands above neighbours that share it; figures stand at the right."""

    name: str
    group: str = ""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


def write_table(table: Table, streams: Streams) -> None:
    """Write a table to the result's stream; no cell has more than one line, or steers the terminal."""
    cells = [[plain_text(cell) for cell in row] for row in table.rows]
    names = [column.name for column in table.columns]
    widths = [max(len(row[place]) for row in [names, *cells]) for place in range(len(names))]
    console = streams.console(streams.output)
    console.print(table.title, style="bold", soft_wrap=True)
    if any(column.group for column in table.columns):
        console.print(_group_line(table.columns, widths), style="dim", soft_wrap=True)
    console.print(_line(names, widths, table.columns), style="dim", soft_wrap=True)
    for row in cells:
        console.print(_line(row, widths, table.columns), soft_wrap=True)
    console.print()


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    aligned = (
        cell.ljust(width) if column.is_text else cell.rjust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    )
    return GAP.join(aligned).rstrip()


def _group_line(columns: Sequence[Column], widths: list[int]) -> str:
    """Return the groups' names, each over its columns; a group too narrow for its name widens its last column."""
    parts, place = [], 0
    for group, span in groups_of(columns):
        width = sum(widths[place : place + span]) + len(GAP) * (span - 1)
        widths[place + span - 1] += max(0, len(group) - width)
        parts.append(group.center(max(width, len(group))))
        place += span
    return GAP.join(parts).rstrip()


def groups_of(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Return the groups above columns, and how many columns each has."""
    return [(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)]
