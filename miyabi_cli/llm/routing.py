"""A provider that goes on with another one where its server fails, is overloaded or costs too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from miyabi_cli.errors import BudgetReached, MiyabiError, ProviderOverloaded, ProviderUnreachable, ToolsRefused
from miyabi_cli.llm.provider import Provider, Wire
from miyabi_cli.llm.retry import closing
from miyabi_cli.messages import ChatRequest, Piece, Reply, Switched, Usage

FAILURES = (ProviderUnreachable, ProviderOverloaded, BudgetReached)

Open = Callable[[], Awaitable[Provider]]
Tell = Callable[[str], None]


class Routed(Provider):
    """A `Provider` that is `first` and, from its failure on, the next of `others` that can be had; it never goes back.

    All who ask it switch together, and each is told by a `Switched` before its reply goes on. `others` are opened when
    they are needed; `tell` hears of one that can't be. `stop_at_budget`: a cap on money is no reason to switch.
    """

    def __init__(self, first: Provider, others: Sequence[Open], tell: Tell, *, stop_at_budget: bool = False) -> None:
        super().__init__(first.wire, retries=first.retries, redactor=first.redactor)
        self._others = list(others)
        self._tell = tell
        self._failures = tuple(kind for kind in FAILURES if not (stop_at_budget and kind is BudgetReached))
        self._left: list[Wire] = []
        self._switching = asyncio.Lock()

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """Do what `Provider.stream` does, and ask the next server the same where this one fails.

        Raises ToolsRefused where the next one takes none of the request's functions: they may be asked for as JSON.
        """
        return self._going_on(request)

    async def _going_on(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        spent = Usage()
        while True:
            wire = self.wire
            try:
                async with closing(super().stream(request)) as pieces:
                    async for piece in pieces:
                        yield replace(piece, usage=piece.usage + spent) if isinstance(piece, Reply) else piece
                return
            except self._failures as error:
                spent += error.usage
                if not await self._switch(wire):
                    error.usage = spent
                    raise
                reason = error.message
            yield Switched(wire.name, self.name, self.model_name, reason)
            if request.functions and not self.capabilities.tools:
                raise ToolsRefused(f"{self.model_name} takes no tools", usage=spent)

    async def _switch(self, failed: Wire) -> bool:
        """Go over from a wire that failed to the next, unless another conversation has done so; say whether it did."""
        async with self._switching:
            while self.wire is failed and self._others:
                try:
                    provider = await self._others.pop(0)()
                except MiyabiError as error:
                    self._tell(f"a fallback can't be used: {error.message}")
                    continue
                self._left.append(self.wire)
                self.wire, self.retries = provider.wire, provider.retries
            return self.wire is not failed

    async def close(self) -> None:
        """Give back the connections of every server that was asked."""
        for wire in (*self._left, self.wire):
            await wire.close()
