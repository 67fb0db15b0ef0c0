"""What is said to a model and what comes back: plain frozen data, no imports of the project."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Effort = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money; `cost_usd` is None where a price is not known."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to run a tool; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation.

    `thought` and `tool_calls` belong to the assistant; `tool_call_id` and `tool_name` to a tool's result.
    """

    role: Role
    content: str
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a model may call; `parameters` is a JSON Schema of type object.

    `namespace` is the family that gpt-oss knows it by: over raw Harmony `exec` of `container` is `container.exec`.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; None leaves the choice to the server."""

    temperature: float | None = None
    max_tokens: int | None = None
    effort: Effort | None = None
    seed: int | None = None


SERVERS_CHOICE = Sampling()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """All that one reply is asked for with.

    `schema` is a JSON Schema that the text is to obey; `forced` names the function that has to be called; `stop` ends
    the text. Never a schema together with functions.
    """

    messages: Sequence[Message]
    functions: Sequence[Function] = ()
    sampling: Sampling = SERVERS_CHOICE
    schema: Mapping[str, Any] | None = None
    forced: str = ""
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply."""

    text: str = ""
    thought: str = ""
    tool_text: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reply that does not come yet: `seconds` until the server is asked (again), and why, for a person."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Switched:
    """Another provider takes over: the names of the one that failed and of the next, its model, and why."""

    failed: str
    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the request's first byte to the first delta, and to the end of the reply.

    `between_tokens` is the mean between two deltas, `longest_pause` the longest; None with fewer than two.
    """

    first_token: float | None = None
    total: float = 0.0
    between_tokens: float | None = None
    longest_pause: float | None = None


_CUT = re.compile(
    r"length|max_|limit|filter|error|abort|cancel|incomplete|timeout|repetition|safety|recitation|unload", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; `finish_reason` is the server's word: stop, length, tool_calls…"""

    text: str
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    timing: Timing = field(default_factory=Timing)

    @property
    def is_cut(self) -> bool:
        """Whether it ended before its end, as far as the server's word tells: what it holds must not be acted upon.

        The words are those of OpenAI, vLLM (abort), Mistral (model_length), Ollama, Google and others.
        """
        return _CUT.search(self.finish_reason) is not None

    def message(self) -> Message:
        """Return the reply as it stands in the history."""
        return Message("assistant", self.text, thought=self.thought, tool_calls=self.tool_calls)


# What streams in: pieces of the reply, reasons for waiting and changes of the provider, and last the whole `Reply`.
Piece = Delta | Waiting | Switched | Reply


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """A single prompt: temperature 0 to 2, `max_tokens` of thought and answer, effort of thought."""

    prompt: str
    temperature: float | None = None
    max_tokens: int | None = None
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class LLMResponse:
    """The answer to an `LLMRequest`."""

    text: str
    tokens_used: int
    finish_reason: str
    usage: Usage = field(default_factory=Usage)
