"""Turns of a model as gpt-oss writes them: Harmony text, from after `<|start|>assistant` on."""

from __future__ import annotations

import json
from typing import Any


def turn(*messages: str) -> str:
    """Join messages into one turn."""
    return "<|start|>assistant".join(messages)


def thought(text: str) -> str:
    return f"<|channel|>analysis<|message|>{text}<|end|>"


def preamble(text: str) -> str:
    return f"<|channel|>commentary<|message|>{text}<|end|>"


def final(text: str) -> str:
    return f"<|channel|>final<|message|>{text}<|return|>"


def call(recipient: str, **arguments: Any) -> str:
    """A call as the model writes it most often: the recipient in the channel, JSON announced."""
    return raw_call(f"<|channel|>commentary to={recipient} <|constrain|>json", **arguments)


def raw_call(header: str, **arguments: Any) -> str:
    """A call with a header of the test's own."""
    return f"{header}<|message|>{json.dumps(arguments)}<|call|>"
