"""One limiter for all who ask one server with one key: requests wait before they are sent where a budget is spent."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from miyabi_cli.errors import ProviderError, ProviderOverloaded
from miyabi_cli.llm.budgets import DAY, HOUR, MINUTE, Bucket, Figures, Spent, Unit, read_figures, read_spent, read_wait
from miyabi_cli.llm.retry import SILENT_SECONDS
from miyabi_cli.messages import Waiting

LONGEST_WAIT = 300.0  # seconds for one request's own budget; those ahead of it in the queue add theirs
POLL_SECONDS = 1.0  # how late a waiter may notice that another used less than it had reserved
PROBE_SECONDS = 2.0  # how long the first request is waited for, whose response says what the budgets are
PROBE_POLL_SECONDS = 0.02

Budget = tuple[Unit, float]
HEADER_BUDGETS: Mapping[Unit, Budget] = {"tokens": ("tokens", MINUTE), "requests": ("requests", DAY)}
_SPANS = {MINUTE: "minute", HOUR: "hour", DAY: "day"}


@dataclass(slots=True, eq=False)
class Reservation:
    """What one request has taken of the budgets: `tokens` of prompt and of the most that may come back.

    `number`: how many responses had come before it was sent.
    """

    tokens: float
    sent_at: float
    reported: bool = False
    number: int = 0

    def amount(self, unit: Unit) -> float:
        return self.tokens if unit == "tokens" else 1.0


@dataclass(slots=True, eq=False)
class Limiter:
    """The budgets of one key for one model. First come, first served; for any number of event loops and threads.

    Nothing is known before the first response: that request goes alone. `clock` and `sleep` are there for tests.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    longest_wait: float = LONGEST_WAIT
    _buckets: dict[Budget, Bucket] = field(default_factory=dict)
    _queue: list[Reservation] = field(default_factory=list)
    _flying: list[Reservation] = field(default_factory=list)
    _probing: bool = True
    _reports: int = 0
    _closed_until: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    async def admit(self, tokens: float) -> AsyncGenerator[Waiting | Reservation, None]:
        """Yield reasons for waiting and, last, the reservation, which has to be settled.

        Raises ProviderOverloaded at once where the budget comes back too late to wait for.
        """
        ticket = Reservation(tokens, self.clock())
        said = 0.0
        with self._lock:
            self._queue.append(ticket)
        try:
            while (wait := self._turn(ticket)) is not None:
                seconds, reason, poll = wait
                if seconds >= SILENT_SECONDS and self.clock() + seconds > said + SILENT_SECONDS:
                    said = self.clock() + seconds
                    yield Waiting(seconds, reason)
                await self.sleep(min(seconds, poll))
        finally:
            with self._lock:
                if ticket in self._queue:
                    self._queue.remove(ticket)
        yield ticket

    def observe(self, headers: Mapping[str, str], reservation: Reservation | None = None) -> None:
        """Learn from the headers of a response, also of a refusal."""
        with self._lock:
            self._probing = False
            now = self.clock()
            stale = reservation is not None and reservation.number != self._reports
            if reservation and not reservation.reported:
                reservation.reported = True
                self._reports += 1
            for unit, budget in HEADER_BUDGETS.items():
                if figures := read_figures(headers, unit):
                    self._learn(budget, figures, now, stale)

    def refused(self, reservation: Reservation, error: ProviderError) -> None:
        """Learn from a refusal, give back what was reserved, and keep everybody waiting where the server says so."""
        with self._lock:
            now = self.clock()
            spent = read_spent(error)
            if spent:
                self._learn_spent(spent, now)
            if error.status == 429:
                wait = error.retry_after if error.retry_after is not None else read_wait(error)
                self._closed_until = max(self._closed_until, now + min(wait or 0.0, DAY))
                self._probing = spent is None  # the first after it goes alone: who knows what is left
            self.settle(reservation, 0)

    def settle(self, reservation: Reservation, used: float | None) -> None:
        """Take a request as done: `used` tokens instead of those that were reserved; None: nobody knows."""
        with self._lock:
            if reservation not in self._flying:
                return
            self._flying.remove(reservation)
            bucket = self._buckets.get(HEADER_BUDGETS["tokens"])
            if bucket and used is not None:
                bucket.refresh(self.clock())
                bucket.level = min(bucket.limit, bucket.level + reservation.tokens - used)

    @property
    def tokens_per_minute(self) -> int | None:
        """The most tokens that one request may ask for, prompt and answer together; None before that is known."""
        with self._lock:
            bucket = self._buckets.get(HEADER_BUDGETS["tokens"])
            return int(bucket.limit) if bucket else None

    def _turn(self, ticket: Reservation) -> tuple[float, str, float] | None:
        """Take what the ticket asks for and return None, or return how long it waits, why, and when to look again."""
        with self._lock:
            now = self.clock()
            ahead = self._queue[: self._queue.index(ticket)]
            seconds, reason = self._wait(ticket, ahead, now)
            own, why = self._wait(ticket, [], now, shortest=HOUR) if seconds > self.longest_wait else (0.0, "")
            if own > self.longest_wait:  # a minute's budget is never too late: it is others who have to end first
                raise too_late(own, why)
            if seconds > 0:
                return seconds, reason, POLL_SECONDS
            if self._probing and (ahead or any(now - other.sent_at < PROBE_SECONDS for other in self._flying)):
                return PROBE_POLL_SECONDS, "", PROBE_POLL_SECONDS
            self._queue.remove(ticket)
            ticket.sent_at = now
            ticket.number = self._reports
            self._flying.append(ticket)
            for (unit, _), bucket in self._buckets.items():
                bucket.level -= ticket.amount(unit)
            return None

    def _wait(
        self, ticket: Reservation, ahead: list[Reservation], now: float, shortest: float = 0.0
    ) -> tuple[float, str]:
        """Return how long a ticket waits behind others, and why; for the budgets of a `shortest` span or longer."""
        longest, reason = max(0.0, self._closed_until - now), "the server asked to wait"
        for (unit, span), bucket in self._buckets.items():
            seconds = bucket.wait(ticket.amount(unit), sum(other.amount(unit) for other in ahead), now)
            if span >= shortest and seconds > longest:
                longest = seconds
                reason = f"the budget of {bucket.limit:,.0f} {unit} per {_SPANS.get(span, 'span')} is used up"
        return longest, reason

    def _learn(self, budget: Budget, figures: Figures, now: float, stale: bool) -> None:
        """Take the server's figures; those that another response may have overtaken only where they say less."""
        unit, span = budget
        bucket = self._buckets.get(budget)
        if bucket is None:
            bucket = self._buckets[budget] = Bucket.full(figures.limit, span, now)
            bucket.level -= sum(other.amount(unit) for other in self._flying)
        bucket.refresh(now)
        ours = bucket.level
        bucket.learn(figures, sum(other.amount(unit) for other in self._flying if not other.reported), now)
        if stale:
            bucket.level = min(bucket.level, ours)
        if unit == "tokens":
            self._forgo(bucket.level - ours)

    def _forgo(self, surplus: float) -> None:
        """Note what the server did not take, or has given back already: it is not given back once more."""
        for other in self._flying:
            if other.reported and surplus > 0:
                part = min(other.tokens, surplus)
                other.tokens -= part
                surplus -= part

    def _learn_spent(self, spent: Spent, now: float) -> None:
        budget = (spent.unit, spent.span)
        bucket = self._buckets.get(budget)
        if bucket is None or bucket.limit != spent.limit:
            bucket = self._buckets[budget] = Bucket.full(spent.limit, spent.span, now)
        if spent.used is not None:
            bucket.refresh(now)
            bucket.level = min(bucket.level, spent.limit - spent.used)


def too_late(seconds: float, reason: str) -> ProviderOverloaded:
    """Return the error for a budget that comes back too late to wait for."""
    hint = f"it is free again in {span_of(seconds)}; use another model, key or provider until then"
    return ProviderOverloaded(f"{reason}, for {span_of(seconds)}", hint=hint, status=429, retry_after=seconds)


def span_of(seconds: float) -> str:
    """Return a span of time for a person: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


_shared: dict[tuple[str, str, str], Limiter] = {}
_sharing = threading.Lock()


def shared_limiter(endpoint: str, key: str, model: str) -> Limiter:
    """Return the limiter of this process for a server, a key (kept as a digest) and a model."""
    identity = (endpoint, hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(), model)
    with _sharing:
        return _shared.setdefault(identity, Limiter())
