"""What is measured of one request: plain data. Times are seconds of the monotonic clock, `time.perf_counter`."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from miyabi_cli.messages import Usage

now = time.perf_counter


@dataclass(slots=True)
class Sample:
    """One request, from when it was due to its end.

    `due`: when it was to be sent; `begun`: when the generator came to it; `sent`: just before its first byte was
    written; `first`: when its first delta of thought, content or tool text came; `ended`: when its last byte came. 0.0
    is not yet. `gaps`: seconds between its deltas. `connecting`: seconds to open a connection, where it got a new one.
    `error` is the kind of what it failed by, `detail` the words. `server_times`: the server's own, in seconds.
    """

    due: float
    begun: float = 0.0
    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    ended: float = 0.0
    gaps: array[float] = field(default_factory=lambda: array("d"))
    connecting: float | None = None
    usage: Usage = field(default_factory=Usage)
    error: str = ""
    detail: str = ""
    server_times: Mapping[str, float] = field(default_factory=dict)

    @property
    def lag(self) -> float:
        """How late the generator itself was."""
        return self.begun - self.due

    @property
    def first_token(self) -> float:
        """From the first byte sent to the first delta."""
        return self.first - self.sent

    def whole(self, *, scheduled: bool) -> float:
        """From when it was due, where it had a schedule, else from the first byte sent, to its end."""
        return self.ended - (self.due if scheduled else self.sent)
