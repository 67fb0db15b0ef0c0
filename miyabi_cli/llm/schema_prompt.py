"""A JSON Schema told in the prompt, where the server does not show it to the model or does not hold the model to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from miyabi_cli.messages import Message


def with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> Sequence[Message]:
    """Return the messages with the schema told in the last: by the user's word, unless it stands there already."""
    text = json.dumps(dict(schema), ensure_ascii=False, separators=(",", ":"))
    told = f"Reply with one JSON object of this schema, and nothing else:\n{text}"
    if not messages:
        return [Message("user", told)]
    last = messages[-1]
    if "".join(text.split()) in "".join(last.content.split()):
        return messages
    if last.role != "user":
        return [*messages, Message("user", told)]
    return [*messages[:-1], replace(last, content=f"{last.content}\n\n{told}")]
