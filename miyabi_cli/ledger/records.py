"""What the ledger is told and what it answers: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["month", "run"]
NANO = 1_000_000_000  # nano-US-dollars in a dollar: the unit of money here, for a token costs some tens of them


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks whom, and what for."""

    provider: str
    model: str
    command: str = ""
    repository: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of one request: money where its price is known, else tokens, never both."""

    nano: int = 0
    tokens: int = 0

    @property
    def negative(self) -> Amount:
        return Amount(-self.nano, -self.tokens)


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent in a month and in a run; `Amount` by `Amount`, None: no cap."""

    month: Amount | None = None
    run: Amount | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request that may be sent. `month_nano`: what the month has cost, all that is reserved with it."""

    id: int
    accounts: tuple[str, ...]
    amount: Amount
    month_nano: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that may not be sent: `cap` would be passed.

    `spent` is what has been spent already; `may_come`: it could be sent once what others have reserved is settled.
    """

    scope: Scope
    cap: Amount
    spent: Amount
    may_come: bool
