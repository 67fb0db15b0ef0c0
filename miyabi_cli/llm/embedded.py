"""The embedded model: the chat completions wire to miyabi's own engine, which is started anew when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_cli.errors import ProviderUnreachable
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.local.engines import Engine, ensure_engine
from miyabi_cli.llm.local.models import find_model
from miyabi_cli.llm.openai import ChatCompletions, Tell
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries, closing
from miyabi_cli.llm.server import Server
from miyabi_cli.messages import ChatRequest, Function, Message, Piece, Reply

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Embedded as EmbeddedSettings

RETRIES = Retries(attempts=3)

Start = Callable[[], Awaitable[Engine]]


async def open_embedded(
    settings: EmbeddedSettings, *, idle: float | None, progress: Tell, tell: Tell = lambda _: None
) -> Provider:
    """Return the provider of the settings' model, its engine running. Raises MachineError, UsageError."""
    path = find_model(settings.model)

    def start() -> Awaitable[Engine]:
        return ensure_engine(
            path,
            threads=settings.threads,
            context=settings.context,
            keep_alive=settings.keep_alive,
            progress=progress,
        )

    profile = replace(profile_of(path.name), window=settings.context)
    wire = EmbeddedModel(Path(settings.model).name.removesuffix(".gguf"), start, idle=idle, profile=profile, tell=tell)
    await wire.connect()
    return Provider(wire, retries=RETRIES)


class EmbeddedModel:
    """A `Wire` to the engine that all runs of this machine's user share.

    `start` returns the engine, started if need be; it is called again after a broken connection.
    """

    name = "embedded"

    def __init__(
        self, model: str, start: Start, *, idle: float | None, profile: Profile, tell: Tell = lambda _: None
    ) -> None:
        self.model_name = model
        self.profile = profile
        self._start = start
        self._idle = idle
        self._tell = tell
        self._starting = asyncio.Lock()
        self._engine: Engine | None = None
        self._wire: ChatCompletions | None = None

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        return self.profile.capabilities

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        return self._streamed(lambda wire: wire.stream(request))

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        return self._streamed(lambda wire: wire.infill(prefix, suffix, max_tokens, stop))

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return upper_bound(messages, functions)

    async def _streamed(self, ask: Callable[[ChatCompletions], AsyncIterator[Piece]]) -> AsyncIterator[Piece]:
        """Yield what the engine answers. Where the connection breaks, the next try starts the engine anew."""
        wire = await self.connect()
        try:
            async with closing(ask(wire)) as pieces:
                async for piece in pieces:
                    yield _at_no_cost(piece)
        except ProviderUnreachable:
            if self._wire is wire:  # else another attempt has already started the engine anew
                await self.close()
            raise

    async def connect(self) -> ChatCompletions:
        """Return the wire to the engine, started if it does not run."""
        async with self._starting:
            if self._wire is None:
                engine = self._engine = await self._start()
                server = Server.at(self.name, engine.url, key=engine.key, idle=self._idle)
                self._wire = ChatCompletions(server, self.model_name, self.profile, tell=self._tell)
            return self._wire

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        engine, self._engine = self._engine, None
        if wire is not None:
            await wire.close()
        if engine is not None:
            engine.close()


def _at_no_cost(piece: Piece) -> Piece:
    """A model on this machine costs no money."""
    return replace(piece, usage=replace(piece.usage, cost_usd=0.0)) if isinstance(piece, Reply) else piece
