"""How many tokens a prompt has, where no server is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from miyabi_cli.messages import Function, Message

FRAME_TOKENS = 16  # roles, channels and separators around one message, in any chat template that is known


def upper_bound(messages: Sequence[Message], functions: Sequence[Function] = ()) -> int:
    """Return tokens that no prompt of these exceeds: a token of a byte-level vocabulary is a byte at least."""
    texts = [f"{function.name}{function.description}{json.dumps(function.parameters)}" for function in functions]
    frames = FRAME_TOKENS * (len(functions) + 1)
    return bound_of_messages(messages) + _bytes(texts) + frames


def bound_of_messages(messages: Iterable[Message]) -> int:
    """Return tokens that messages do not exceed which are added to a prompt."""
    return sum(_bytes(_parts(message)) + FRAME_TOKENS * (1 + len(message.tool_calls)) for message in messages)


def _parts(message: Message) -> Iterable[str]:
    yield from (message.content, message.thought, message.tool_name)
    for call in message.tool_calls:
        yield from (call.name, call.arguments)


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
