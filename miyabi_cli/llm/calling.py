"""Calling a function by a model: arguments that are valid against the function's JSON Schema, or an error."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.messages import ChatRequest, Function, LLMRequest, LLMResponse, Message, Piece, Reply, Sampling, Usage

TRIES = 3


class Model(Protocol):
    """What is asked: the part of a provider that these functions need."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]: ...


async def call_function(
    model: Model, function: Function, messages: Sequence[Message], sampling: Sampling
) -> dict[str, Any]:
    """Ask for the arguments as a schema-bound object, check them, and tell the model what is wrong, twice at most.

    The schema is in the prompt too, for a server that enforces none. Raises BrokenReply with the usage of all tries.
    """
    import fastjsonschema

    schema = dict(function.parameters)
    validate = fastjsonschema.compile(schema)
    history = [*messages, Message("user", _instruction(function))]
    spent = Usage()
    problem = ""
    for _ in range(TRIES):
        held = schema if model.capabilities.schema else None
        reply = await last_reply(model.stream(ChatRequest(history, sampling=sampling, schema=held)))
        spent += reply.usage
        try:
            arguments = find_object(reply)
            validate(arguments)
        except (ValueError, fastjsonschema.JsonSchemaException) as error:
            problem = str(error)
            said = f"That is not valid: {problem}. Reply with the JSON object alone."
            history += [reply.message(), Message("user", said)]
        else:
            return arguments
    raise BrokenReply(f"{model.name} gave no valid arguments for {function.name}: {problem}", usage=spent)


async def generate(model: Model, request: LLMRequest) -> LLMResponse:
    """Answer one prompt by a chat of one message; `tokens_used` are those of prompt and answer."""
    sampling = Sampling(request.temperature, request.max_tokens, request.effort)
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


def _instruction(function: Function) -> str:
    schema = json.dumps(function.parameters, separators=(",", ":"))
    return f"{function.description}\nReply with one JSON object of this schema, and nothing else:\n{schema}"


def find_object(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a reply: a call's arguments, the text, a code fence in it, or its outermost braces.

    Raises ValueError where there is none.
    """
    text = reply.tool_calls[0].arguments if reply.tool_calls else reply.text
    fence = re.search(r"```(?:json)?\s*(\{.*?\})\s*```", text, re.DOTALL)
    braces = re.search(r"\{.*\}", text, re.DOTALL)
    for candidate in (text, fence and fence.group(1), braces and braces.group()):
        try:
            value = json.loads(candidate or "", strict=False)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise ValueError("there is no JSON object in the reply")
