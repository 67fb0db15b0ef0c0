"""Headers written for the model, after which it can give nothing but the answer or the arguments that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from miyabi_cli.llm.harmony.rendering import Prompt, recipients_of
from miyabi_cli.llm.harmony.tokens import CHANNEL, CONSTRAIN, END, MESSAGE, START, encode_text
from miyabi_cli.messages import Function


def opening_of_answer() -> list[int]:
    """Return the header of a final answer in JSON."""
    return [CHANNEL, *encode_text("final "), CONSTRAIN, *encode_text("json"), MESSAGE]


def opening_of_call(name: str, functions: Sequence[Function]) -> list[int]:
    """Return the header of a call of one of the functions; those of the training are called within the thought."""
    recipient = recipients_of(functions).get(name, f"functions.{name}")
    if recipient.startswith("functions."):
        channel = [CHANNEL, *encode_text("commentary "), CONSTRAIN, *encode_text("json")]
    else:
        channel = [CHANNEL, *encode_text("analysis code")]
    return [*encode_text(f" to={recipient}"), *channel, MESSAGE]


def opened(prompt: Prompt, opening: Sequence[int], thought: str) -> Prompt:
    """Return a prompt that goes on with what the model thought before and the header of its next message."""
    if not thought:
        return prompt.continued(opening)
    thinking = [CHANNEL, *encode_text("analysis"), MESSAGE, *encode_text(thought), END]
    return prompt.continued([*thinking, START, *encode_text("assistant"), *opening])
