"""Ollama's native API: `POST /api/chat`, streamed, with a context that is asked for and verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from miyabi_cli.errors import ProviderError, RequestTooLarge, ToolsRefused
from miyabi_cli.http import is_loopback
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.marks import guarded, infill_prompt, unguarded
from miyabi_cli.llm.native.encoding import KeepAlive, encode_chat, is_cloud, keep_alive_value
from miyabi_cli.llm.native.ndjson import read_objects
from miyabi_cli.llm.native.reading import OllamaCollector, explained
from miyabi_cli.llm.native.window import count_prompt, cut_prompt, loaded_context
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import SILENT_SECONDS, Retries, closing
from miyabi_cli.llm.server import Server, Stopwatch
from miyabi_cli.llm.windows import overflow
from miyabi_cli.messages import ChatRequest, Function, Message, Piece, Reply, Waiting

NOTICE_SECONDS = 15.0  # between two words on a reply that does not begin
# A model is loaded in minutes, and while gpt-oss writes a call Ollama sends nothing until it is whole.
IDLE_SECONDS = 300.0
LOADED_ANEW = 0.25  # seconds of loading: a model that was there takes less, a runner's start more

Tell = Callable[[str], None]


def open_ollama(
    endpoint: str = "http://localhost:11434",
    model: str = "gpt-oss:20b",
    *,
    key: str | None = None,
    num_ctx: int = 65_536,
    keep_alive: KeepAlive = 300,
    idle: float | None = IDLE_SECONDS,
    profile: Profile | None = None,
    retries: Retries | None = None,
    tell: Tell = lambda _: None,
) -> Provider:
    """Return a model behind an Ollama server; `endpoint` is its base, with or without `/v1`.

    `num_ctx`: tokens of context to load it with. `keep_alive`: how long it stays loaded: seconds, below 0 for ever, or
    a text such as `5m`. `idle`: seconds that may pass without a byte. `tell` hears of a smaller context than was asked
    for, and of thought that is refused. Raises SettingsError for a wrong endpoint.
    """
    known = profile or profile_of(model.replace(":", "-"))
    wire = Ollama(Server.at("ollama", endpoint, key=key, idle=idle), model, known, num_ctx, keep_alive, tell)
    return Provider(wire, retries=retries)


class Ollama:
    """A `Wire` to one model of an Ollama server. What the server refuses is remembered and not sent again."""

    name = "ollama"

    def __init__(
        self, server: Server, model: str, profile: Profile, num_ctx: int, keep_alive: KeepAlive, tell: Tell
    ) -> None:
        self.server = server
        self.model_name = model
        self.profile = replace(profile, window=num_ctx)
        self.num_ctx = num_ctx
        self._keep_alive = keep_alive_value(keep_alive)
        self._tell = tell
        self._thinks = True
        self._loaded: int | None = None
        self._cost = 0.0 if is_loopback(server.endpoint) and not is_cloud(model) else None

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        return self.profile.capabilities

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        collector = OllamaCollector(self.model_name, request.functions, self._cost)
        plain = guarded(request)
        while True:
            watch = Stopwatch()
            think = self._think(request)
            body = self._body(plain, think)
            try:
                async with closing(self._exchange("api/chat", body, collector)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            await self._verify(plain, piece, collector.load_seconds)
                            piece = unguarded(piece)
                        yield piece
                return
            except ProviderError as error:
                if think is not None and _refuses_thought(error):
                    if self._thinks:
                        self._thinks = False
                        self._tell(f"ollama's {self.model_name} refuses an effort of thought: it is left out")
                    continue
                if error.status == 500 and collector.salvaged(str(error.detail.get("message") or "")):
                    yield unguarded(collector.reply(watch.timing()))
                    return
                raise await self._learned(error) from None

    async def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        prompt = infill_prompt(self.profile.infill_format, prefix, suffix)
        options = {"num_ctx": self.num_ctx, "temperature": 0, "num_predict": max_tokens, "stop": list(stop)}
        body = {"model": self.model_name, "prompt": prompt, "raw": True, "stream": True, "options": options}
        body |= {"truncate": False, "shift": False, "keep_alive": self._keep_alive}
        collector = OllamaCollector(self.model_name, (), self._cost)
        try:
            async with closing(self._exchange("api/generate", encode_json(body), collector)) as pieces:
                async for piece in pieces:
                    yield unguarded(piece) if isinstance(piece, Reply) else piece
        except ProviderError as error:
            raise await self._learned(error) from None

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        if self.profile.thinks:
            return await count_prompt(guarded(ChatRequest(messages)).messages, functions)
        return upper_bound(messages, functions)

    async def close(self) -> None:
        await self.server.close()

    def _think(self, request: ChatRequest) -> str | bool | None:
        """Return the level of thought; other models than gpt-oss know only whether they think."""
        effort = request.sampling.effort
        if effort is None or not self._thinks:
            return None
        return effort if self.profile.thinks else True

    def body(self, request: ChatRequest) -> bytes:
        """Return the request as the server gets it."""
        return self._body(guarded(request), self._think(request))

    def _body(self, request: ChatRequest, think: str | bool | None) -> bytes:
        return encode_chat(self.model_name, request, self._settings(request, think), plain_names=self.profile.thinks)

    def _settings(self, request: ChatRequest, think: str | bool | None) -> dict[str, Any]:
        sampling, profile = request.sampling, self.profile
        options = {
            "num_ctx": self.num_ctx,
            "temperature": profile.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": profile.top_p,
            "top_k": 0 if profile.top_p is not None else None,  # Ollama's own defaults are 0.8, 0.9 and 40
            "num_predict": sampling.max_tokens,
            "seed": sampling.seed,
            "stop": list(request.stop) or None,
        }
        settings = {
            "options": {key: value for key, value in options.items() if value is not None},
            "keep_alive": self._keep_alive,
            "truncate": False,
            "shift": False,
        }
        return settings if think is None else settings | {"think": think}

    async def _exchange(self, path: str, body: bytes, collector: OllamaCollector) -> AsyncIterator[Piece]:
        """Yield one reply; where it does not begin, the reason for waiting."""
        exchange = self.server.exchange(path, body, lambda response: read_objects(response, self.name), collector)
        async with closing(exchange) as pieces:
            first = asyncio.ensure_future(_next(pieces))
            reason: asyncio.Future[str] | None = None
            try:
                seconds = SILENT_SECONDS
                while not (await asyncio.wait({first}, timeout=seconds))[0]:
                    seconds = NOTICE_SECONDS
                    reason = asyncio.ensure_future(self._reason())
                    await asyncio.wait({first, reason}, return_when=asyncio.FIRST_COMPLETED)
                    if not first.done():
                        yield Waiting(seconds, reason.result())
            finally:
                await _end(first, reason)
            if (piece := first.result()) is None:
                return
            yield piece
            async for piece in pieces:
                yield piece

    async def _reason(self) -> str:
        loaded = None if is_cloud(self.model_name) else await loaded_context(self.server, self.model_name)
        if loaded == 0:
            return f"ollama is loading {self.model_name}"
        return f"{self.model_name} is reading the prompt, or others are before it"

    async def _verify(self, request: ChatRequest, reply: Reply, load_seconds: float) -> None:
        """Look whether the model had room for the prompt. Raises RequestTooLarge where a part of it was not read."""
        await self._look(anew=load_seconds > LOADED_ANEW)
        if not self.profile.thinks:
            return
        if error := await cut_prompt(request.messages, request.functions, reply, self._loaded):
            self._shrink(max(reply.usage.input_tokens, self._loaded or 0))
            raise error

    async def _look(self, *, anew: bool = False) -> None:
        """Ask with which context the model is loaded, where that is not known or it was loaded anew."""
        if (self._loaded is not None and not anew) or is_cloud(self.model_name):
            return
        before = self._loaded
        self._loaded = await loaded_context(self.server, self.model_name) or before
        if self._loaded is not None and self._loaded < self.num_ctx and self._loaded != before:
            self._tell(
                f"ollama has loaded {self.model_name} with {self._loaded:,} tokens of context, not {self.num_ctx:,}"
            )
            self._shrink(self._loaded)

    async def _learned(self, error: ProviderError) -> ProviderError:
        """Return an error in the project's words, with what it says of the server kept."""
        read = explained(error, self.model_name)
        if isinstance(read, RequestTooLarge):
            self._shrink(overflow(ProviderError("", detail=read.detail)).window or 0)
            await self._look()
        elif isinstance(read, ToolsRefused):
            capabilities = replace(self.profile.capabilities, tools=False)
            self.profile = replace(self.profile, capabilities=capabilities)
        return read

    def _shrink(self, window: int) -> None:
        """Take the window for smaller than was asked for: the next prompts are made to fit it."""
        if 0 < window < self.profile.window:
            self.profile = replace(self.profile, window=window)


async def _end(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel what still runs, and wait for its end."""
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _next(pieces: AsyncIterator[Piece]) -> Piece | None:
    return await anext(pieces, None)


def _refuses_thought(error: ProviderError) -> bool:
    said = str(error.detail.get("message") or "").lower()
    return error.status == 400 and ("does not support thinking" in said or "think value" in said)
