"""What a run may spend, and what it has spent: steps, tokens, money, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from miyabi_cli.messages import Usage


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a run; None is no limit. `steps` holds for each attempt, the others for all of them."""

    steps: int = 60
    seconds: float | None = 1800
    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(slots=True)
class Allowance:
    """The account of one run, shared by its attempts. `clock` gives seconds, and is there for tests.

    `disk` says which limit the run's commands have reached on the disk, or None.
    """

    bounds: Bounds
    clock: Callable[[], float] = field(default=time.monotonic)
    usage: Usage = field(default_factory=Usage)
    disk: Callable[[], str | None] = lambda: None
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def spend(self, usage: Usage) -> None:
        """Put the cost of a reply to the account."""
        self.usage += usage

    def seconds_left(self) -> float | None:
        """Return the seconds until the deadline, at least 0; None without one."""
        if self.bounds.seconds is None:
            return None
        return max(0.0, self.bounds.seconds - (self.clock() - self.started))

    def reached(self, steps: int) -> str | None:
        """Say which limit is reached by an attempt that has made `steps` steps, or None."""
        bounds, usage = self.bounds, self.usage
        if steps >= bounds.steps:
            return f"the limit of {bounds.steps} step{'' if bounds.steps == 1 else 's'}"
        if self.seconds_left() == 0.0:
            return f"the time limit of {bounds.seconds:g} s"
        if bounds.tokens is not None and usage.input_tokens + usage.output_tokens >= bounds.tokens:
            return f"the limit of {bounds.tokens} tokens"
        if bounds.cost_usd is not None and usage.cost_usd and usage.cost_usd >= bounds.cost_usd:
            return f"the cost limit of {bounds.cost_usd:g} USD"
        return self.disk()
