"""Traces of real services: when requests came, and of how many tokens they and their answers were.

Read are Azure's CSV (TIMESTAMP, ContextTokens, GeneratedTokens; github.com/Azure/AzurePublicDataset) and Mooncake's
JSONL (timestamp in ms, input_length, output_length, hash_ids; github.com/kvcache-ai/Mooncake).
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from miyabi_cli.bench.load.files import lines_of
from miyabi_cli.errors import UsageError

MOST_TOKENS = 1_000_000  # of a prompt or an answer
MOST_BLOCKS = 10_000
BLOCK_TOKENS = 512  # of Mooncake's blocks: those of one id are the same text
HINT = "read are Azure's CSV (TIMESTAMP,ContextTokens,GeneratedTokens) and Mooncake's JSONL"


@dataclass(frozen=True, slots=True)
class Traced:
    """One request: when it came, in seconds, and its tokens; `blocks`: ids of its prompt's blocks of 512 tokens."""

    at: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(path: Path, most: int) -> list[Traced]:
    """Return the first `most` requests of a trace, in the order in which they came. Raises UsageError, MachineError."""
    lines = lines_of(path)
    first = next(lines, "")
    read = _mooncake if first.startswith("{") else _azure
    requests: list[Traced] = []
    try:
        for request in read(first, lines):
            requests.append(request)
            if len(requests) == most:
                break
    except (csv.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        line = len(requests) + (1 if first.startswith("{") else 2)
        raise UsageError(f"{path.name}, line {line}: no request of a trace: {error}"[:300], hint=HINT) from None
    if not requests:
        raise UsageError(f"{path.name} holds no requests", hint=HINT)
    return sorted(requests, key=lambda request: request.at)


def _azure(first: str, lines: Iterator[str]) -> Iterator[Traced]:
    names = next(csv.reader([first]), [])
    if not {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= set(names):
        raise ValueError("the heading is of another kind")
    for row in csv.DictReader(lines, names):
        # Seven digits stand behind the seconds' point; datetime reads six.
        moment = datetime.fromisoformat(row["TIMESTAMP"][:26])
        yield Traced(moment.timestamp(), _count(row["ContextTokens"]), _count(row["GeneratedTokens"]))


def _mooncake(first: str, lines: Iterator[str]) -> Iterator[Traced]:
    for line in itertools.chain([first], lines):
        row = json.loads(line)
        blocks = tuple(int(block) for block in row.get("hash_ids", ())[:MOST_BLOCKS])
        at = float(row["timestamp"]) / 1000
        if not 0 <= at < 1e9:
            raise ValueError("the timestamp is none")
        yield Traced(at, _count(row["input_length"]), _count(row["output_length"]), blocks)


def _count(value: object) -> int:
    count = int(str(value))
    if not 0 <= count <= MOST_TOKENS:
        raise ValueError(f"{count} is no number of tokens")
    return max(1, count)
