"""The embedded model: the chat completions wire to miyabi's own engine, which is started anew when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_cli.errors import ProviderUnreachable
from miyabi_cli.llm.calling import call_function, generate, last_reply
from miyabi_cli.llm.engines import Engine, ensure_engine
from miyabi_cli.llm.models import find_model
from miyabi_cli.llm.openai import ChatCompletions
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import SERVERS_CHOICE, Delta, Function, LLMRequest, LLMResponse, Message, Reply, Sampling

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Embedded as EmbeddedSettings

RESTARTS = 2

Start = Callable[[], Awaitable[Engine]]


async def open_embedded(
    settings: EmbeddedSettings, *, idle: float | None, progress: Callable[[str], None]
) -> EmbeddedModel:
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
    provider = EmbeddedModel(Path(settings.model).name.removesuffix(".gguf"), start, idle=idle, profile=profile)
    await provider.connect()
    return provider


class EmbeddedModel:
    """A `Provider` on the engine that all runs of this machine's user share.

    `start` returns the engine, started if need be; it is called again after a broken connection.
    """

    name = "embedded"

    def __init__(self, model: str, start: Start, *, idle: float | None, profile: Profile) -> None:
        self.model_name = model
        self.profile = profile
        self._start = start
        self._idle = idle
        self._starting = asyncio.Lock()
        self._engine: Engine | None = None
        self._wire: ChatCompletions | None = None

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        return self.profile.capabilities

    async def generate(self, request: LLMRequest) -> LLMResponse:
        return await generate(self, request)

    async def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[Function] = (),
        sampling: Sampling = SERVERS_CHOICE,
        schema: Mapping[str, Any] | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[Delta | Reply]:
        async for piece in self._streamed(lambda wire: wire.chat(messages, functions, sampling, schema, stop)):
            yield piece

    async def call_function(
        self, function: Function, messages: Sequence[Message], sampling: Sampling = SERVERS_CHOICE
    ) -> dict[str, Any]:
        return await call_function(self, function, messages, sampling)

    async def _streamed(
        self, ask: Callable[[ChatCompletions], AsyncIterator[Delta | Reply]]
    ) -> AsyncIterator[Delta | Reply]:
        """Yield what the engine answers; where the connection breaks, start the engine anew and ask again."""
        for restart in range(RESTARTS + 1):
            wire = await self.connect()
            try:
                async for piece in ask(wire):
                    yield _at_no_cost(piece)
            except ProviderUnreachable:
                if self._wire is wire:  # else another attempt has already started the engine anew
                    await self.close()
                if restart == RESTARTS:
                    raise
            else:
                return

    async def connect(self) -> ChatCompletions:
        """Return the wire to the engine, started if it does not run."""
        async with self._starting:
            if self._wire is None:
                engine = self._engine = await self._start()
                self._wire = ChatCompletions(
                    engine.url,
                    self.model_name,
                    key=engine.key,
                    name=self.name,
                    profile=self.profile,
                    idle=self._idle,
                    retries=Retries(attempts=2),
                )
            return self._wire

    async def infill(self, prefix: str, suffix: str, *, max_tokens: int, stop: Sequence[str] = ()) -> Reply:
        def asked(wire: ChatCompletions) -> AsyncIterator[Delta | Reply]:
            return wire.stream_infill(prefix, suffix, max_tokens=max_tokens, stop=stop)

        return await last_reply(self._streamed(asked))

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        engine, self._engine = self._engine, None
        if wire is not None:
            await wire.close()
        if engine is not None:
            engine.close()


def _at_no_cost(piece: Delta | Reply) -> Delta | Reply:
    """A model on this machine costs no money."""
    return replace(piece, usage=replace(piece.usage, cost_usd=0.0)) if isinstance(piece, Reply) else piece
