"""The provider protocol: what the rest of miyabi asks of a model's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from miyabi_cli.llm.profiles import Capabilities, Profile
from miyabi_cli.messages import SERVERS_CHOICE, Delta, Function, LLMRequest, LLMResponse, Message, Reply, Sampling


class Provider(Protocol):
    """Five operations, and what the model can do. Every failure raises a `ProviderError` with the usage it cost."""

    @property
    def name(self) -> str: ...

    @property
    def model_name(self) -> str: ...

    @property
    def max_tokens(self) -> int:
        """The model's window in tokens: prompt, thought and answer together."""
        ...

    @property
    def profile(self) -> Profile:
        """What is known of the model, and how it is best used."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(self, request: LLMRequest) -> LLMResponse:
        """Answer one prompt."""
        ...

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[Function] = (),
        sampling: Sampling = SERVERS_CHOICE,
        schema: Mapping[str, Any] | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[Delta | Reply]:
        """Stream a reply: deltas as they come, and last the whole `Reply`.

        `schema` is a JSON Schema that the text obeys (where `capabilities.schema`); `stop` ends the text.
        """
        ...

    async def call_function(
        self, function: Function, messages: Sequence[Message], sampling: Sampling = SERVERS_CHOICE
    ) -> dict[str, Any]:
        """Return arguments for `function` that are valid against its JSON Schema."""
        ...

    async def infill(self, prefix: str, suffix: str, *, max_tokens: int, stop: Sequence[str] = ()) -> Reply:
        """Return what belongs between two texts, where `capabilities.infill`. Raises ProviderError elsewhere."""
        ...

    async def close(self) -> None:
        """Give back connections and leases."""
        ...
