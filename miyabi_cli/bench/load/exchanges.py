"""One request on its way: the reply's bytes become deltas, times and, at the end, a sample or an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from miyabi_cli.bench.load.reading import ReplyReader, words_of
from miyabi_cli.bench.load.samples import Sample, now

MAX_REFUSAL_BYTES = 64 * 1024


@dataclass(slots=True)
class Exchange:
    """One request on its way, and what is taken of its reply."""

    sample: Sample
    reader: ReplyReader
    done: asyncio.Future[None]
    status: int = 0
    words: bytearray = field(default_factory=bytearray)

    def take(self, moment: float, block: bytes) -> None:
        """Take a part of the reply's body, which came at `moment`."""
        if self.status != 200:
            self.words += block[: MAX_REFUSAL_BYTES - len(self.words)]
        else:
            self._tick(moment, self.reader.feed(block))

    def end(self, moment: float) -> None:
        """Take the reply's end."""
        sample = self.sample
        sample.ended = moment
        if self.status != 200:
            self.fail(f"http_{self.status}", words_of(bytes(self.words)))
            return
        deltas, reply = self.reader.end()
        self._tick(moment, deltas)
        sample.usage, sample.server_times = reply.usage, self.reader.server_times
        if not sample.first:
            self.fail("empty_reply", "the reply holds no thought, no content and no call")
        else:
            self.finish()

    def fail(self, kind: str, words: str) -> None:
        """Let the request end by an error."""
        self.sample.ended = self.sample.ended or now()
        self.sample.error, self.sample.detail = kind, words
        self.finish()

    def finish(self) -> None:
        """Wake who waits for it."""
        if not self.done.done():
            self.done.set_result(None)

    def _tick(self, moment: float, deltas: int) -> None:
        """Note deltas; those that came with one read came at once."""
        sample = self.sample
        for _ in range(deltas):
            if sample.first:
                sample.gaps.append(moment - sample.last)
            else:
                sample.first = moment
            sample.last = moment
