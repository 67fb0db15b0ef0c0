"""Calling a function by a model: arguments that are valid against the function's JSON Schema, or an error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderRefused, UsageError
from miyabi_cli.llm.checking import check_sampling
from miyabi_cli.llm.objects.fitting import fit, valid_part, variants
from miyabi_cli.llm.objects.mending import objects_in, read_json, unwrapped
from miyabi_cli.llm.objects.validating import ArgumentsSchema, compile_schema, obeys
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.llm.retry import closing
from miyabi_cli.messages import (
    ChatRequest,
    Function,
    LLMRequest,
    LLMResponse,
    Message,
    Piece,
    Reply,
    Sampling,
    Usage,
)

TRIES = 3
_SHOWN = 4_000  # characters of a reply that is not valid: the model sees again what it wrote

Means = Literal["schema", "forced", "prompt"]


class Model(Protocol):
    """What is asked: the part of a provider that these functions need."""

    @property
    def name(self) -> str: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]: ...


class Unfit(ValueError):
    """A reply that holds no valid arguments: why, whether it `holds_json` at all, and the `part` that is valid."""

    def __init__(self, reason: str, *, holds_json: bool, part: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.holds_json = holds_json
        self.part = dict(part or {})


@dataclass(frozen=True, slots=True)
class Called:
    """Valid arguments, and what they cost over all tries."""

    arguments: dict[str, Any]
    usage: Usage


async def call_function(
    model: Model, function: Function, messages: Sequence[Message], sampling: Sampling
) -> dict[str, Any]:
    """Return what `call_at_cost` does, without its usage."""
    return (await call_at_cost(model, function, messages, sampling)).arguments


async def call_at_cost(
    model: Model, function: Function, messages: Sequence[Message], sampling: Sampling, *, in_part: bool = False
) -> Called:
    """Ask for a function's arguments by the best means of the server, and check them against its schema.

    The means are a reply that is bound to the schema, a forced call, and the prompt alone; one that the server refuses
    or passes over gives way to the next. What is nearly right is repaired. Else the model is told what is wrong, twice
    at most. `in_part`: arguments that are not valid are left out, what is required only after the last try; one that
    is valid is there at least. Raises UsageError for a schema or a sampling that can't be, before anything is sent;
    BrokenReply where no try was valid; any ProviderError, each with the usage of all tries.
    """
    check_sampling(sampling)
    return await _Calling(model, function, compile_schema(function), messages, sampling, in_part).run()


async def generate(model: Model, request: LLMRequest) -> LLMResponse:
    """Answer one prompt by a chat of one message; `tokens_used` are those of prompt and answer.

    Raises UsageError for a request that can't be, ProviderError.
    """
    if not request.prompt.strip():
        raise UsageError("the prompt is empty")
    sampling = Sampling(request.temperature, request.max_tokens, request.effort)
    check_sampling(sampling)
    reply = await last_reply(model.stream(ChatRequest([Message("user", request.prompt)], sampling=sampling)))
    return LLMResponse(
        reply.text, reply.usage.input_tokens + reply.usage.output_tokens, reply.finish_reason, reply.usage
    )


async def last_reply(pieces: AsyncIterator[Piece]) -> Reply:
    """Drain a chat and return its reply."""
    reply: Reply | None = None
    async for piece in pieces:
        if isinstance(piece, Reply):
            reply = piece
    if reply is None:
        raise BrokenReply("the server sent no reply")
    return reply


async def held_text(pieces: AsyncIterator[Piece], schema: Mapping[str, Any]) -> AsyncIterator[Piece]:
    """Yield a chat whose whole text obeys a schema, also where the server does not see to that.

    JSON that stands among other words is taken out of them; what was cut at the limit of tokens stays as it is.
    Raises BrokenReply for a text that does not obey.
    """
    async with closing(pieces):
        async for piece in pieces:
            if isinstance(piece, Reply) and not piece.is_cut and not obeys(piece.text, schema):
                found = [json.dumps(value, ensure_ascii=False) for value in objects_in(unwrapped(piece.text))]
                text = next((text for text in found if obeys(text, schema)), None)
                if text is None:
                    raise BrokenReply("the model's answer does not obey the schema", usage=piece.usage)
                piece = replace(piece, text=text)
            yield piece


def find_object(reply: Reply) -> dict[str, Any]:
    """Return the first JSON object of a reply: in a call's arguments, or in the text.

    Raises ValueError where there is none.
    """
    text = reply.tool_calls[0].arguments if reply.tool_calls else reply.text
    for value in _values_in(text):
        if isinstance(value, dict):
            return value
    raise ValueError("there is no JSON object in the reply")


@dataclass(slots=True)
class _Calling:
    """One function being called: what was said so far, and by which means the model is asked next."""

    model: Model
    function: Function
    schema: ArgumentsSchema
    messages: Sequence[Message]
    sampling: Sampling
    in_part: bool = False
    corrections: tuple[Message, ...] = ()
    spent: Usage = field(default_factory=Usage)
    problem: str = ""

    async def run(self) -> Called:
        means = means_of(self.model.capabilities)
        tried = 0
        while tried < TRIES:
            if means[0] not in means_of(self.model.capabilities):
                means.pop(0)  # the server has refused it to others meanwhile
                continue
            try:
                reply = await self.ask(means[0])
            except ProviderRefused as error:
                if error.status not in (400, 422, 501) or len(means) == 1:
                    raise
                means.pop(0)  # which is no try: nothing was sampled
                continue
            tried += 1
            try:
                return Called(read_arguments(reply, self.schema, self.function.name), self.spent)
            except Unfit as unfit:
                if self.in_part and unfit.part and (tried == TRIES or self.has_required(unfit.part)):
                    return Called(unfit.part, self.spent)
                self.correct(reply, unfit)
                if not unfit.holds_json and len(means) > 1 and reply.finish_reason != "length":
                    means.pop(0)  # the server passed over what holds the reply
        message = f"{self.model.name} gave no valid arguments for {self.function.name}: {self.problem}"
        raise BrokenReply(message, usage=self.spent)

    async def ask(self, means: Means) -> Reply:
        """Ask once. A server that refuses its own model's words gives them along: they are read as a reply."""
        try:
            reply = await last_reply(self.model.stream(self.request(means)))
        except ProviderError as error:
            failed = error.detail.get("failed_generation")
            self.spent += error.usage
            if isinstance(failed, str) and failed.strip():
                return Reply(failed, usage=error.usage)
            error.usage = self.spent
            raise
        self.spent += reply.usage
        return reply

    def request(self, means: Means) -> ChatRequest:
        asked = Message("user", _instruction(self.function, means))
        history = [*self.messages, asked, *self.corrections]
        if means == "forced":
            return ChatRequest(history, (self.function,), self.sampling, forced=self.function.name)
        held = self.function.parameters if means == "schema" else None
        return ChatRequest(history, sampling=self.sampling, schema=held)

    def has_required(self, arguments: Mapping[str, Any]) -> bool:
        return all(name in arguments for name in self.schema.schema.get("required", ()))

    def correct(self, reply: Reply, unfit: Unfit) -> None:
        """Note what is to be said of a reply. A call is shown as text: it was never run, and has no result."""
        said = "\n".join(call.arguments for call in reply.tool_calls) or reply.text
        self.problem = str(unfit)
        if reply.finish_reason == "length":
            self.problem = f"the reply was cut off at its limit of tokens ({unfit})"
            if self.sampling.max_tokens is not None:
                most = max(self.model.max_tokens // 2, self.sampling.max_tokens)
                self.sampling = replace(self.sampling, max_tokens=min(self.sampling.max_tokens * 2, most))
            told = "Your reply was cut off before its end. Think less, and be much shorter."
        else:
            told = f"That is not valid: {self.problem}."
        shown = (Message("assistant", said[:_SHOWN]),) if said.strip() else ()
        self.corrections += (*shown, Message("user", f"{told} Reply with the arguments of {self.function.name} alone."))


def means_of(capabilities: Capabilities) -> list[Means]:
    """Return the means to hold a reply to a schema, the best first; the prompt alone is always one."""
    held: list[tuple[bool, Means]] = [(capabilities.schema, "schema"), (capabilities.forced, "forced")]
    return [*(means for there, means in held if there), "prompt"]


def _instruction(function: Function, means: Means) -> str:
    """The schema is in the prompt too where the server may not show it to the model."""
    if means == "forced":
        return f"{function.description}\nCall {function.name}."
    schema = json.dumps(dict(function.parameters), separators=(",", ":"), ensure_ascii=False)
    return f"{function.description}\nReply with one JSON object of this schema, and nothing else:\n{schema}"


def read_arguments(reply: Reply, schema: ArgumentsSchema, name: str) -> dict[str, Any]:
    """Return the first valid arguments of a reply: as they are, else repaired. Raises Unfit.

    Looked at are the calls, the text, and the thought where there is nothing else.
    """
    texts = [call.arguments for call in reply.tool_calls] + [reply.text]
    thought = [] if any(text.strip() for text in texts) else list(objects_in(reply.thought))[::-1]
    values = [value for text in texts for value in _values_in(text)] + thought
    found = [variant for value in values for variant in variants(value, schema, name)]
    objects = [value for value in found if isinstance(value, dict)]
    for value in objects:
        if schema.is_valid(value):
            return value
    word = reply.text.strip()
    for value in objects + _word_alone(word, schema):
        fitted = fit(value, schema)
        if isinstance(fitted, dict) and schema.is_valid(fitted):
            return fitted
    if not objects:
        raise Unfit("there is no JSON object in the reply", holds_json=False)
    fitted = fit(objects[0], schema)
    raise Unfit("; ".join(schema.problems(fitted)), holds_json=True, part=valid_part(fitted, schema))


def _values_in(text: str) -> list[Any]:
    """Return the value that a text is, or else the objects in it."""
    try:
        return [read_json(text)]
    except ValueError:
        return list(objects_in(unwrapped(text)))


def _word_alone(word: str, schema: ArgumentsSchema) -> list[Any]:
    """Return a bare word as the only argument where that is a choice, never where any prose would do."""
    root = schema.resolved(schema.schema)
    properties = root.get("properties", {}) if isinstance(root, dict) else {}
    for key, part in properties.items() if len(properties) == 1 else ():
        part = schema.resolved(part)
        if isinstance(part, dict) and ("enum" in part or part.get("type") in ("integer", "number", "boolean")):
            return [{key: word}]
    return []
