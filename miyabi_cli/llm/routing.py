"""A provider that goes on with another one where its server fails, is overloaded or costs too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from miyabi_cli.errors import (
    BudgetReached,
    MiyabiError,
    NotLocal,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    ToolsRefused,
    UsageError,
)
from miyabi_cli.llm.provider import Provider, Wire
from miyabi_cli.llm.retry import closing
from miyabi_cli.messages import ChatRequest, Piece, Reply, Switched, Usage

FAILURES = (ProviderUnreachable, ProviderOverloaded)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the providers to be asked, by its name, and how it is opened."""

    name: str
    open: Callable[[], Awaitable[Provider]]


async def open_first(choices: Sequence[Choice], tell: Tell, *, stop_at_budget: bool = False) -> Routed:
    """Return the first of the choices that can be had; it goes on with those after it.

    Raises what keeps the first one from being opened where the user has to mend that (UsageError), or where none can be
    had. `tell` hears of the others.
    """
    failed: MiyabiError | None = None
    for number, choice in enumerate(choices, start=1):
        try:
            opened = await choice.open()
        except MiyabiError as error:
            if failed:
                tell(_unusable(choice, error))
            elif isinstance(error, UsageError) and not isinstance(error, NotLocal):
                raise
            failed = failed or error
            continue
        switched = Switched(choices[0].name, opened.name, opened.model_name, failed.message) if failed else None
        return Routed(opened, choices[number:], tell, stop_at_budget=stop_at_budget, switched=switched)
    raise failed or ProviderUnreachable("no provider is named")


class Routed(Provider):
    """A `Provider` that is `first` and, from its failure on, the next of `others` that can be had; it never goes back.

    All who ask it switch together, and each is told by a `Switched` before its reply goes on; `tell` hears of it once,
    and of one that can't be had. `others` are opened when they are needed. `stop_at_budget`: a cap on money is no
    reason to switch. `switched`: what was given up before, which who asks first is told.
    """

    def __init__(
        self,
        first: Provider,
        others: Sequence[Choice],
        tell: Tell,
        *,
        stop_at_budget: bool = False,
        switched: Switched | None = None,
    ) -> None:
        super().__init__(first.wire, retries=first.retries, redactor=first.redactor)
        self.switched = switched
        self._others = [other for other in others if other.name != first.name]
        self._tell = tell
        self._stop_at_budget = stop_at_budget
        self._left: list[Wire] = []
        self._switching = asyncio.Lock()

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """Do what `Provider.stream` does, and ask the next server the same where this one fails.

        Raises ToolsRefused where the next one takes none of the request's functions: they may be asked for as JSON.
        """
        return self._going_on(request)

    async def _going_on(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        spent = Usage()
        if self.switched:
            switched, self.switched = self.switched, None
            self._tell(given_up(switched))
            yield switched
        while True:
            wire = self.wire
            try:
                async with closing(super().stream(request)) as pieces:
                    async for piece in pieces:
                        yield replace(piece, usage=piece.usage + spent) if isinstance(piece, Reply) else piece
                return
            except ProviderError as error:
                spent += error.usage
                if not self._is_reason(error) or not await self._switch(wire, error.message):
                    error.usage = spent
                    raise
                reason = error.message
            yield Switched(wire.name, self.name, self.model_name, reason)
            if request.functions and not self.capabilities.tools:
                raise ToolsRefused(f"{self.model_name} takes no tools", usage=spent)

    def _is_reason(self, error: ProviderError) -> bool:
        """Say whether another provider may do better than one that failed by this."""
        if isinstance(error, BudgetReached):
            return not self._stop_at_budget
        return isinstance(error, FAILURES) or (isinstance(error, ProviderRefused) and error.needs_key)

    async def _switch(self, failed: Wire, reason: str) -> bool:
        """Go over from a wire that failed to the next, unless another conversation has done so; say whether it did."""
        async with self._switching:
            while self.wire is failed and self._others:
                other = self._others.pop(0)
                try:
                    provider = await other.open()
                except MiyabiError as error:
                    self._tell(_unusable(other, error))
                    continue
                self._left.append(self.wire)
                self.wire, self.retries = provider.wire, provider.retries
                self._tell(given_up(Switched(failed.name, self.name, self.model_name, reason)))
            return self.wire is not failed

    async def close(self) -> None:
        """Give back the connections of every server that was asked."""
        for wire in (*self._left, self.wire):
            await wire.close()


def _unusable(choice: Choice, error: MiyabiError) -> str:
    return f"the fallback {choice.name} can't be used: {error.message}"


def given_up(switched: Switched) -> str:
    """Tell a person of a switch."""
    other = f"{switched.model} by {switched.provider}"
    return f"{switched.failed} is given up ({switched.reason}): the run goes on with {other}"
