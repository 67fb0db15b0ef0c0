"""Mends the calls of a reply: one that its server did not find in the text or the thought, a name with a tail."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import replace

from miyabi_cli.messages import Function, Reply

# What a call that lies in a text holds: Harmony's marks, a recipient, a tag, or an object.
_SIGNS = ("<|", "to=", "<tool_call>", "{")
# What comes behind a recipient in Harmony's header, and is glued to it by servers that cut the marks out.
_TAILS = ("json", "code", "commentary", "analysis", "final")
# How a text begins that a server may not have read as Harmony; without its marks where it is no mark.
_LEAKS = ("<|", "analysis", "assistantanalysis")
_MARKS = re.compile(r"<\||<tool_call>")


def heal(reply: Reply, functions: Sequence[Function]) -> Reply:
    """Return the reply with its calls' names as they were offered, or with the call in its text or thought.

    The finish reason stays the server's. Marks of Harmony are cut out of the text with the call behind them: sent
    back, a server might read them as marks.
    """
    if reply.tool_calls:
        calls = tuple(replace(call, name=_unglued(call.name, functions)) for call in reply.tool_calls)
        return replace(reply, tool_calls=calls)
    if reply.text.lstrip().startswith(_LEAKS):
        from miyabi_cli.llm.harmony.parsing import read_leaked

        prefix = f"call_{uuid.uuid4().hex[:12]}"
        reason = reply.finish_reason if reply.is_cut else "stop"
        if leaked := read_leaked(reply.text, functions, finish_reason=reason, prefix=prefix):
            thought = "\n\n".join(part for part in (reply.thought, leaked.thought) if part)
            return replace(reply, text=leaked.text, thought=thought, tool_calls=leaked.tool_calls if functions else ())
    if not functions or reply.is_cut:
        return reply
    text = reply.text if reply.text.strip() else reply.thought
    if not any(sign in text for sign in _SIGNS):
        return reply
    from miyabi_cli.llm.harmony.salvage import salvage

    calls = salvage(reply.text, reply.thought, functions, prefix=f"call_{uuid.uuid4().hex[:12]}")
    return replace(reply, text=_MARKS.split(reply.text)[0].rstrip(), tool_calls=calls) if calls else reply


def _unglued(name: str, functions: Sequence[Function]) -> str:
    """Return a function's name without the words of the header behind it, where only so it was offered."""
    offered = {function.name for function in functions}
    stems = (name.removesuffix(tail).rstrip("._ ") for tail in _TAILS if name.endswith(tail))
    return name if name in offered else next((stem for stem in stems if stem in offered), name)
