"""What is asked: prompts of so many tokens, of a file's or of a trace's, each with what it may share with others."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.bench.load.files import lines_of
from miyabi_cli.bench.load.traces import BLOCK_TOKENS, Traced
from miyabi_cli.errors import UsageError

# Each is a single token behind a space in the vocabularies of gpt-oss, Llama, Qwen and their like, so that words count
# tokens without any tokenizer; what the server counted stands in the result.
WORDS = tuple(Path(__file__).with_name("words.txt").read_text(encoding="ascii").split())
TASK = "Go on with this text for as long as you can:"
MAX_PROMPT_TOKENS = 1_000_000
FIELDS = ("prompt", "text", "content", "question", "instruction")


@dataclass(frozen=True, slots=True)
class Wish:
    """One request before it is put into a server's words: a text, and how many tokens its answer is to have."""

    text: str
    output_tokens: int | None = None


def counted(input_tokens: int, output_tokens: int | None, shared: int, seed: int) -> Iterator[Wish]:
    """Yield prompts of `input_tokens` words, without end, behind `shared` more that all of them begin with.

    No two begin alike otherwise, so that a prefix cache serves what is shared and nothing else.
    """
    head = words(shared, f"{seed} shared")
    number = 0
    while True:
        yield Wish(_joined(head, TASK, words(input_tokens - len(TASK.split()), f"{seed} {number}")), output_tokens)
        number += 1


def traced(requests: Sequence[Traced], shared: int, seed: int) -> Iterator[Wish]:
    """Yield a prompt for each request of a trace; blocks of the same id have the same text, as they had there."""
    head = words(shared, f"{seed} shared")
    for number, request in enumerate(requests):
        blocks = [_block(seed, block) for block in request.blocks[: request.input_tokens // BLOCK_TOKENS]]
        rest = request.input_tokens - len(blocks) * BLOCK_TOKENS
        yield Wish(_joined(head, *blocks, words(rest, f"{seed} {number}")), request.output_tokens)


def read_prompts(path: Path, output_tokens: int | None, shared: int, seed: int) -> list[Wish]:
    """Return the prompts of a file: JSON objects or strings, one a line, or lines of text. Raises UsageError.

    An object has its text under `prompt` (or text, content, question, instruction), or as `messages`; its
    `output_tokens` or `max_tokens`, where it has any, go before those that are asked for.
    """
    head = words(shared, f"{seed} shared")
    wishes = []
    for number, line in enumerate(lines_of(path), 1):
        text, most = _read_line(line)
        if not text:
            hint = 'a line is {"prompt": "…"}, {"messages": […]}, a JSON string, or text'
            raise UsageError(f"{path.name}, line {number}: no prompt in it", hint=hint)
        wishes.append(Wish(_joined(head, text), most or output_tokens))
    if not wishes:
        raise UsageError(f"{path.name} holds no prompts", hint="one a line, as JSON or as text")
    return wishes


def words(count: int, name: str) -> str:
    """Return `count` words, always the same for a name."""
    source = random.Random(name)  # noqa: S311 - a text is no secret
    return " ".join(source.choices(WORDS, k=min(max(count, 0), MAX_PROMPT_TOKENS)))


@functools.lru_cache(maxsize=4096)
def _block(seed: int, block: int) -> str:
    return words(BLOCK_TOKENS, f"{seed} block {block}")


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _read_line(line: str) -> tuple[str, int | None]:
    """Return the text and the tokens of its answer, as far as they are there; what is no JSON is text."""
    if line[:1] not in ("{", '"'):
        return line, None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return ("", None) if line.startswith("{") else (line, None)
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict):
        return "", None
    most = next((value[key] for key in ("output_tokens", "max_tokens") if isinstance(value.get(key), int)), None)
    text = next((value[key] for key in FIELDS if isinstance(value.get(key), str)), "") or _of_messages(value)
    return text, most if most is not None and most > 0 else None


def _of_messages(value: dict[str, object]) -> str:
    messages = value.get("messages")
    said = [one.get("content") for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    return "\n\n".join(text for text in said if isinstance(text, str))
