"""Calls that Ollama could not parse: it fails the request, and quotes what the model wrote in the error."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence

from miyabi_cli.llm.harmony.offered import Offered
from miyabi_cli.llm.harmony.salvage import salvage
from miyabi_cli.llm.objects.mending import objects_in
from miyabi_cli.messages import Function, ToolCall

FAILED = "error parsing tool call"
MAX_CHARACTERS = 1_000_000

_RAW = re.compile(r"error parsing tool call: raw='(.*)', err=", re.DOTALL)


def salvage_call(said: str, functions: Sequence[Function]) -> tuple[ToolCall, ...]:
    """Return the call that an error of Ollama's quotes, () where it can't be told which one is meant.

    The quoted text is the arguments alone: the function is the one that they fit. Or it is a call with its name.
    Arguments that were cut off are none.
    """
    match = _RAW.search(said)
    if not match or len(match[1]) > MAX_CHARACTERS:
        return ()
    prefix = new_id()
    if calls := salvage(match[1], "", functions, prefix=prefix):
        return calls
    value = next(objects_in(match[1]), None)
    if value is None:
        return ()
    arguments = json.dumps(value, ensure_ascii=False)
    if calls := salvage(arguments, "", functions, prefix=prefix):
        return calls
    name = Offered(functions).fitting(arguments)
    return (ToolCall(prefix, name, arguments),) if name else ()


def new_id() -> str:
    """Return an id for a call that came without one: no other call of the conversation has it."""
    return f"call_{uuid.uuid4().hex[:12]}"
