"""vLLM: gpt-oss over raw Harmony where completions are served, any other model over chat completions."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderRefused, RequestTooLarge
from miyabi_cli.http import one_line
from miyabi_cli.llm.chat.dialects import VLLM
from miyabi_cli.llm.chat.encoding import encode_request
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.harmony.completions import Completions, Window, as_answer
from miyabi_cli.llm.harmony.offered import Offered
from miyabi_cli.llm.openai import ChatCompletions, Tell
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import CONTROL_SECONDS, Server
from miyabi_cli.llm.windows import listed_window
from miyabi_cli.messages import ChatRequest, Function, Message, Piece, Reply, ToolCall

WireChoice = Literal["auto", "harmony", "chat"]

# What a server says to completions, or to token ids for a prompt, that it does not have.
NOT_SERVED = frozenset({400, 404, 405, 415, 422, 501})
MOST_MODELS = 100
IDLE_SECONDS = 30.0


def open_vllm(
    endpoint: str = "http://localhost:8000",
    model: str = "openai/gpt-oss-20b",
    *,
    key: str | None = None,
    wire: WireChoice = "auto",
    idle: float | None = IDLE_SECONDS,
    profile: Profile | None = None,
    retries: Retries | None = None,
    date: str = "",
    tell: Tell = lambda _: None,
) -> Provider:
    """Return a model behind a vLLM server.

    `endpoint` is the server's base, with or without `/v1`; `idle` the seconds that may pass without a byte. `wire`:
    `harmony` sends token ids and reads the model's own language, `chat` speaks chat completions; `auto` takes Harmony
    for gpt-oss and goes on by chat where completions are not served. `date` (YYYY-MM-DD, by default today's) is what
    gpt-oss is told for the whole life of the provider: a changed prompt is a lost cache. `tell` hears once of what the
    server does not have and is left out.
    """
    server = Server.at("vllm", endpoint, key=key, idle=idle)
    date = date or datetime.now(UTC).astimezone().date().isoformat()
    return Provider(Vllm(server, model, profile or profile_of(model), wire, date, tell), retries=retries)


class Vllm:
    """A `Wire` over vLLM's two routes."""

    def __init__(
        self, server: Server, model: str, profile: Profile, wire: WireChoice, date: str, tell: Tell = lambda _: None
    ) -> None:
        self.server = server
        self.name = server.name
        self.model_name = model
        self.profile = profile
        self._window = Window(profile.window)
        self._completions = Completions(server, model, profile, self._window, date)
        self._chat = ChatCompletions(server, model, profile, VLLM, tell)
        self._tell = tell
        self._is_gpt_oss = is_gpt_oss(model)
        self._harmony = wire == "harmony" or (wire == "auto" and self._is_gpt_oss)
        self._is_auto = wire == "auto"
        self._spoken = False  # Harmony, with success
        self._listing: asyncio.Task[tuple[str, ...]] | None = None
        self._calls_came = False  # of any conversation: then the server has its flags

    @property
    def max_tokens(self) -> int:
        told = self._chat.max_tokens  # by a refusal
        return told if told != self.profile.window else self._window.tokens

    @property
    def capabilities(self) -> Capabilities:
        """Over Harmony a function is forced by the header that is written for the model."""
        return replace(self.profile.capabilities, forced=True) if self._harmony else self._chat.capabilities

    @property
    def route(self) -> Completions | ChatCompletions:
        """The route that is taken: raw Harmony, or chat completions."""
        return self._completions if self._harmony else self._chat

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        if self._listing is None:  # beside the first request: nothing waits for it
            self._listing = asyncio.ensure_future(self._list_models())
        try:
            async with aclosing(self._either(request)) as pieces:
                async for piece in pieces:
                    yield piece
        except ProviderRefused as error:
            if too_large := exact_overflow(error):
                raise too_large from None
            if error.status == 404 and (served := await self._listing):
                error.hint = f"the server has {', '.join(served[:5])}: choose one by --model"
            raise

    async def _either(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Speak Harmony, and chat from the moment on that it turns out not to be served while chat is."""
        if self._harmony:
            try:
                async with aclosing(self._completions.stream(request)) as pieces:
                    async for piece in pieces:
                        self._spoken = True
                        yield piece
                return
            except ProviderError as error:
                if not self._is_auto or self._spoken or not says_not_served(error):
                    raise
        async with aclosing(self._by_chat(request)) as pieces:
            async for piece in pieces:
                if self._harmony:
                    self._harmony = False
                    self._tell("vllm serves no raw Harmony: chat completions are used")
                yield piece

    async def _by_chat(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        async with aclosing(self._chat.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reply):
                    piece = unleaked(request, piece) if self._is_gpt_oss else piece
                    self._check(request, piece)
                yield piece

    def _check(self, request: ChatRequest, reply: Reply) -> None:
        """Raise BrokenReply for what the server lost of a reply: it says nothing of it, and it looks like an end.

        The token at which the model stopped gives a call away; without its name, so does a second empty reply in a row
        of one conversation.
        """
        self._calls_came = self._calls_came or bool(reply.tool_calls)
        ended = reply.finish_reason in ("stop", "tool_calls") and not reply.tool_calls
        empty = ended and not reply.text.strip() and reply.usage.output_tokens > 0
        if empty and request.schema is not None:
            raise BrokenReply("vllm's chat route lost the answer: nothing came of it", usage=reply.usage)
        given_away = ended and reply.finish_reason == "tool_calls"
        if request.functions and (given_away or (empty and was_empty_before(request.messages))):
            raise lost_call(reply, self._calls_came)

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncGenerator[Piece, None]:
        return self._chat.infill(prefix, suffix, max_tokens, stop)

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        """Count a prompt: exactly over Harmony, by the server for other models, from above where it does not."""
        if self._is_gpt_oss or self._harmony:
            return await self._completions.count(messages, functions)
        body = encode_request(
            model=self.model_name, messages=messages, functions=functions, dialect=VLLM, streamed=False
        )
        try:
            count = (await self.server.ask("tokenize", body)).get("count")
        except ProviderError:
            count = None
        return count if isinstance(count, int) and count > 0 else upper_bound(messages, functions)

    async def close(self) -> None:
        if self._listing is not None:
            self._listing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listing
        await self.server.close()

    async def _list_models(self) -> tuple[str, ...]:
        """Return the names that the server lists, and take its word for the window; nothing where it does not."""
        try:
            async with asyncio.timeout(CONTROL_SECONDS):
                answer = await self.server.ask("v1/models")
        except (ProviderError, TimeoutError):
            return ()
        self._window.learn(listed_window(answer, self.model_name))
        listed = answer.get("data")
        models = [one for one in listed[:MOST_MODELS] if isinstance(one, dict)] if isinstance(listed, list) else []
        return tuple(one_line(str(one["id"]))[:100] for one in models if one.get("id"))


def is_gpt_oss(model: str) -> bool:
    """Say whether a model speaks Harmony, by its name."""
    return "gpt-oss" in model.lower()


def was_empty_before(messages: Sequence[Message]) -> bool:
    """Say whether a conversation's last reply had neither text nor calls."""
    replies = (message for message in reversed(messages) if message.role == "assistant")
    last = next(replies, None)
    return last is not None and not last.content.strip() and not last.tool_calls


def says_not_served(error: ProviderError) -> bool:
    """Say whether a failure means that the route, or a prompt of token ids, is not served there."""
    if isinstance(error, BrokenReply):  # a server that answers every path with chat completions
        return str(error.detail.get("object", "")).startswith("chat.completion")
    about_model = error.status == 404 and error.detail.get("param") == "model"
    return isinstance(error, ProviderRefused) and error.status in NOT_SERVED and not about_model


def exact_overflow(error: ProviderRefused) -> RequestTooLarge | None:
    """Return the overflow that a refusal of the cap is: a prompt exactly as long as the window leaves a cap of 0."""
    if error.status != 400 or "must be at least 1, got 0" not in error.message:
        return None
    hint = "use a model with a larger window, or a smaller task"
    return RequestTooLarge(error.message, hint=hint, usage=error.usage, status=400, detail=error.detail)


def unleaked(request: ChatRequest, reply: Reply) -> Reply:
    """Return a chat reply as the model meant it, where vLLM's parser of Harmony errs.

    Arguments without a recipient are the text of a reply that ended in a call, and the header `final json` of an
    answer is read as a call of `json`. Raw Harmony in the text is read before, as from any server.
    """
    reply = as_answer(request, reply)
    if reply.tool_calls:
        return reply
    if reply.finish_reason == "tool_calls" and (name := Offered(request.functions).fitting(reply.text)):
        call = ToolCall(f"call_{secrets.token_hex(6)}", name, reply.text.strip())
        return replace(reply, text="", tool_calls=(call,))
    return reply


def lost_call(reply: Reply, calls_came: bool) -> BrokenReply:
    """Return the error for a reply whose call vLLM did not read."""
    flags = "start vLLM with --tool-call-parser openai --enable-auto-tool-choice"
    hint = "llm.vllm.wire: harmony loses no call" if calls_came else f"{flags}, or set llm.vllm.wire: harmony"
    return BrokenReply("vllm's chat route lost a tool call: nothing came of it", hint=hint, usage=reply.usage)
