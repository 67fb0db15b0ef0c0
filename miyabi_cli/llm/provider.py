"""A model behind a server: the operations that the rest of miyabi, and a user's script, ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from miyabi_cli.errors import ProviderError
from miyabi_cli.llm.checking import check_request
from miyabi_cli.llm.pieces import PieceCache
from miyabi_cli.llm.profiles import Capabilities, Profile
from miyabi_cli.llm.retry import Retries, stream_again
from miyabi_cli.messages import (
    SERVERS_CHOICE,
    ChatRequest,
    Function,
    LLMRequest,
    LLMResponse,
    Message,
    Piece,
    Reply,
    Sampling,
)
from miyabi_cli.redaction import NO_SECRETS, Redactor

REDACTED_BYTES = 32 << 20


class Wire(Protocol):
    """How one kind of server is spoken to: one try of one request. Every failure raises a `ProviderError`."""

    @property
    def name(self) -> str: ...

    @property
    def model_name(self) -> str: ...

    @property
    def profile(self) -> Profile:
        """What is known of the model, and how it is best used."""
        ...

    @property
    def max_tokens(self) -> int:
        """The model's window in tokens: prompt, thought and answer together."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do behind this server, as far as the server has shown."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """Yield deltas as they come, and last the whole `Reply`."""
        ...

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        """Yield what belongs between two texts; only asked for where `capabilities.infill`."""
        ...

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        """Return the tokens of a prompt: those that the server would count, or no fewer."""
        ...

    async def close(self) -> None:
        """Give back connections and leases."""
        ...


class Provider:
    """The operations on a model, over any wire. Every failure raises a `ProviderError` with the usage it cost.

    `async with` closes it at the end. The values that `redactor` knows go to no server.
    """

    def __init__(self, wire: Wire, *, retries: Retries | None = None, redactor: Redactor = NO_SECRETS) -> None:
        self.wire = wire
        self.redactor = redactor
        self.retries = retries or Retries()
        self._redacted: PieceCache[tuple[int, Message], Message] = PieceCache(REDACTED_BYTES)

    @property
    def name(self) -> str:
        return self.wire.name

    @property
    def model_name(self) -> str:
        return self.wire.model_name

    @property
    def max_tokens(self) -> int:
        """The model's window in tokens: prompt, thought and answer together."""
        return self.wire.max_tokens

    @property
    def profile(self) -> Profile:
        """What is known of the model, and how it is best used."""
        return self.wire.profile

    @property
    def capabilities(self) -> Capabilities:
        return self.wire.capabilities

    async def generate(self, request: LLMRequest) -> LLMResponse:
        """Answer one prompt."""
        from miyabi_cli.llm.calling import generate

        return await generate(self, request)

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[Function] = (),
        sampling: Sampling = SERVERS_CHOICE,
        schema: Mapping[str, Any] | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[Piece]:
        """Stream a reply: deltas as they come, reasons for waiting, and last the whole `Reply`.

        `schema` is a JSON Schema that the text obeys: the server sees to it where `capabilities.schema`, elsewhere the
        model is told; a `BrokenReply` is raised where the text does not obey all the same. `stop` ends the text. A
        stream that breaks is asked for again: its deltas are for the eye alone, only the `Reply` counts. Raises
        UsageError for functions together with a schema, and for a sampling that can't be.
        """
        pieces = self.stream(ChatRequest(messages, functions, sampling, schema, stop=stop))
        if schema is None or stop:
            return pieces
        from miyabi_cli.llm.calling import held_text

        return held_text(pieces, schema)

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        """Do what `chat` does, for a whole request; whether its text obeys a schema is the caller's to check.

        Raises UsageError for a request that can't be: see `check_request`.
        """
        check_request(request, self.capabilities)
        if self.redactor.forms:
            request = replace(request, messages=self._without_secrets(request.messages))
        return stream_again(lambda: self.wire.stream(request), self.retries)

    def _without_secrets(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as they are sent; each is searched once, however often it goes along."""
        redactor = self.redactor

        def redacted(message: Message) -> Message:
            return self._redacted.made((id(redactor), message), lambda: redactor.redact_data(message), _size)

        return [redacted(message) for message in messages]

    async def call_function(
        self, function: Function, messages: Sequence[Message], sampling: Sampling = SERVERS_CHOICE
    ) -> dict[str, Any]:
        """Return arguments for `function` that are valid against its JSON Schema."""
        from miyabi_cli.llm.calling import call_function

        return await call_function(self, function, messages, sampling)

    async def infill(self, prefix: str, suffix: str, *, max_tokens: int, stop: Sequence[str] = ()) -> Reply:
        """Return what belongs between two texts, where `capabilities.infill`. Raises ProviderError elsewhere."""
        from miyabi_cli.llm.calling import last_reply

        if not self.capabilities.infill:
            raise ProviderError(f"the model {self.model_name} does not fill in the middle of a text")
        before, after = self.redactor.redact(prefix), self.redactor.redact(suffix)
        return await last_reply(stream_again(lambda: self.wire.infill(before, after, max_tokens, stop), self.retries))

    async def count_tokens(self, messages: Sequence[Message], functions: Sequence[Function] = ()) -> int:
        """Return the tokens of a prompt: those that the server would count, or no fewer."""
        return await self.wire.count(messages, functions)

    async def close(self) -> None:
        """Give back connections and leases."""
        await self.wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _size(message: Message) -> int:
    return len(message.content) + len(message.thought) + sum(len(call.arguments) for call in message.tool_calls)
