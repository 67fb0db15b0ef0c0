"""Chunks of a completion in raw Harmony, put together to one reply."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.chat.collecting import read_usage
from miyabi_cli.llm.harmony.parsing import HarmonyParser, ParsedReply
from miyabi_cli.llm.harmony.tokens import CALL, count_text
from miyabi_cli.messages import Delta, Function, Reply, Timing, Usage

MOST_IDS = 1_000_000  # in one chunk
CUT = "length"  # the finish reason of a reply that is cut though its server does not say so


class HarmonyCollector:
    """Takes `choices[0]` of each chunk, its `token_ids` where the server sends them, else its `text`.

    `opening` is the header that was written for the model. Until the server tells its usage, it is what was counted:
    `prompt_tokens` sent and the tokens that came.
    """

    def __init__(
        self,
        functions: Sequence[Function] = (),
        *,
        schema: bool = False,
        stop: Sequence[str] = (),
        opening: Sequence[int] = (),
        prompt_tokens: int = 0,
    ) -> None:
        self._told: Usage | None = None
        self._prompt_tokens = prompt_tokens
        self._came = 0  # tokens
        # Unlike the server's, these ids stay unique in a whole conversation.
        self._parser = HarmonyParser(functions, schema=schema, prefix=f"call_{secrets.token_hex(6)}")
        self._parser.feed_ids(opening)
        self._stop = stop
        self._finish_reason = ""
        self._parsed: ParsedReply | None = None
        self._thought_tokens = 0

    @property
    def usage(self) -> Usage:
        """What the reply has cost so far; a refusal has read no prompt."""
        if self._told is not None:
            return replace(self._told, reasoning_tokens=self._told.reasoning_tokens or self._thought_tokens)
        read = self._prompt_tokens if self._came else 0
        return Usage(1, read, 0, self._came, self._thought_tokens, cost_usd=None)

    def add(self, chunk: Mapping[str, Any]) -> Delta | None:
        """Take one chunk; return what is to be seen of it.

        Raises BrokenReply where it is of another shape, or the reply is past all bounds.
        """
        try:
            return self._add(chunk)
        except BrokenReply as error:
            error.usage = self.usage
            raise
        except (AttributeError, TypeError, ValueError, KeyError, IndexError):
            raise self._misfit(chunk) from None

    def _add(self, chunk: Mapping[str, Any]) -> Delta | None:
        if isinstance(usage := chunk.get("usage"), dict):
            self._told = read_usage(usage)
        choices = chunk.get("choices") or []
        if not choices or self._parsed is not None:
            return None
        choice = choices[0]
        if "text" not in choice:
            raise self._misfit(chunk)
        ids = token_ids(choice.get("token_ids"))
        text = choice["text"] or ""
        delta = self._parser.feed_ids(ids) if ids else self._parser.feed(text)
        self._came += len(ids) or (count_text(text) if self._told is None else 0)
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)[:40]
            if not ids and choice.get("stop_reason") == CALL:  # the text of the token that ended it is left out
                self._parser.feed_ids([CALL])
            self._parsed = self._parser.close(self._finish_reason)
            delta = _joined(delta, self._parsed.last)
        if delta and delta.thought:
            alone = ids and not (delta.text or delta.tool_text)
            self._thought_tokens += len(ids) if alone else count_text(delta.thought)
        return delta

    def reply(self, timing: Timing) -> Reply:
        """Return the whole. Raises BrokenReply where no finish reason came: a cut stream looks like success."""
        if self._parsed is None:
            raise BrokenReply("the server's reply was cut off before its end", usage=self.usage)
        parsed = self._parsed
        text = self._until_stop(parsed.text)
        reason = "tool_calls" if parsed.tool_calls and self._finish_reason == "stop" else self._finish_reason
        reply = Reply(text, parsed.thought, parsed.tool_calls, self.usage, reason, timing)
        return replace(reply, finish_reason=CUT) if parsed.cut and not reply.is_cut else reply

    def _until_stop(self, text: str) -> str:
        """Return the text up to the first of its ends: vLLM would look for them in the thought as well."""
        return text[: min((at for mark in self._stop if mark and (at := text.find(mark)) >= 0), default=len(text))]

    def _misfit(self, chunk: Mapping[str, Any]) -> BrokenReply:
        said = {"object": str(chunk.get("object"))[:40]}
        return BrokenReply("the server sent a chunk that is not a completion", usage=self.usage, detail=said)


def token_ids(value: Any) -> list[int]:
    """Return the token ids of a chunk, [] where the server sends none. Raises TypeError where they are none."""
    if not value:
        return []
    if not isinstance(value, list) or len(value) > MOST_IDS or not all(type(token) is int for token in value):
        raise TypeError("token ids are no list of integers")
    return value


def _joined(one: Delta | None, other: Delta | None) -> Delta | None:
    if one is None or other is None:
        return one or other
    return Delta(one.text + other.text, one.thought + other.thought, one.tool_text + other.tool_text)
