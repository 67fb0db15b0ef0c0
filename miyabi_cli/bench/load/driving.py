"""The loops that send a load, closed and open, and what they show of their own lateness."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from miyabi_cli.bench.load.samples import Sample, now

TICK_SECONDS = 0.02
MOST_OPEN = 20_000  # requests of an open loop that may be on their way: past that the server has given up

Ask = Callable[[float], Awaitable[Sample]]  # sends a request that is due at a moment
Source = Callable[[], Awaitable[Ask | None]]  # gives the next request, None where none may be sent any more


@dataclass(slots=True)
class Driven:
    """What a loop has measured. `ticks`: how late the event loop came to a timer, in seconds; `unfinished`: requests
    that were on their way when it was interrupted.
    """

    samples: list[Sample] = field(default_factory=list)
    ticks: array[float] = field(default_factory=lambda: array("d"))
    started: float = 0.0
    ended: float = 0.0
    unfinished: int = 0

    @property
    def seconds(self) -> float:
        return self.ended - self.started


async def drive_closed(
    driven: Driven, source: Source, *, concurrency: int, requests: int | None, seconds: float | None
) -> None:
    """Keep `concurrency` requests on their way, each following one that ended, until either bound is reached."""
    left = requests

    async def work() -> None:
        nonlocal left
        while left is None or left > 0:
            if seconds is not None and now() - driven.started >= seconds:
                return
            if left is not None:
                left -= 1
            if (ask := await source()) is None:
                return
            await _measured(driven, ask(now()))

    async with _watched(driven):
        await _all_of(work() for _ in range(concurrency if requests is None else min(concurrency, requests)))


async def drive_open(
    driven: Driven,
    source: Source,
    arrivals: Iterator[float],
    *,
    requests: int | None,
    seconds: float | None,
) -> None:
    """Send each request at its own time, whatever became of those before, until either bound is reached.

    A server that stalls is still sent what is due, and each request is measured from when it was due: what waits
    behind a stall is seen to have waited (Tene's coordinated omission).
    """
    running: set[asyncio.Task[None]] = set()
    async with _watched(driven):
        try:
            for number, moment in enumerate(arrivals):
                if (requests is not None and number >= requests) or (seconds is not None and moment >= seconds):
                    break
                due = driven.started + moment
                if (wait := due - now()) > 0:
                    await asyncio.sleep(wait)
                if (ask := await source()) is None:
                    break
                task = asyncio.ensure_future(_measured(driven, ask(due)))
                running.add(task)
                task.add_done_callback(running.discard)
                while len(running) >= MOST_OPEN:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if running:
                await asyncio.wait(running)
        finally:
            left = list(running)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _measured(driven: Driven, asked: Awaitable[Sample]) -> None:
    try:
        sample = await asked
    except asyncio.CancelledError:
        driven.unfinished += 1
        raise
    driven.samples.append(sample)
    driven.ended = max(driven.ended, sample.ended)


async def _all_of(works: Iterator[Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def _watched(driven: Driven) -> AsyncIterator[None]:
    """Measure how late timers come, and keep the collector of garbage from pausing what is measured.

    A pause takes tens of milliseconds once there are many objects. Cycles of a level are collected at its end.
    """
    ticker = asyncio.ensure_future(_tick(driven.ticks))
    gc.collect()
    gc.freeze()
    gc.disable()
    driven.started = driven.ended = now()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        ticker.cancel()


async def _tick(ticks: array[float]) -> None:
    while True:
        due = now() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        ticks.append(max(0.0, now() - due))


def allow_many_files() -> int:
    """Raise this process's limit on open files as far as it goes; return it: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
