"""What a chat request holds its reply to, a schema or one function, as a dialect says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.llm.chat.dialects import Dialect, SchemaForm, Shape
from miyabi_cli.messages import ChatRequest, Function


def is_held(request: ChatRequest) -> bool:
    """Say whether the reply is held to a schema: never beside functions, which servers answer with nonsense."""
    return request.schema is not None and not request.functions


def shape_of(request: ChatRequest) -> Shape:
    if request.functions:
        return "tools"
    return "schema" if is_held(request) else "text"


def offered(request: ChatRequest, dialect: Dialect) -> Sequence[Function]:
    """Return the functions to offer: the forced one alone, where a server can be told no more than that it must."""
    if request.forced and dialect.forcing == "required":
        return [one for one in request.functions if one.name == request.forced] or request.functions
    return request.functions


def tool_choice(request: ChatRequest, dialect: Dialect) -> Any:
    if not request.forced or not request.functions or not dialect.forcing:
        return None
    if dialect.forcing == "required":
        return "required"
    return {"type": "function", "function": {"name": request.forced}}


def response_format(schema: Mapping[str, Any] | None, form: SchemaForm = "json_schema") -> dict[str, Any] | None:
    """Return the option that holds a reply to a JSON Schema."""
    if schema is None or not form:
        return None
    if form == "json_object":
        return {"type": "json_object"}
    held: dict[str, Any] = {"name": "reply", "schema": dict(schema)}
    if form == "json_schema":
        held["strict"] = True
    return {"type": "json_schema", "json_schema": held}
