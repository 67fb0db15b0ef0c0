"""The cost of a load: put down in the ledger a block of requests at a time, so that no request waits for the disk."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from miyabi_cli.bench.load.samples import Sample
from miyabi_cli.errors import BudgetReached, MachineError
from miyabi_cli.ledger.records import NANO, Origin, Refusal, Reservation
from miyabi_cli.llm.metering import POLL_SECONDS, Account
from miyabi_cli.llm.prices import Price, amount_of
from miyabi_cli.messages import Timing, Usage

BLOCK = 50  # requests
ENDLESS = 1 << 30


@dataclass(slots=True)
class _Block:
    """Requests that were reserved together: how many may still be sent, and how many are on their way."""

    reservation: Reservation | None
    left: int
    running: int = 0
    usage: Usage = field(default_factory=Usage)
    failed: str = ""


@dataclass(slots=True)
class Spending:
    """Reserves blocks of requests on an account and settles each by what its requests have cost.

    Each request is taken for as large as the largest. `price` None is not known. What costs nothing is one block, and
    goes on where the ledger can't be used.
    """

    account: Account
    origin: Origin
    price: Price | None
    largest: tuple[int, int]
    block: int = BLOCK
    stopped: BudgetReached | None = None
    usage: Usage = field(default_factory=Usage)
    _block: _Block | None = None
    _open: list[_Block] = field(default_factory=list)
    _settling: set[asyncio.Future[None]] = field(default_factory=set)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def prepare(self) -> None:
        """Reserve the first block, so that the first request waits for nothing."""
        await self._next_block()

    async def admit(self) -> Callable[[Sample], None] | None:
        """Return what takes the sample of one more request, once it has ended; None: it may not be sent, see `stopped`.

        Where others, or requests on their way, hold what may come free, it is waited for.
        """
        while self.stopped is None:
            block = self._block
            if block is not None and block.left:
                block.left -= 1
                block.running += 1
                return functools.partial(self._ended, block)
            async with self._lock:
                if self._block is block:
                    await self._next_block()
        return None

    async def close(self) -> None:
        """Settle what is open."""
        for block in list(self._open):
            self._settle(block)
        await asyncio.gather(*self._settling, return_exceptions=True)

    def _ended(self, block: _Block, sample: Sample) -> None:
        usage = sample.usage if self.price is None else self.price.priced(sample.usage)
        block.usage += usage
        self.usage += usage
        block.failed = block.failed or sample.error
        block.running -= 1
        if not block.left and not block.running and block in self._open:
            self._settle(block)

    async def _next_block(self) -> None:
        size = ENDLESS if self.price is not None and self.price.is_free else self.block
        while isinstance(found := await self._reserved(size), Refusal):
            if size > 1:
                size //= 2
            elif found.may_come:
                await asyncio.sleep(POLL_SECONDS)
            else:
                self.stopped = _reached(found)
                return
        self._block = _Block(found, size)
        self._open.append(self._block)

    async def _reserved(self, requests: int) -> Reservation | Refusal | None:
        prompt, answer = (tokens * requests for tokens in self.largest)
        ledger = self.account.ledger
        most = amount_of(self.price, prompt, 0, answer)
        try:
            return await ledger.in_thread(ledger.reserve, self.origin, most, self.account.caps)
        except MachineError as error:
            if self.price is None or not self.price.is_free:
                raise
            self.account.tell(f"{error.message}: requests are not put down")
            return None

    def _settle(self, block: _Block) -> None:
        self._open.remove(block)
        if block.reservation is None:
            return
        usage = replace(block.usage, cost_usd=None) if self.price is None else block.usage
        cost = amount_of(self.price, usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        ledger = self.account.ledger
        settling = ledger.in_thread(ledger.settle, block.reservation, usage, cost, timing=Timing(), error=block.failed)
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)


def _reached(refusal: Refusal) -> BudgetReached:
    usd, spent = refusal.cap.nano / NANO, refusal.spent.nano / NANO
    which = "month's" if refusal.scope == "month" else "run's"
    message = f"the {which} budget of {usd:g} USD is used up: {spent:.4f} USD spent, and the next request might pass it"
    return BudgetReached(message, hint="raise --max-cost, or ask for fewer or shorter requests")
