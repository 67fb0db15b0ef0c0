"""What one server's chat completions differ in: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SchemaForm = Literal["json_schema", "loose_schema", "json_object", ""]
CapField = Literal["max_tokens", "max_completion_tokens"]
Forcing = Literal["named", "required", ""]
Shape = Literal["text", "tools", "schema"]

# The forms that name the schema to the server; with the others it has to be told in the prompt.
HOLDING: frozenset[SchemaForm] = frozenset({"json_schema", "loose_schema"})
EVERY_SHAPE: frozenset[Shape] = frozenset({"text", "tools", "schema"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server wants its requests.

    `thought_field`: the name under which thought is sent back ("": it is not). `thought_fixed`: that name is known;
    else the name under which the server itself sends thought is taken. `cap_field`: the name of the cap on tokens.
    `largest_cap`: the most that it may be. `schema_form`: how a reply is held to a JSON Schema: strictly, without
    `strict`, to any object, or not at all. `forcing`: how one function is forced: by its name, by "required" with
    that function alone, or not at all.
    `streamed`: what is asked for as a stream, by what the request holds. `strict_functions`: each function says
    `strict: true`. `tools`: functions are taken at all. `plain_names`: a call's name that is sent back has no dot.
    `left_out`: options that are never sent, by name. `extra`: options that every request carries.
    `path`: the route, behind the server's endpoint.
    """

    thought_field: str = "reasoning"
    thought_fixed: bool = False
    cap_field: CapField = "max_tokens"
    largest_cap: int | None = None
    schema_form: SchemaForm = "json_schema"
    forcing: Forcing = "named"
    streamed: frozenset[Shape] = EVERY_SHAPE
    strict_functions: bool = False
    tools: bool = True
    plain_names: bool = False
    left_out: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)
    path: str = "v1/chat/completions"


# Any server: what it does not understand is learned from its refusals.
OPENAI = Dialect()

# Before late 2025 it sent thought as `reasoning_content` alone: then that name is taken, as from any server.
VLLM = Dialect()

# console.groq.com/docs: `reasoning_content` is refused, a schema is not streamed.
GROQ = Dialect(
    thought_fixed=True,
    cap_field="max_completion_tokens",
    largest_cap=65_536,
    streamed=frozenset({"text", "tools"}),
)
