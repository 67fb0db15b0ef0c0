"""Notices a thought that goes round in a circle while it streams in."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

WINDOW = 16_384  # characters that are looked at: about 4,000 tokens
STEP = 4_096
# Eight times the same come to less, whatever the period; prose comes to 0.3 and more, a wordy JSON Schema to 0.13.
SHARE = 0.08


@dataclass(slots=True)
class RepetitionWatch:
    """`tail` is the end of what has come, `characters` count all of it."""

    tail: str = ""
    characters: int = 0
    _due: int = WINDOW
    _new: list[str] = field(default_factory=list)

    def repeats(self, text: str) -> bool:
        """Take the next piece; say whether the last 16,384 characters hold little but repetitions."""
        self._new.append(text)
        self.characters += len(text)
        if self.characters < self._due:
            return False
        self._due = self.characters + STEP
        self.tail = (self.tail + "".join(self._new))[-WINDOW:]
        self._new.clear()
        data = self.tail.encode("utf-8", "replace")
        return len(zlib.compress(data, 1)) < len(data) * SHARE
