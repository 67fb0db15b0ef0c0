"""What a run did before it was stopped, as its log tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from miyabi_cli.errors import MachineError
from miyabi_cli.events import (
    AttemptEnded,
    AttemptStarted,
    ConversationCompacted,
    ConversationOpened,
    Event,
    ReplyReceived,
    RunEnded,
    RunResumed,
    RunStarted,
    WarningRaised,
    event_of,
)
from miyabi_cli.messages import Message, Usage

INTERRUPTED = "interrupted"


def by_tools(messages: Sequence[Message]) -> bool:
    """Say whether a conversation is that of an agent with tools, which can go on; else it is a small model's."""
    return bool(messages) and messages[0].role == "system"


@dataclass(frozen=True, slots=True)
class EarlierAttempt:
    """One attempt. `events` are those since it last began anew; `usage` and `seconds` count what was before it too."""

    number: int
    events: tuple[Event, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @property
    def ended(self) -> AttemptEnded | None:
        """How it came to an end; None where it was under way when the run was stopped."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, AttemptEnded) and last.status != INTERRUPTED else None

    @property
    def by_tools(self) -> bool:
        """Say whether an agent with tools is at it, whose conversation can go on; else a small model's worker."""
        opened = next((event for event in self.events if isinstance(event, ConversationOpened)), None)
        return opened is not None and by_tools(opened.messages)

    @property
    def offered_functions(self) -> bool:
        """Say whether its conversation began with tools that the server takes."""
        return any(isinstance(event, ConversationOpened) and event.functions for event in self.events)

    @property
    def steps(self) -> int:
        """Return how many replies the model has given."""
        return sum(isinstance(event, ReplyReceived) for event in self.events)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The processes of a run so far. `seconds` are those in which one was at work, as far as their events tell.

    `delivered` are the branch and the commit that it has come to, where a limit has ended it.
    """

    started: RunStarted
    options: Mapping[str, Any]
    provider: str
    model: str
    usage: Usage
    seconds: float
    warnings: tuple[WarningRaised, ...]
    attempts: Mapping[int, EarlierAttempt]
    delivered: tuple[str, str] | None = None


def read_earlier(run_id: str, lines: Iterable[Mapping[str, Any]]) -> Earlier | None:
    """Return what a run's log tells (objects as `events.event_data` makes them); None for one without a beginning.

    Raises MachineError for an event that can't be read: what comes after it can't be relied on.
    """
    reader = _Reader()
    for line in lines:
        try:
            event = event_of(line)
            moment = datetime.fromisoformat(line["time"]).timestamp()
            if isinstance(event, ConversationOpened | ConversationCompacted) and not event.messages:
                raise ValueError("a conversation without messages")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            hint = "begin the task anew"
            raise MachineError(f"the log of run {run_id} is damaged: {error!s:.200}", hint=hint) from None
        if event is not None:
            reader.take(event, moment)
    return reader.earlier()


@dataclass(slots=True)
class _Part:
    """What is known of one attempt; `last` is when its last event was, None where another process wrote that.

    What a failed request has cost is told by the attempt's end alone.
    """

    events: list[Event] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    last: float | None = None

    def take(self, event: Event, moment: float) -> None:
        if isinstance(event, RunStarted | RunResumed):
            self.last = moment
        if isinstance(event, ReplyReceived):
            self.usage += event.reply.usage
        if isinstance(event, AttemptEnded):
            self.usage = event.usage
        self.events.append(event)
        self.seconds += max(0.0, moment - self.last) if self.last is not None else 0.0
        self.last = moment


class _Reader:
    """Goes through a log and sums it up."""

    def __init__(self) -> None:
        self._started: RunStarted | None = None
        self._latest: RunStarted | RunResumed | None = None
        self._whole = _Part()
        self._parts: dict[int, _Part] = {}

    def take(self, event: Event, moment: float) -> None:
        if isinstance(event, RunStarted | RunResumed):
            self._latest = event
            self._started = event if isinstance(event, RunStarted) else self._started
            for part in self._parts.values():
                part.last = None
        self._whole.take(event, moment)
        if number := getattr(event, "attempt", 0):
            part = self._parts.setdefault(number, _Part())
            if isinstance(event, AttemptStarted):
                part.events.clear()
            part.take(event, moment)

    def earlier(self) -> Earlier | None:
        if self._started is None or self._latest is None:
            return None
        return Earlier(
            started=self._started,
            options=self._latest.options,
            provider=self._latest.provider,
            model=self._latest.model,
            usage=sum((part.usage for part in self._parts.values()), Usage()),
            seconds=self._whole.seconds,
            warnings=tuple(event for event in self._whole.events if isinstance(event, WarningRaised)),
            delivered=self._delivered(),
            attempts={
                number: EarlierAttempt(number, tuple(part.events), part.usage, part.seconds)
                for number, part in self._parts.items()
            },
        )

    def _delivered(self) -> tuple[str, str] | None:
        for event in reversed(self._whole.events):
            match event:
                case RunEnded({"branch": str(branch), "commit": str(commit)}):
                    return branch, commit
        return None
