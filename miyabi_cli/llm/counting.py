"""How many tokens a prompt has, where no server is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from miyabi_cli.messages import Function, Message

FRAME_TOKENS = 16  # roles, channels and separators around one message, in any chat template that is known


def upper_bound(messages: Sequence[Message], functions: Sequence[Function] = ()) -> int:
    """Return tokens that no prompt of these exceeds: a token of a byte-level vocabulary is a byte at least."""
    texts = [part for message in messages for part in _parts(message)]
    texts += [f"{function.name}{function.description}{json.dumps(function.parameters)}" for function in functions]
    frames = len(messages) + len(functions) + sum(len(message.tool_calls) for message in messages)
    return sum(len(text.encode("utf-8", "replace")) for text in texts) + FRAME_TOKENS * (frames + 1)


def _parts(message: Message) -> tuple[str, ...]:
    calls = tuple(call.name + call.arguments for call in message.tool_calls)
    return (message.content, message.thought, message.tool_name, *calls)
