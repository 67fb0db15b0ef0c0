"""How a model says what it wants done: by native tool calls, or by a JSON object where it has none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from miyabi_cli.fences import fenced
from miyabi_cli.llm.calling import find_object
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.messages import Function, Message, Reply, ToolCall

FINISH = "finish"


class Actions(Protocol):
    """`offered` goes along with each request, and `instructions` into the head of the prompt."""

    offered: tuple[Function, ...]
    schema: Mapping[str, Any] | None
    instructions: str

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        """Return the tools that a reply calls; none: a final answer. Raises ValueError for an unreadable one."""
        ...

    def answer(self, reply: Reply) -> str:
        """Return the text of a final answer."""
        ...

    def result(self, call: ToolCall, output: str) -> Message:
        """Return the message that brings a tool's output to the model."""
        ...


class NativeTools:
    """Tool calls as the server's wire carries them."""

    schema: Mapping[str, Any] | None = None
    instructions = ""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.offered = tuple(functions)

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        return reply.tool_calls

    def answer(self, reply: Reply) -> str:
        return reply.text.strip()

    def result(self, call: ToolCall, output: str) -> Message:
        return Message("tool", output, tool_call_id=call.id, tool_name=call.name)


class SchemaActions:
    """One JSON object a reply: `{"tool", "arguments"}`, held to its schema where the server can."""

    offered: tuple[Function, ...] = ()

    def __init__(self, functions: Sequence[Function], *, held: bool) -> None:
        branches = [_branch(function.name, dict(function.parameters)) for function in functions]
        summary = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
        self.schema: Mapping[str, Any] | None = {"anyOf": [*branches, _branch(FINISH, summary)]} if held else None
        listing = "\n".join(f"- {_signature(function)}: {function.description}" for function in functions)
        self.instructions = (
            'Reply with one JSON object and nothing else: {"tool": NAME, "arguments": {...}}. The tools:\n'
            f"{listing}\n- {FINISH}(summary): the task is done; say what was changed."
        )

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        action = find_object(reply)
        name = action.get("tool")
        if not isinstance(name, str):
            raise ValueError('the object has no "tool"')
        if name == FINISH:
            return ()
        return (ToolCall("action", name, json.dumps(action.get("arguments") or {})),)

    def answer(self, reply: Reply) -> str:
        arguments = find_object(reply).get("arguments")
        return str(arguments.get("summary", "")) if isinstance(arguments, dict) else ""

    def result(self, call: ToolCall, output: str) -> Message:
        return Message("user", f"Result of {' '.join(call.name.split())[:80]}:\n{fenced(output)}")

    def retold(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return a conversation with tool calls as one of objects: each call an action, each result as told here."""
        first, *others = messages
        told = [replace(first, content=f"{first.content}\n\n{self.instructions}")]
        for message in others:
            if message.role == "tool":
                told.append(self.result(ToolCall(message.tool_call_id, message.tool_name, ""), message.content))
            else:
                actions = "\n".join([message.content, *map(_action, message.tool_calls)]).strip()
                told.append(replace(message, content=actions, tool_calls=()))
        return tuple(told)


def actions_for(capabilities: Capabilities, functions: Sequence[Function]) -> Actions:
    """Choose by what the model can do behind its server."""
    if capabilities.tools:
        return NativeTools(functions)
    return SchemaActions(functions, held=capabilities.schema)


def _action(call: ToolCall) -> str:
    """Return a native call as the object that this model is asked for."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return json.dumps({"tool": call.name, "arguments": arguments})


def _branch(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"tool": {"const": name}, "arguments": {**parameters, "additionalProperties": False}},
        "required": ["tool", "arguments"],
        "additionalProperties": False,
    }


def _signature(function: Function) -> str:
    required = function.parameters.get("required", ())
    names = (name if name in required else f"{name}?" for name in function.parameters.get("properties", {}))
    return f"{function.name}({', '.join(names)})"
