"""Groq: chat completions with strict fields, budgets per minute, and failed calls that are read all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderRefused, RequestTooLarge
from miyabi_cli.http import one_line
from miyabi_cli.llm.budgets import read_spent
from miyabi_cli.llm.chat.dialects import GROQ
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.chat.failed_generation import SCHEMA_FAILED, feedback, is_failed_generation, read_failed
from miyabi_cli.llm.chat.strict import NotStrict, strict_schema, without_nulls
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.openai import ChatCompletions, Tell
from miyabi_cli.llm.pacing import Limiter, Reservation, shared_limiter
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import Server, Stopwatch
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Piece, Reply, Usage

ENDPOINT = "https://api.groq.com/openai"
MODEL = "openai/gpt-oss-20b"
RETRIES = Retries(longest_wait=90.0)  # a budget of a minute may take a minute to come back
MOST_FUNCTIONS = 128
TRIES = 3  # of a reply that nobody can read; each is told what was wrong with the one before
SHRINKS = 3
LEAST_ANSWER = 512  # tokens of thought and answer under which asking is not worth it
USUAL_ANSWER = 2048  # tokens that are reserved where a request names no cap
CHARACTERS_PER_TOKEN = 3  # fewer than any text of a conversation has in the mean
HEADROOM = 50  # of so many parts of a minute's budget one stays free: no two clocks and counts are quite the same
DOUBT = 4  # by this part of a prompt our count may be wrong before the server's own is known
ANSWER = "answer"
IDLE_SECONDS = 30.0

_sending: ContextVar[Reservation | None] = ContextVar("sending", default=None)


def open_groq(
    key: str | None,
    model: str = MODEL,
    *,
    endpoint: str = ENDPOINT,
    idle: float | None = IDLE_SECONDS,
    profile: Profile | None = None,
    retries: Retries = RETRIES,
    limiter: Limiter | None = None,
    tell: Tell = lambda _: None,
) -> Provider:
    """Return a model on Groq.

    `endpoint`: the base, with or without `/v1`; `idle`: the seconds that may pass without a byte. All providers of a
    process that have the same endpoint, key and model share one `limiter`. `tell` hears once of what
    Groq refuses and is left out. Raises SettingsError for a wrong endpoint.
    """
    server = Server.at("groq", endpoint, key=key, idle=idle)
    chat = ChatCompletions(server, model, profile or profile_of(model), GROQ, tell)
    return Provider(Groq(chat, limiter or shared_limiter(server.endpoint, key or "", model)), retries=retries)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens of a prompt; `own`: as we count them by the model's vocabulary, None where they are just guessed."""

    tokens: int
    own: int | None = None


class Groq:
    """A `Wire` over Groq's chat completions: paced in advance, shrunk to the budget, salvaged where they fail."""

    def __init__(self, chat: ChatCompletions, limiter: Limiter) -> None:
        self.name = chat.name
        self.model_name = chat.model_name
        self.profile = chat.profile
        self.route = self._chat = chat
        self._limiter = limiter
        self._counts = "gpt-oss" in chat.model_name.lower()
        self._excess: int | None = None  # how many more tokens the server counts than we do, once that is known
        chat.server.observe = self._observe

    @property
    def max_tokens(self) -> int:
        """The window, or what a minute allows where that is less: no request may have more."""
        return min(self._chat.max_tokens, self._limiter.tokens_per_minute or self._chat.max_tokens)

    @property
    def capabilities(self) -> Capabilities:
        return self._chat.capabilities

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of one reply. Raises ProviderRefused for more functions than Groq takes."""
        if len(request.functions) > MOST_FUNCTIONS:
            message = f"groq takes at most {MOST_FUNCTIONS} functions, and the request has {len(request.functions)}"
            raise ProviderRefused(message, hint="offer fewer functions")
        async with aclosing(self._readable(held(request))) as pieces:
            async for piece in pieces:
                yield answered(piece, request) if isinstance(piece, Reply) else piece

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        return self._chat.infill(prefix, suffix, max_tokens, stop)

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        """Count as gpt-oss does, mended by what the server counted last; for other models from above."""
        if not self._counts:
            return upper_bound(messages, functions)
        return await self._exact(messages, functions) + max(0, self._excess or 0)

    async def close(self) -> None:
        await self._chat.close()

    def _observe(self, headers: httpx.Headers) -> None:
        self._limiter.observe(headers, _sending.get())

    async def _readable(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield a reply; where the server refuses what the model wrote, read that, or tell the model and ask again."""
        spent = Usage()
        asked = request
        for last in (*[False] * (TRIES - 1), True):
            seen: list[Delta] = []
            watch = Stopwatch()
            try:
                async with aclosing(self._fitting(asked)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Delta):
                            watch.tick()
                            seen.append(piece)
                        yield replace(piece, usage=piece.usage + spent) if isinstance(piece, Reply) else piece
                return
            except ProviderError as error:
                spent += error.usage
                error.usage = spent
                if not is_failed_generation(error):
                    raise
                text, thought = ("".join(getattr(delta, part) for delta in seen) for part in ("text", "thought"))
                reply = read_failed(error, request.functions, forced=request.forced, text=text, thought=thought)
                # A call where there is nothing to call helps nobody: the model is told so, while it may try again.
                if reply and (last or not reply.tool_calls or request.functions or request.schema):
                    yield replace(reply, usage=spent, timing=watch.timing())
                    return
                if last or error.detail.get("code") == SCHEMA_FAILED:
                    raise unreadable(error) from None
                told = feedback(error, request.functions, thought)
                asked = replace(request, messages=[*request.messages, *told])

    async def _fitting(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield a reply whose cap fits into the budget of a minute; that is learned from a 413, and asked again."""
        prompt = await self._prompt_tokens(request)
        wanted = request.sampling.max_tokens
        for last in (*[False] * (SHRINKS - 1), True):
            expected = prompt.tokens + (self._cap(prompt, wanted) or USUAL_ANSWER)
            async with aclosing(self._limiter.admit(expected)) as waits:
                async for wait in waits:
                    if isinstance(wait, Reservation):
                        reservation = wait
                    else:
                        yield wait
            cap = wanted
            try:
                cap = self._cap(prompt, wanted)  # once more: others may have learned the limit in the meantime
                async with aclosing(self._sent(request, prompt, cap, reservation)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except RequestTooLarge as error:
                spent = read_spent(error)
                if spent is None or spent.requested is None or spent.unit != "tokens":
                    raise
                prompt = await self._counted(request, prompt)
                counted = max(0, spent.requested - cap) if cap else prompt.tokens
                self._learn(counted, prompt)
                if last or spent.limit - counted < LEAST_ANSWER:
                    raise past_budget(counted, spent.limit, error) from None
                wanted = wanted or spent.limit - counted
                prompt = replace(prompt, tokens=counted)
            finally:
                self._limiter.settle(reservation, None)

    async def _sent(
        self, request: ChatRequest, prompt: Prompt, cap: int | None, reservation: Reservation
    ) -> AsyncGenerator[Piece, None]:
        """Send an admitted request, and settle what it really took."""
        written = 0
        capped = replace(request, sampling=replace(request.sampling, max_tokens=cap))
        _sending.set(reservation)
        try:
            async with aclosing(self._chat.stream(capped)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        self._limiter.settle(reservation, piece.usage.input_tokens + piece.usage.output_tokens)
                        self._learn(piece.usage.input_tokens, prompt)
                    written += isinstance(piece, Delta)
                    yield piece
        except ProviderError as error:
            if is_failed_generation(error):
                generation = len(str(error.detail.get("failed_generation") or "")) // CHARACTERS_PER_TOKEN
                self._limiter.settle(reservation, prompt.tokens + max(written, generation))
            else:
                self._limiter.refused(reservation, error)
            raise

    def _cap(self, prompt: Prompt, wanted: int | None) -> int | None:
        """Return the cap that fits beside a prompt into what a minute allows. Raises RequestTooLarge."""
        wanted = min(wanted, GROQ.largest_cap or wanted) if wanted else None
        limit = self._limiter.tokens_per_minute
        if limit is None or wanted is None:
            return wanted
        certain = prompt.own is not None and self._excess is not None
        room = limit - limit // HEADROOM - prompt.tokens - (0 if certain else prompt.tokens // DOUBT)
        if certain and room < min(LEAST_ANSWER, wanted):
            raise past_budget(prompt.tokens, limit, None)
        return min(wanted, max(room, LEAST_ANSWER))

    async def _prompt_tokens(self, request: ChatRequest) -> Prompt:
        """Count a prompt as well as the budget needs it: exactly only where that decides."""
        schema = len(json.dumps(request.schema)) if request.schema else 0
        bound = upper_bound(request.messages, request.functions) + schema
        limit = self._limiter.tokens_per_minute
        wanted = request.sampling.max_tokens or USUAL_ANSWER
        guess = Prompt(bound // CHARACTERS_PER_TOKEN)
        return guess if limit is None or bound + wanted < limit // 10 else await self._counted(request, guess)

    async def _counted(self, request: ChatRequest, guess: Prompt) -> Prompt:
        """Return the exact count in place of a guess, where the model's vocabulary is known."""
        if guess.own is not None or not self._counts:
            return guess
        schema = len(json.dumps(request.schema)) // CHARACTERS_PER_TOKEN if request.schema else 0
        own = await self._exact(request.messages, request.functions) + schema
        return Prompt(own + (self._excess or 0), own)

    async def _exact(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        from miyabi_cli.llm.harmony.rendering import count_tokens

        return await asyncio.to_thread(count_tokens, messages, functions)

    def _learn(self, counted: int, prompt: Prompt) -> None:
        """Take the server's count of a prompt that we counted too."""
        if prompt.own is not None and counted > 0:
            self._excess = counted - prompt.own


def held(request: ChatRequest) -> ChatRequest:
    """Return a request whose schema is strict, or, where it can't be, is that of a function which has to be called."""
    if request.schema is None or request.functions:
        return request
    try:
        return replace(request, schema=strict_schema(request.schema))
    except NotStrict:
        answer = Function(ANSWER, "Give the answer.", request.schema)
        return replace(request, schema=None, functions=(answer,), forced=ANSWER)


def answered(reply: Reply, request: ChatRequest) -> Reply:
    """Return the reply to the request as it was before `held`."""
    if request.schema is None or request.functions:
        return reply
    if reply.tool_calls and not reply.text.strip():
        reply = replace(reply, text=reply.tool_calls[0].arguments, tool_calls=(), finish_reason="stop")
    try:
        given = json.loads(reply.text)
    except (ValueError, RecursionError):
        return reply
    value = without_nulls(given, request.schema)
    return reply if value == given else replace(reply, text=encode_json(value).decode())


def past_budget(prompt: int, limit: int, error: ProviderError | None) -> RequestTooLarge:
    """Return the error for a prompt that no minute's budget holds."""
    return RequestTooLarge(
        f"the prompt has {prompt:,} tokens, and groq allows this key {limit:,} tokens per minute",
        hint="take a smaller task or another provider, or raise the limits of the account",
        usage=error.usage if error else None,
        status=413,
        detail={**(error.detail if error else {}), "limit": limit, "prompt_tokens": prompt},
    )


def unreadable(error: ProviderError) -> ProviderError:
    """Return the error for a reply that the server refused and that nobody could read.

    A call has been asked for again here, so it is none that is retried; a failed schema is.
    """
    if error.detail.get("code") == SCHEMA_FAILED:
        return BrokenReply(error.message, usage=error.usage, status=error.status, detail=error.detail)
    message = f"groq refused what the model wrote, {TRIES} times: {error.detail.get('message') or error.message}"
    hint = "offer simpler functions, or take another model or provider"
    return ProviderError(one_line(message), hint=hint, usage=error.usage, status=error.status, detail=error.detail)
