"""A conversation with a model: append-only, asked for the next reply, and shortened where it outgrows the window."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from miyabi_cli.agent.allowance import Allowance
from miyabi_cli.agent.compaction import Digest, compact, head_length, shortened
from miyabi_cli.agent.repetition import RepetitionWatch
from miyabi_cli.errors import BrokenReply, ProviderError, RequestTooLarge
from miyabi_cli.events import (
    ConversationCompacted,
    Event,
    MessageAdded,
    ProgressMade,
    ProviderSwitched,
    ReplyStreaming,
)
from miyabi_cli.llm.counting import bound_of_messages, upper_bound
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import closing
from miyabi_cli.messages import (
    SERVERS_CHOICE,
    ChatRequest,
    Function,
    Message,
    Reply,
    Sampling,
    Switched,
    Usage,
    Waiting,
)

REPETITION = "repetition"  # the finish reason of a reply that miyabi itself has cut off
REPLY_TOKENS = 4_096  # where nothing says how long a reply may become
LEAST_REPLY = 512
TIMES_SHORTENED = 2
CALLS_LISTED = 100
CHARACTERS_PER_TOKEN = 4
THOUGHT_SHOWN = 2_000

Patch = Callable[[], Awaitable[str]]


async def no_patch() -> str:
    """Tell of no change."""
    return ""


@dataclass(frozen=True, slots=True)
class Question:
    """What goes with the messages of one request; see `Provider.chat`."""

    functions: tuple[Function, ...] = ()
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()


@dataclass(slots=True)
class Conversation:
    """`messages` begins with the head of the prompt, which stays as it is, and is only appended to between two
    shortenings: a server's prefix cache serves all of it.

    `patch` gives the change so far, `calls` a line for each call: they stand for what a shortening takes away.
    """

    provider: Provider
    messages: list[Message]
    allowance: Allowance
    sampling: Sampling = SERVERS_CHOICE
    attempt: int = 1
    patch: Patch = no_patch
    calls: deque[str] = field(default_factory=lambda: deque(maxlen=CALLS_LISTED))
    _feedback: str = ""
    # The tokens of the first `_counted` messages, as the server counted them; 0: not known.
    _known: int = 0
    _counted: int = 0
    _reply_limit: int | None = None

    def tell(self, text: str, *, lasting: bool = False) -> tuple[Event, ...]:
        """Say something to the model; return what happened. What is `lasting` outlives a shortening."""
        message = Message("user", text)
        self.messages.append(message)
        if lasting:
            self._feedback = text
        return (MessageAdded(self.attempt, message, lasting),)

    def recall(self, told: MessageAdded) -> None:
        """Have said again what the log of an earlier process holds."""
        self.tell(told.message.content, lasting=told.lasting)

    def reopen(self, messages: Sequence[Message]) -> None:
        """Go on with other messages in the place of those so far."""
        self.messages[:] = messages
        self._known = self._counted = 0

    async def ask(self, question: Question) -> AsyncGenerator[Event | Reply, None]:
        """Yield what streams in, and last the reply, whose message the caller appends before anything else.

        The conversation is shortened first where it would not fit, and where the server says so. Raises ProviderError;
        its usage is on the account by then.
        """
        size = await self._size(question)
        if not self._fits(size):
            for event in await self._shorten(size, self._room() // 2):
                yield event
        for _ in range(TIMES_SHORTENED):
            asked, window = self._reply_tokens(), self.provider.max_tokens
            try:
                async with contextlib.aclosing(self._reply(question)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except RequestTooLarge:
                size = self._estimate(question)
                events = await self._shorten(size, min(self._room(), size) // 2)
                if not events or self.provider.max_tokens >= window:
                    self._reply_limit = max(asked // 4, LEAST_REPLY)
                if not events and self._reply_tokens() >= asked:
                    raise
            for event in events:
                yield event
        async with contextlib.aclosing(self._reply(question)) as pieces:
            async for piece in pieces:
                yield piece

    async def _reply(self, question: Question) -> AsyncGenerator[Event | Reply, None]:
        """Ask once."""
        request = ChatRequest(
            self.messages, question.functions, self._bounded_sampling(), question.schema, stop=question.stop
        )
        watch = RepetitionWatch()
        reply: Reply | None = None
        try:
            async with closing(self.provider.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        reply = piece
                        self.learn_size(reply)
                    elif isinstance(piece, Waiting):
                        yield ProgressMade(f"waiting {piece.seconds:.0f} s: {piece.reason}")
                    elif isinstance(piece, Switched):
                        self._known = self._counted = 0  # the next server counts by another vocabulary
                        yield ProviderSwitched(self.attempt, piece.failed, piece.provider, piece.model, piece.reason)
                    else:
                        yield ReplyStreaming(self.attempt, piece)
                        if piece.thought and watch.repeats(piece.thought):
                            reply = self._cut_off(watch)
                            break
        except ProviderError as error:
            self.allowance.spend(error.usage)
            raise
        if reply is None:
            raise BrokenReply(f"{self.provider.name} sent no reply")
        self.allowance.spend(reply.usage)
        yield reply

    def _cut_off(self, watch: RepetitionWatch) -> Reply:
        """Return the reply whose stream is left because its thought goes round in a circle; nobody counts it for us."""
        usage = Usage(1, self._known, output_tokens=watch.characters // CHARACTERS_PER_TOKEN, cost_usd=None)
        return Reply("", shortened(watch.tail, THOUGHT_SHOWN), usage=usage, finish_reason=REPETITION)

    def learn_size(self, reply: Reply) -> None:
        """Note what the server counted, before the reply is appended.

        The usage of several tries holds the prompt several times, and what miyabi has cut off was not counted.
        """
        usage = reply.usage
        if usage.requests == 1 and usage.input_tokens and reply.finish_reason != REPETITION:
            self._known = usage.input_tokens + usage.output_tokens
            self._counted = len(self.messages) + 1

    async def _size(self, question: Question) -> int:
        """Return the prompt's tokens or an upper bound; counted exactly only where the bound is too much."""
        size = self._estimate(question)
        if self._fits(size):
            return size
        with contextlib.suppress(ProviderError):
            counted = await self.provider.count_tokens(self.messages, question.functions)
            if counted < size:
                size = self._known = counted
                self._counted = len(self.messages)
        return size

    def _estimate(self, question: Question) -> int:
        if self._known:
            return self._known + bound_of_messages(self.messages[self._counted :])
        schema = len(json.dumps(question.schema)) if question.schema else 0
        return upper_bound(self.messages, question.functions) + schema

    def _fits(self, size: int) -> bool:
        return size <= self._room()

    def _room(self) -> int:
        """Return the tokens that a prompt may have; the window may be learnt while the run goes on."""
        return self.provider.max_tokens - self._reply_tokens()

    def _reply_tokens(self) -> int:
        window = self.provider.max_tokens
        return min(self.sampling.max_tokens or REPLY_TOKENS, window // 2, self._reply_limit or window)

    def _bounded_sampling(self) -> Sampling:
        if self.sampling.max_tokens is None and self._reply_limit is None:
            return self.sampling
        return replace(self.sampling, max_tokens=self._reply_tokens())

    async def _shorten(self, size: int, target: int) -> tuple[Event, ...]:
        """Shorten a conversation of `size` tokens to about `target`; return what happened, () where nothing can go."""
        before, bound = len(self.messages), bound_of_messages(self.messages)
        if before <= head_length(self.messages):
            return ()
        digest = Digest(await self.patch(), tuple(self.calls), self._feedback)
        budget = target * bound // size  # bytes, at as many a token as this conversation has
        messages = compact(self.messages, digest, budget)
        left = bound_of_messages(messages)
        if left >= bound:
            return ()
        self.reopen(messages)
        return (ConversationCompacted(self.attempt, messages, before, size, size * left // bound),)
