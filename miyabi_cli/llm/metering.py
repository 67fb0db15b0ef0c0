"""A wire whose every request is reserved in the ledger before it is sent, and settled with what it has cost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from miyabi_cli.errors import BudgetReached, MachineError, ProviderError
from miyabi_cli.ledger.records import NANO, Amount, Caps, Origin, Refusal, Reservation
from miyabi_cli.ledger.store import Ledger
from miyabi_cli.llm.counting import bound_of_messages, upper_bound
from miyabi_cli.llm.prices import ASSUMED_USD, MILLION, Price, amount_of, cap_of
from miyabi_cli.llm.profiles import Capabilities, Profile
from miyabi_cli.llm.provider import Wire
from miyabi_cli.llm.retry import closing
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Piece, Reply, Timing, Usage, Waiting

POLL_SECONDS = 0.2
SILENT_SECONDS = 2.0
TOLD_SHARES = (50, 80, 100)  # per cent of the month's cap
CHARACTERS_PER_TOKEN = 3  # of a reply that was left before its end, and that no server has counted

Tell = Callable[[str], None]


def tell_nobody(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the requests of a run are put down, and the caps in US dollars that hold for them (None: no cap).

    `named`: the user has named a cap for this run, and has to hear where it can't be held in dollars. `stops`: at a cap
    no other provider is asked. `tell` hears of a price that is not known, of the month's cap as it comes nearer, and of
    a ledger that can't be used. The ledger is closed by who has opened it.
    """

    ledger: Ledger
    command: str = ""
    repository: str = ""
    run_id: str = ""
    monthly_usd: float | None = None
    per_run_usd: float | None = None
    named: bool = False
    stops: bool = False
    tell: Tell = tell_nobody

    @property
    def caps(self) -> Caps:
        return Caps(cap_of(self.monthly_usd), cap_of(self.per_run_usd))


class Metered:
    """A `Wire` around another one. `tries`: how many requests the inner one may send for a single reply. `is_local`:
    it runs on this machine, where a price is no news unless a cap was named.

    `find` looks the price up, once and in a thread. Where the ledger can't be used, what costs nothing goes on
    without it.
    """

    def __init__(
        self,
        wire: Wire,
        account: Account,
        find: Callable[[], Price | None],
        *,
        tries: int = 1,
        is_local: bool = False,
        poll: float = POLL_SECONDS,
    ) -> None:
        self.wire = wire
        self.name = wire.name
        self.model_name = wire.model_name
        self._find = functools.cache(find)
        self.account = account
        self._tries = tries
        self._poll = poll
        self._says_unknown = account.named or not is_local
        self._told: set[str] = set()

    @property
    def price(self) -> Price | None:
        """What a token costs; None where nobody knows."""
        return self._find()

    def look_up(self) -> None:
        """Find the price, so that the first request need not wait for it: a tenth of a second."""
        self._find()

    @property
    def profile(self) -> Profile:
        return self.wire.profile

    @property
    def max_tokens(self) -> int:
        return self.wire.max_tokens

    @property
    def capabilities(self) -> Capabilities:
        return self.wire.capabilities

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the inner wire's pieces, with the cost in the usage. Raises BudgetReached where a cap forbids it."""
        prompt = upper_bound(request.messages, request.functions)
        answer = min(request.sampling.max_tokens or self.max_tokens, self.max_tokens)
        async with aclosing(self._metered(prompt, answer, self.wire.stream(request))) as pieces:
            async for piece in pieces:
                yield piece

    async def infill(
        self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]
    ) -> AsyncGenerator[Piece, None]:
        """Do for an infill what `stream` does for a chat."""
        prompt = bound_of_messages([Message("user", prefix + suffix)])
        inner = self.wire.infill(prefix, suffix, max_tokens, stop)
        async with aclosing(self._metered(prompt, max_tokens, inner)) as pieces:
            async for piece in pieces:
                yield piece

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return await self.wire.count(messages, functions)

    async def close(self) -> None:
        await self.wire.close()

    async def _metered(self, prompt: int, answer: int, inner: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        price = await asyncio.to_thread(self._find)
        most = amount_of(price, prompt * self._tries, 0, answer * self._tries)
        reservation: Reservation | None = None
        async with aclosing(self._reserved(most)) as found:
            async for one in found:
                if isinstance(one, Waiting):
                    yield one
                else:
                    reservation = one
        # what a reply costs that is left in the middle: nobody counts it for us
        usage, timing, error, came = Usage(1, prompt // 2), Timing(), "left", 0
        try:
            async with closing(inner) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Delta):
                        came += len(piece.text) + len(piece.thought) + len(piece.tool_text)
                    if isinstance(piece, Reply):
                        usage, timing, error = self._priced(piece.usage), piece.timing, ""
                        piece = replace(piece, usage=usage)
                    yield piece
        except ProviderError as broken:
            error = broken.kind
            # a server that was never reached, or refused, has cost nothing, whatever its price
            asked = broken.usage.input_tokens or broken.usage.output_tokens
            broken.usage = usage = self._priced(broken.usage) if asked else replace(broken.usage, cost_usd=0.0)
            raise
        finally:
            if error == "left":
                usage = self._priced(replace(usage, output_tokens=came // CHARACTERS_PER_TOKEN))
            if reservation is not None:
                settling = self.account.ledger.in_thread(self._settle, reservation, usage, timing, error)
                failed = await asyncio.shield(settling)
                if failed:
                    self._tell_once("ledger", failed)

    def _priced(self, usage: Usage) -> Usage:
        return replace(usage, cost_usd=None) if self.price is None else self.price.priced(usage)

    def _settle(self, reservation: Reservation, usage: Usage, timing: Timing, error: str) -> str:
        """Put down what a request has cost; say why not where that fails: its reservation then stands for it."""
        cost = amount_of(self.price, usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        try:
            self.account.ledger.settle(reservation, usage, cost, timing=timing, error=error)
        except MachineError as failed:
            return failed.message
        return ""

    async def _reserved(self, most: Amount) -> AsyncGenerator[Waiting | Reservation, None]:
        """Yield the reservation last, nothing where there is no ledger; wait while others hold what may come free."""
        account, waited = self.account, 0.0
        origin = Origin(self.name, self.model_name, account.command, account.repository, account.run_id)
        while True:
            try:
                found = await self._settled_if_cancelled(
                    account.ledger.in_thread(account.ledger.reserve, origin, most, account.caps)
                )
            except MachineError as error:
                if self.price is None or not self.price.is_free:
                    raise
                self._tell_once("ledger", f"{error.message}: requests are not put down")
                return
            if isinstance(found, Reservation):
                self._tell_of(found)
                yield found
                return
            if not found.may_come:
                raise _reached(found, account)
            if SILENT_SECONDS <= waited < SILENT_SECONDS + self._poll:
                yield Waiting(SILENT_SECONDS, "other requests have reserved what is left of the budget")
            await asyncio.sleep(self._poll)
            waited += self._poll

    async def _settled_if_cancelled(self, asked: asyncio.Future[Reservation | Refusal]) -> Reservation | Refusal:
        """Wait for an answer of the ledger; give a reservation back that comes when nobody waits for it any more."""
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back)
            raise

    def _give_back(self, asked: asyncio.Future[Reservation | Refusal]) -> None:
        if not asked.cancelled() and not asked.exception() and isinstance(found := asked.result(), Reservation):
            self.account.ledger.in_thread(self._settle, found, Usage(), Timing(), "cancelled")

    def _tell_of(self, reservation: Reservation) -> None:
        account = self.account
        if self.price is None and account.caps != Caps() and self._says_unknown:
            text = f"the price of {self.model_name} is not known, so the caps hold for tokens, "
            self._tell_once("price", f"{text}at {ASSUMED_USD:g} USD a million; set it: prices in the settings")
        if not account.monthly_usd or self.price is None or self.price.is_free:
            return
        share = 100 * reservation.month_nano / NANO / account.monthly_usd
        if reached := [limit for limit in TOLD_SHARES if share >= limit]:
            spent = f"{reservation.month_nano / NANO:.2f} of {account.monthly_usd:g} USD"
            self._tell_once(f"share {reached[-1]}", f"{reached[-1]} % of the month's budget is spent: {spent}")

    def _tell_once(self, key: str, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self.account.tell(text)


def _reached(refusal: Refusal, account: Account) -> BudgetReached:
    spent, tokens = refusal.spent.nano / NANO, refusal.spent.tokens
    key = "budget.monthly_usd" if refusal.scope == "month" else "budget.per_run_usd"
    raised = "--max-cost" if account.named and refusal.scope == "run" else key
    other = "name a local provider in llm.fallback"
    if account.stops:
        other = f"set budget.on_exceed to fallback and {other}"
    counted = f"{spent:.4f} USD" if not tokens else f"{spent:.4f} USD and {tokens / MILLION:.3f} million tokens"
    name = f"the {refusal.scope}'s budget of {refusal.cap.nano / NANO:g} USD"
    hint = f"raise {raised}, or {other}; miyabi usage shows where it went"
    return BudgetReached(f"{name} is used up: {counted} spent, and the next request might pass it", hint=hint)
