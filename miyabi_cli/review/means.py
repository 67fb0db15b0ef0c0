"""What a review works with, opened and closed by the caller; and the protocol of a source of findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from miyabi_cli.llm.provider import Provider
from miyabi_cli.redaction import NO_SECRETS, Redactor
from miyabi_cli.review.change import Change
from miyabi_cli.review.checkouts import Checkouts
from miyabi_cli.review.findings import SourceResult
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.sandbox import Sandbox


def _unheard(_what: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class ReviewMeans:
    """What sources work with.

    `checkouts` has the trees of the change as files; None where a diff came without its repository. `sandbox` runs
    commands there. `provider` is None where no model is asked. `deadline` is a time of time.monotonic() by which a
    source should come to its end, None for none. `tell` hears in words how it goes, `warn` what a person should know.
    """

    settings: Settings
    environ: Mapping[str, str]
    checkouts: Checkouts | None = None
    sandbox: Sandbox | None = None
    provider: Provider | None = None
    redactor: Redactor = NO_SECRETS
    deadline: float | None = None
    tell: Callable[[str], None] = field(default=_unheard)
    warn: Callable[[str, str], None] = field(default=lambda _kind, _what: None)

    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def seconds_left(self, most: float) -> float:
        """Return the seconds until the deadline, at least one and at most so many."""
        return most if self.deadline is None else min(most, max(1.0, self.deadline - time.monotonic()))


class Source(Protocol):
    """Finds what it can in a change. It raises nothing but what cancels it, and bugs: failures are in its result."""

    async def __call__(self, change: Change, means: ReviewMeans, /) -> SourceResult: ...
