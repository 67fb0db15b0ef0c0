"""The requests of one review: several at a time, within its time and money; what fails costs its own file alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import BrokenReply, BudgetReached, ProviderError, ProviderRefused, RequestTooLarge
from miyabi_cli.messages import Function, Usage
from miyabi_cli.review.findings import Dropped, Finding, Skipped, SourceResult
from miyabi_cli.review.model.asking import Asker

AT_ONCE = 6  # requests to a server
AT_ONCE_SMALL = 2  # to a small model, which most often runs on this machine
TIME_LIMIT = "the time limit"
TOO_LARGE = "it does not fit the model's window"
_THEIRS = (400, 413, 422)  # the statuses with which a server refuses one request for what is in it


@dataclass(frozen=True, slots=True)
class Answer:
    """Valid arguments of a function, or the `problem` in whose place there are none."""

    arguments: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(slots=True)
class Work:
    """What has come of the requests so far. `stopped` says why no more are sent, "" while they are.

    `deadline` is a time of time.monotonic(), None for none.
    """

    asker: Asker
    deadline: float | None = None
    usage: Usage = field(default_factory=Usage)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    limit: bool = False
    error: ProviderError | None = None
    _answered: int = 0
    _failed: ProviderError | None = None
    _places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE_SMALL if self.asker.small else AT_ONCE)

    async def ask(self, prompt: str, function: Function, text: str) -> Answer:
        """Ask once it is this request's turn. It raises nothing: a failure is in the answer, and noted."""
        async with self._places:
            if self.stopped:
                return Answer(problem=self.stopped)
            try:
                async with asyncio.timeout(self.seconds_left()):
                    if not await self.asker.fits(prompt, function, text):
                        return Answer(problem=TOO_LARGE)
                    called = await self.asker.ask(prompt, function, text)
            except TimeoutError:
                self._stop(TIME_LIMIT, limit=True)
                return Answer(problem=TIME_LIMIT)
            except ProviderError as error:
                self.usage += error.usage
                return Answer(problem=self._problem(error))
        self._answered += 1
        self.usage += called.usage
        return Answer(called.arguments)

    def result(self, findings: tuple[Finding, ...]) -> SourceResult:
        """Return what the source gives; where no request was answered and one has failed, that is its error."""
        error = self.error or (None if self._answered else self._failed)
        return SourceResult(
            findings,
            tuple(Dropped(reason, count) for reason, count in sorted(self.dropped.items())),
            tuple(Skipped(path, reason) for path, reason in self.skipped.items()),
            complete=not self.skipped and not self.stopped,
            usage=self.usage,
            error=error,
            limit=self.limit,
        )

    def seconds_left(self) -> float | None:
        """Return how long the review may still take, None for as long as it likes."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def _problem(self, error: ProviderError) -> str:
        """Say why there is no answer, and send no more where the next request would fail as this one has."""
        if isinstance(error, RequestTooLarge):
            return TOO_LARGE
        if isinstance(error, BudgetReached):
            self._stop(f"the budget: {error.message}", limit=True)
            return self.stopped
        self._failed = error
        if isinstance(error, BrokenReply):
            return "the model gave no valid answer"
        if isinstance(error, ProviderRefused) and error.status in _THEIRS:
            return f"the server refused it: {error.message}"
        self.error = self.error or error
        self._stop(f"the model did not answer: {error.message}")
        return self.stopped

    def _stop(self, why: str, *, limit: bool = False) -> None:
        self.stopped = self.stopped or why
        self.limit = self.limit or limit
