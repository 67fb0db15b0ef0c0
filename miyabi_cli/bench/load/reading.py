"""Replies as they stream in, read within the very call that brings their bytes: nothing stands between the two."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.bodies import MAX_REPLY_BYTES
from miyabi_cli.llm.chat.chunks import MAX_WHOLE_BYTES, read_chunk
from miyabi_cli.llm.native.ndjson import read_object
from miyabi_cli.llm.server import Collector
from miyabi_cli.llm.sse import Events, Lines
from miyabi_cli.messages import Reply, Timing

NANO = 1e-9


@dataclass(slots=True)
class ReplyReader:
    """Reads one reply for a collector of its wire. `objects`: one a line, as Ollama's; else server-sent events."""

    provider: str
    collector: Collector
    objects: bool = False
    server_times: dict[str, float] = field(default_factory=dict)
    _lines: Lines = field(default_factory=Lines)
    _events: Events = field(default_factory=Events)
    _size: int = 0
    _whole: bytearray | None = None

    def feed(self, block: bytes) -> int:
        """Take what came; return how many deltas of thought, content or tool text it completes. Raises ProviderError.

        A reply that is one object is read at its end.
        """
        if not self._size and not self.objects and block.lstrip()[:1] in (b"{", b"[", b"<"):
            self._whole = bytearray()
        self._size += len(block)
        if self._whole is not None:
            self._whole += block
            if len(self._whole) > MAX_WHOLE_BYTES:
                raise BrokenReply(f"{self.provider} sent a reply of more than {MAX_WHOLE_BYTES:,} bytes")
            return 0
        if self._size > MAX_REPLY_BYTES:
            raise BrokenReply(f"{self.provider}'s reply does not end: it has more than {MAX_REPLY_BYTES:,} bytes")
        try:
            return self._add(self._lines.feed(block))
        except ValueError as error:
            raise BrokenReply(f"{self.provider} sent a broken stream: {error}") from None

    def end(self) -> tuple[int, Reply]:
        """Return the deltas that only the end completes, and the reply. Raises BrokenReply for one that was cut."""
        if self._whole is not None:
            deltas = self._take(read_chunk(self._whole.decode("utf-8", "replace"), self.provider))
        else:
            deltas = self._add([*self._lines.end(), b""])
        return deltas, self.collector.reply(Timing())

    def _add(self, lines: Iterable[bytes]) -> int:
        deltas = 0
        for line in lines:
            if self.objects:
                deltas += self._take(read_object(line, self.provider)) if line.strip() else 0
            elif (data := self._events.add(line)) is not None and data.strip() != "[DONE]":
                deltas += self._take(read_chunk(data, self.provider))
        return deltas

    def _take(self, chunk: Mapping[str, Any]) -> int:
        if "x_groq" in chunk or chunk.get("done") is True:
            self.server_times.update(server_times(chunk))
        return int(self.collector.add(chunk) is not None)


def server_times(chunk: Mapping[str, Any]) -> dict[str, float]:
    """Return the times that a server tells of a reply, in seconds: Groq's `x_groq.usage`, or Ollama's last object.

    Those of Groq are queue, prompt, completion and total; of Ollama total, load, prompt_eval and eval.
    """
    groq = chunk.get("x_groq")
    usage = groq.get("usage") if isinstance(groq, dict) else None
    if not isinstance(usage, dict):
        usage = chunk.get("usage")
    times = _numbers(usage, lambda name: name.removesuffix("_time") if name.endswith("_time") else "", 1.0)
    return times | _numbers(
        chunk, lambda name: name.removesuffix("_duration") if name.endswith("_duration") else "", NANO
    )


def _numbers(source: Any, named: Callable[[str], str], unit: float) -> dict[str, float]:
    if not isinstance(source, dict):
        return {}
    found = ((named(str(key)[:40]), value) for key, value in list(source.items())[:100])
    return {
        name: value * unit
        for name, value in found
        if name and isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18
    }


def error_kind(error: Exception) -> str:
    """Return the kind under which a failure is counted: the status where there is one, else the error's own."""
    status = getattr(error, "status", None)
    return f"http_{status}" if status else str(getattr(error, "kind", "broken_reply"))


def words_of(body: bytes) -> str:
    """Return what a refusal says, as its JSON has it or as it stands there."""
    from miyabi_cli.llm.failures import server_message

    try:
        return server_message(body)
    except (ValueError, json.JSONDecodeError):
        return ""
