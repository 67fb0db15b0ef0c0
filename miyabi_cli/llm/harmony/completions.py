"""The Harmony wire: token ids to a completions server, and the tokens that come back read as gpt-oss's own language.

The body begins with what is the same in every request, then the prompt, which only grows, then what may vary.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from miyabi_cli.errors import ProviderError, RequestTooLarge
from miyabi_cli.llm.chat.chunks import read_chunks
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.chat.holding import response_format
from miyabi_cli.llm.harmony.collecting import HarmonyCollector
from miyabi_cli.llm.harmony.openings import opened, opening_of_answer, opening_of_call
from miyabi_cli.llm.harmony.rendering import Head, Prompt, render
from miyabi_cli.llm.harmony.tokens import STOP_TOKENS
from miyabi_cli.llm.objects.validating import obeys
from miyabi_cli.llm.profiles import Profile
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.windows import overflow
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Piece, Reply, Timing

LEAST_REPLY = 1024  # tokens of thought and answer under which asking is not worth it


@dataclass(slots=True)
class Window:
    """`tokens`: prompt, thought and answer together; the model's own until the server says it."""

    tokens: int

    def learn(self, tokens: int | None) -> bool:
        """Take a server's word, where it said one; say whether that was news."""
        news = tokens is not None and tokens != self.tokens
        self.tokens = tokens or self.tokens
        return news

    def room(self, prompt: int, wanted: int | None) -> int:
        """Return how many tokens a reply to a prompt of `prompt` tokens may have, at most `wanted`.

        Raises RequestTooLarge where what is left is less than wanted and too little for a reply.
        """
        left = self.tokens - prompt
        if left < min(LEAST_REPLY, wanted or LEAST_REPLY):
            message = f"the prompt has {prompt:,} tokens, too many for a window of {self.tokens:,}"
            raise RequestTooLarge(message, hint="use a model with a larger window, or a smaller task")
        return left if wanted is None else min(wanted, left)


@dataclass(frozen=True, slots=True)
class Completions:
    """Chats with gpt-oss at a `/v1/completions` that takes token ids. `date` (YYYY-MM-DD) stands in each prompt."""

    server: Server
    model: str
    profile: Profile
    window: Window
    date: str

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield deltas and, last, the reply.

        The model thinks and answers freely. Where its answer does not obey the schema, or it does not call the
        function that is forced, it is asked once more, with its thought kept and the header of the answer written for
        it, held by the server's grammar: that holds from the first token on, and so leaves no room to think.
        """
        head = Head(request.functions, request.sampling.effort, self.date, request.schema)
        prompt = await asyncio.to_thread(render, request.messages, head)
        async with aclosing(self._ask(request, prompt)) as free:
            async for piece in free:
                if isinstance(piece, Reply):
                    reply = as_answer(request, piece)
                else:
                    yield piece
        if is_as_asked(request, reply):
            yield reply
            return
        async with aclosing(self._hold(request, prompt, reply)) as held:
            async for following in held:
                yield following

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        """Return the tokens of a prompt."""
        head = Head(functions, date=self.date)
        return (await asyncio.to_thread(render, messages, head)).count

    async def _hold(self, request: ChatRequest, prompt: Prompt, free: Reply) -> AsyncGenerator[Piece, None]:
        """Ask again for what the free reply did not give; the reply has the thought and the usage of both."""
        functions = request.functions
        opening = opening_of_call(request.forced, functions) if request.forced else opening_of_answer()
        prompt = opened(prompt, opening, free.thought)
        try:
            async with aclosing(self._ask(request, prompt, opening)) as pieces:
                async for piece in pieces:
                    yield _both(free, piece) if isinstance(piece, Reply) else piece
        except ProviderError as error:
            error.usage += free.usage
            raise

    async def _ask(
        self, request: ChatRequest, prompt: Prompt, opening: Sequence[int] = ()
    ) -> AsyncGenerator[Delta | Reply, None]:
        """Send one prompt; what follows an opening is held to the schema that is asked for.

        A server that tells its true window by a refusal is asked again with a smaller cap.
        """
        schema = asked_schema(request) if opening else None
        wanted = request.sampling.max_tokens
        for last in (False, True):
            room = self.window.room(prompt.count, wanted)
            body = self.body(request, prompt, room, schema)
            collector = HarmonyCollector(
                request.functions,
                schema=request.schema is not None,
                stop=request.stop,
                opening=opening,
                prompt_tokens=prompt.count,
            )
            exchange = self.server.exchange("v1/completions", body, self._chunks, collector)
            try:
                async with aclosing(exchange) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except RequestTooLarge as error:
                self.window.learn(overflow(error).window)  # no news where the list of models has told it meanwhile
                if last or self.window.room(prompt.count, wanted) >= room:
                    raise

    def _chunks(self, response: Any) -> AsyncIterator[dict[str, Any]]:
        return read_chunks(response, self.server.name)

    def body(self, request: ChatRequest, prompt: Prompt, room: int, schema: Mapping[str, Any] | None = None) -> bytes:
        """Return the request as the server gets it, for a reply of at most `room` tokens."""
        sampling = request.sampling
        head = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop_token_ids": list(STOP_TOKENS),
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        options = {
            "max_tokens": room,
            "temperature": self.profile.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": self.profile.top_p,
            "seed": sampling.seed,
            "response_format": None if schema is None else response_format(schema),
        }
        tail = encode_json({key: value for key, value in options.items() if value is not None})
        return encode_json(head)[:-1] + b',"prompt":' + prompt.json + b"," + tail[1:]


def asked_schema(request: ChatRequest) -> Mapping[str, Any] | None:
    """Return the JSON Schema that a reply's text, or the arguments of the forced call, is to obey."""
    if not request.forced:
        return request.schema
    found = [function.parameters for function in request.functions if function.name == request.forced]
    return found[0] if found else None


def is_as_asked(request: ChatRequest, reply: Reply) -> bool:
    """Say whether a reply obeys its request's schema, or calls the function that is forced with valid arguments."""
    schema = asked_schema(request)
    if schema is None:
        return True
    if not request.forced:
        return not reply.tool_calls and obeys(reply.text, schema)
    return any(call.name == request.forced and obeys(call.arguments, schema) for call in reply.tool_calls)


def as_answer(request: ChatRequest, reply: Reply) -> Reply:
    """Return a call as the answer that it is, where JSON was asked for and no function was offered."""
    if request.schema is None or request.functions or reply.text.strip() or not reply.tool_calls:
        return reply
    return replace(reply, text=reply.tool_calls[0].arguments, tool_calls=(), finish_reason="stop")


def _both(free: Reply, held: Reply) -> Reply:
    """Return the held reply with what the free one cost and thought before it."""
    one, other = free.timing, held.timing
    first = other.first_token if one.first_token is None else one.first_token
    pauses = [pause for pause in (one.longest_pause, other.longest_pause) if pause is not None]
    timing = Timing(first, one.total + other.total, other.between_tokens, max(pauses, default=None))
    return replace(held, thought=free.thought, usage=free.usage + held.usage, timing=timing)
