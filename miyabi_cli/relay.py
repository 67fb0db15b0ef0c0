"""Warnings of what a run works with, from before the run has begun to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Relay:
    """Hands warnings, a kind and a text, to whoever listens now.

    A run takes the place of what showed them before it began, and hears of those too: its result is to have them all.
    """

    listener: Callable[[str, str], None]
    told: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, kind: str, what: str) -> None:
        if (kind, what) not in self.told:
            self.told.append((kind, what))
        self.listener(kind, what)

    def hand_over(self, listener: Callable[[str, str], None]) -> None:
        """Let another one listen from now on, beginning with what was told before."""
        self.listener = listener
        for kind, what in self.told:
            listener(kind, what)
