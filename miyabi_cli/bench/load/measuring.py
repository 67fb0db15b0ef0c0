"""One server under a plan of loads: level by level, with what it refuses learned and its own metrics beside."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import h11

from miyabi_cli.bench.load import arrivals
from miyabi_cli.bench.load.connections import NO_CONNECTION, Pool
from miyabi_cli.bench.load.drafts import Order, Route, Style, draft, reader_of
from miyabi_cli.bench.load.driving import Ask, Driven, drive_closed, drive_open
from miyabi_cli.bench.load.levels import result_of
from miyabi_cli.bench.load.objectives import Objectives
from miyabi_cli.bench.load.prompts import Wish
from miyabi_cli.bench.load.samples import Sample
from miyabi_cli.bench.load.server_metrics import growth, told_times
from miyabi_cli.bench.load.spending import Spending
from miyabi_cli.errors import ProviderError, ProviderUnreachable

# What a server refuses that does not know a route or an option, and what the project's own wires may learn from.
LEARNT_FROM = frozenset(f"http_{status}" for status in (400, 401, 403, 404, 405, 415, 422, 501))
MOST_ORDERS = 20_000
MOST_ORDER_BYTES = 256 << 20
USUAL_ORDERS = 2_000
PROGRESS_SECONDS = 10.0
MOST_REMEDIES = 2
FEWEST_LOST = 20  # requests in a row that got no connection, and as many as are sent at once: the server is gone

Tell = Callable[[str], None]
Learn = Callable[[Wish], Awaitable[Route]]
Metrics = Callable[[], Awaitable[Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Level:
    """One load: so many requests in parallel, or so many a second; `speed`: at a trace's own times, so many times as
    fast, which comes to that rate.
    """

    concurrency: int | None = None
    rate: float | None = None
    speed: float | None = None

    def data(self) -> dict[str, Any]:
        """Return what names it in the result."""
        if self.concurrency is not None:
            return {"concurrency": self.concurrency}
        return {"rate": self.rate, **({} if self.speed is None else {"trace_speed": self.speed})}

    def __str__(self) -> str:
        if self.concurrency is not None:
            return f"{self.concurrency} in parallel"
        return f"{self.rate:g} a second" + ("" if self.speed is None else " on average, by the trace")


@dataclass(frozen=True, slots=True)
class Plan:
    """`requests` and `seconds` bound each level, `warmup` requests go before the first and are not measured.

    `moments`: when the requests of a trace came, in seconds.
    """

    levels: tuple[Level, ...]
    requests: int | None
    seconds: float | None
    warmup: int = 0
    seed: int = 0
    moments: tuple[float, ...] = ()

    def wanted(self, level: Level) -> int:
        """Return how many different requests a level may need, as far as that can be said."""
        if self.requests is not None:
            return min(self.requests, MOST_ORDERS)
        if level.rate is not None and self.seconds is not None:
            return min(int(level.rate * self.seconds * 1.2) + 20, MOST_ORDERS)
        return USUAL_ORDERS


@dataclass(slots=True)
class Load:
    """A server and all that is needed to put load on it; `wishes` are asked in turn, `learn` asks one by the project's
    own wire. `results` grows level by level, also where it is interrupted. `stopped`: what ended it before its end.
    """

    pool: Pool
    route: Route
    style: Style
    wishes: Iterator[Wish]
    open_spending: Callable[[tuple[int, int]], Spending]
    learn: Learn
    metrics: Metrics
    tell: Tell
    objectives: Objectives | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    stopped: ProviderError | None = None
    _remedies: int = 0

    async def run(self, plan: Plan) -> None:
        """Measure every level. Raises ProviderError where the server refuses what it is asked, in any form."""
        if plan.warmup:
            self.tell(f"warming up: {plan.warmup} requests")
            warm = Level(concurrency=min(plan.warmup, max((one.concurrency or 1) for one in plan.levels)))
            await self._measured(replace(plan, requests=plan.warmup, seconds=None), warm)
        for level in plan.levels:
            if self.stopped is not None:
                return
            self.tell(f"{level}: begun")
            before = await self.metrics()
            driven = Driven()
            try:
                orders = await self._measured(plan, level, driven)
            except asyncio.CancelledError:
                if driven.samples:
                    self.results.append(result_of(level.data(), driven, self.objectives))
                raise
            told = {"reported": told_times(driven.samples)} if any(one.server_times for one in driven.samples) else {}
            grown = growth(before, await self.metrics())
            server = told | ({"metrics": grown} if grown else {})
            result = result_of(level.data(), driven, self.objectives, server)
            self.results.append(result | {"distinct_prompts": min(orders, len(driven.samples))})
            self.tell(f"{level}: {summary_of(result)}")

    async def _measured(self, plan: Plan, level: Level, driven: Driven | None = None) -> int:
        """Drive one level into `driven`; return how many different requests there were for it.

        Where the very first answer is a refusal, what the server refuses is learned, and the level begins anew.
        """
        driven = driven if driven is not None else Driven()
        while True:
            wishes = list(itertools.islice(self.wishes, plan.wanted(level)))
            orders = await asyncio.to_thread(self._drafted, wishes)
            refused = await self._driven(plan, level, driven, orders)
            if refused is None:
                return len(orders)
            await self._remedied(refused, wishes[0])
            driven.samples.clear()
            del driven.ticks[:]
            driven.unfinished = 0

    def _drafted(self, wishes: list[Wish]) -> list[tuple[h11.Request, Order]]:
        orders, size = [], 0
        for wish in wishes:
            order = draft(self.route, wish, self.style)
            orders.append((self.pool.target.request(order.path, order.body), order))
            size += len(order.body)
            if size > MOST_ORDER_BYTES:
                break
        return orders

    async def _driven(
        self, plan: Plan, level: Level, driven: Driven, orders: list[tuple[h11.Request, Order]]
    ) -> Sample | None:
        """Drive one level; return the refusal that ended it before anything was answered."""
        largest = max(order.bound for _, order in orders), max(order.most for _, order in orders)
        spending = self.open_spending(largest)
        reader, turns = reader_of(self.route), itertools.cycle(orders)
        refused: list[Sample] = []
        answered = lost = 0
        most_lost = max(FEWEST_LOST, level.concurrency or 0)

        async def source() -> Ask | None:
            if refused or lost >= most_lost or (ended := await spending.admit()) is None:
                return None
            head, order = next(turns)

            async def ask(due: float) -> Sample:
                nonlocal answered, lost
                sample = await self.pool.ask(head, order.body, reader, due)
                ended(sample)
                answered += not sample.error
                lost = lost + 1 if sample.error == NO_CONNECTION else 0
                if sample.error in LEARNT_FROM and not answered and self._remedies < MOST_REMEDIES:
                    refused.append(sample)
                return sample

            return ask

        await spending.prepare()
        progress = asyncio.ensure_future(self._progress(level, driven))
        try:
            if level.concurrency is not None:
                bounds: dict[str, Any] = {"requests": plan.requests, "seconds": plan.seconds}
                await drive_closed(driven, source, concurrency=level.concurrency, **bounds)
            else:
                await drive_open(
                    driven, source, self._arrivals(plan, level), requests=plan.requests, seconds=plan.seconds
                )
        finally:
            progress.cancel()
            await spending.close()
        self.stopped = spending.stopped or (_gone(driven, lost) if lost >= most_lost else None)
        self._remedies = MOST_REMEDIES if answered else self._remedies
        return refused[0] if refused and not answered else None

    async def _progress(self, level: Level, driven: Driven) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self.tell(f"{level}: {len(driven.samples)} requests have ended")

    def _arrivals(self, plan: Plan, level: Level) -> Iterator[float]:
        if level.speed is not None:
            return arrivals.traced(plan.moments, level.speed)
        return arrivals.poisson(level.rate or 1.0, plan.seed)

    async def _remedied(self, refused: Sample, wish: Wish) -> None:
        """Ask as the project asks, which learns what the server refuses; where that was not it, ask for less."""
        self._remedies += 1
        if self._remedies == 1:
            self.route = await self.learn(wish)
        elif self.style.whole:
            self.style = replace(self.style, whole=False)
            self.tell(f"the server refuses ignore_eos and min_tokens: answers may be shorter ({refused.detail[:200]})")


def _gone(driven: Driven, lost: int) -> ProviderUnreachable:
    """Return the error that the last `lost` requests got no connection: more would measure nothing."""
    message = f"the server is gone: {lost} requests in a row got no connection: {driven.samples[-1].detail}"
    return ProviderUnreachable(message, hint="its own log says why it ended; what was measured until then is written")


def summary_of(result: Mapping[str, Any]) -> str:
    """Return one line on a level."""
    failed = sum(result["errors"].values())
    first, whole = result["ttft_ms"], result["e2e_ms"]
    if whole["p50"] is None:
        return f"{result['requests']} requests, none answered"
    figures = f"first token p50 {first['p50']:.1f} ms, whole p50 {whole['p50']:.1f} and p99 {whole['p99']:.1f} ms"
    rates = f"{result['output_tokens_per_s']:.1f} tokens/s, {result['requests_per_min']:.1f} requests/min"
    return f"{result['requests']} requests, {failed} failed; {figures}; {rates}"
