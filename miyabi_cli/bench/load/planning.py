"""What a user asks of a load, made into levels and prompts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.bench.load import prompts
from miyabi_cli.bench.load.measuring import Level, Plan
from miyabi_cli.bench.load.objectives import Objectives
from miyabi_cli.bench.load.prompts import Wish
from miyabi_cli.bench.load.traces import Traced, read_trace
from miyabi_cli.errors import UsageError

MOST_LEVELS = 50
MOST_PARALLEL = 10_000
HIGHEST_RATE = 10_000.0
MOST_TRACED = 100_000
LEAST_REQUESTS, ROUNDS, SECONDS = 20, 10, 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags of a load, as they were given; `slo` is what was read for --slo."""

    concurrency: str | None
    rate: str | None
    requests: int | None
    seconds: float | None
    input_tokens: int
    output_tokens: int
    shared_prefix: int
    prompts: Path | None
    trace: Path | None
    trace_speed: float
    warmup: int
    seed: int
    slo: Objectives | None


def plan_of(wanted: Wanted) -> tuple[Plan, Iterator[Wish]]:
    """Return the levels, each with its bounds, and the prompts, without end. Raises UsageError, MachineError."""
    if wanted.concurrency is not None and wanted.rate is not None:
        hint = "measure the closed loop (--concurrency) and the open one (--rate) one after the other"
        raise UsageError("--concurrency and --rate exclude each other", hint=hint)
    if wanted.prompts and wanted.trace:
        raise UsageError("--prompts and --trace exclude each other")
    traced = read_trace(wanted.trace, wanted.requests or MOST_TRACED) if wanted.trace else []
    levels = _levels(wanted, traced)
    requests = wanted.requests
    if requests is None and wanted.seconds is None and levels[0].speed is None:
        most = max(level.concurrency or 0 for level in levels)
        requests = max(LEAST_REQUESTS, ROUNDS * most) if most else None
    seconds = (
        SECONDS if requests is None and wanted.seconds is None and levels[0].rate and not traced else wanted.seconds
    )
    moments = tuple(one.at for one in traced)
    return Plan(levels, requests, seconds, wanted.warmup, wanted.seed, moments), _wishes(wanted, traced)


def _levels(wanted: Wanted, traced: Sequence[Traced]) -> tuple[Level, ...]:
    if wanted.rate is not None:
        rates = numbers(wanted.rate, "--rate", HIGHEST_RATE)
        return tuple(Level(rate=rate) for rate in rates)
    if wanted.concurrency is not None:
        counts = numbers(wanted.concurrency, "--concurrency", MOST_PARALLEL)
        if any(not count.is_integer() for count in counts):
            raise UsageError(f"--concurrency {wanted.concurrency} holds no whole numbers", hint="such as 1,10,50")
        return tuple(Level(concurrency=int(count)) for count in counts)
    if traced:
        seconds = max(traced[-1].at - traced[0].at, 1e-3)
        return (Level(rate=len(traced) / seconds * wanted.trace_speed, speed=wanted.trace_speed),)
    return (Level(concurrency=(wanted.slo.concurrency if wanted.slo else None) or 1),)


def numbers(text: str, flag: str, most: float) -> list[float]:
    """Return the numbers of a list such as `1,10,50`. Raises UsageError."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not 0 < len(found) <= MOST_LEVELS or not all(math.isfinite(one) and 0 < one <= most for one in found):
        raise UsageError(f"{flag} {text[:80]} is no list of numbers above 0 and up to {most:g}", hint="such as 1,10,50")
    return found


def _wishes(wanted: Wanted, traced: Sequence[Traced]) -> Iterator[Wish]:
    shared, seed = wanted.shared_prefix, wanted.seed
    if traced:
        return itertools.chain.from_iterable(prompts.traced(traced, shared, seed) for _ in itertools.repeat(None))
    if wanted.prompts:
        return itertools.cycle(prompts.read_prompts(wanted.prompts, wanted.output_tokens, shared, seed))
    return prompts.counted(wanted.input_tokens, wanted.output_tokens, shared, seed)
