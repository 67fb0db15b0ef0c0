"""A run's log as the story that its page tells: attempts with what was said and done in each, checks and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from miyabi_cli.events import (
    AttemptEnded,
    AttemptStarted,
    CheckEnded,
    CheckStarted,
    ConversationCompacted,
    ConversationOpened,
    MessageAdded,
    ProviderSwitched,
    ReplyReceived,
    RunResumed,
    RunStarted,
    ToolEnded,
    ToolStarted,
    WarningRaised,
    event_of,
)
from miyabi_cli.messages import Message
from miyabi_cli.report.html.entries import (
    Attempt,
    CheckMade,
    CheckRow,
    Entry,
    Note,
    Prompt,
    Said,
    Step,
    call_of,
)
from miyabi_cli.report.html.excerpts import Excerpt, excerpt, first_of
from miyabi_cli.report.html.timeline import Span, SpanKind, Timeline, draw
from miyabi_cli.report.progress import STAGES

MOST_ENTRIES = 3_000
MOST_MESSAGES = 200
MOST_NAMES = 100
MOST_CHANGED = 8  # files that are named with one call
BASE = 0  # the number of what is no attempt: the checks of the base


@dataclass(slots=True)
class Story:
    """What a log tells. `started` is None where it has no beginning; `omitted` events are not in `attempts`."""

    started: RunStarted | None = None
    began: datetime | None = None
    resumed: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)
    warnings: list[WarningRaised] = field(default_factory=list)
    checks: dict[str, CheckRow] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    omitted: int = 0


def read_story(events: Iterable[Mapping[str, Any]]) -> Story:
    """Return the story of a log's events, objects as `events.event_data` makes them; what is none is passed over."""
    teller = _Teller()
    for data in events:
        try:
            event = event_of(data)
            time = datetime.fromisoformat(str(data.get("time")))
        except ValueError:
            continue
        teller.tell(event, time.replace(tzinfo=time.tzinfo or UTC))
    return teller.ended()


class _Teller:
    """Takes the events in their order; times on its own clock, which stands still while the run does."""

    def __init__(self) -> None:
        self._story = Story()
        self._entries = 0
        self._steps: dict[tuple[int, int], Step] = {}
        self._now = 0.0
        self._last: datetime | None = None
        self._spans: list[Span] = []
        self._stops: list[float] = []

    def tell(self, event: object, time: datetime) -> None:
        if self._last is None:
            self._story.began = time
        elif not isinstance(event, RunResumed):
            self._now += max(0.0, (time - self._last).total_seconds())
        self._last = time
        if handle := HANDLERS.get(type(event)):
            handle(self, event)

    def ended(self) -> Story:
        self._story.timeline = draw(self._spans, self._now, self._stops)
        return self._story

    def _attempt(self, number: int) -> Attempt:
        return self._story.attempts.setdefault(number, Attempt(number))

    def _add(self, number: int, entry: Entry) -> None:
        attempt = self._attempt(number)
        if self._entries < MOST_ENTRIES:
            self._entries += 1
            attempt.entries.append(entry)
        else:
            attempt.omitted += 1

    def _span(self, attempt: int, kind: SpanKind, seconds: float, label: str) -> None:
        self._spans.append(Span(attempt, kind, max(0.0, self._now - seconds), self._now, label))

    def _run_started(self, event: RunStarted) -> None:
        self._story.started = event

    def _run_resumed(self, event: RunResumed) -> None:
        self._story.resumed += 1
        self._stops.append(self._now)
        for attempt in self._story.attempts.values():
            if attempt.number != BASE and not attempt.status:
                self._add(attempt.number, Note(f"The run was stopped, and goes on with {event.model}", Excerpt("")))

    def _warning(self, event: WarningRaised) -> None:
        if len(self._story.warnings) < MOST_NAMES and event not in self._story.warnings:
            self._story.warnings.append(event)

    def _check_started(self, event: CheckStarted) -> None:
        row = CheckRow(event.name, event.command, "", "", None)
        self._story.checks.setdefault(event.name, row)

    def _check_ended(self, event: CheckEnded) -> None:
        output = excerpt(event.output)
        made = CheckMade(event.name, STAGES.get(event.stage, ""), event.status, event.seconds, event.cached, output)
        self._add(event.attempt, made)
        if not event.cached:
            self._span(event.attempt, "check", event.seconds, f"check {event.name}: {event.status}")
        row = self._story.checks.get(event.name, CheckRow(event.name, "", "", "", None))
        before, after = (event.status, row.after) if event.stage == "before" else (row.before, event.status)
        self._story.checks[event.name] = CheckRow(event.name, row.command, before, after, event.seconds)

    def _attempt_started(self, event: AttemptStarted) -> None:
        self._attempt(event.attempt)

    def _opened(self, event: ConversationOpened) -> None:
        names = tuple(function.name for function in event.functions[:MOST_NAMES])
        self._add(event.attempt, _prompt("The prompt", event.messages, names))

    def _compacted(self, event: ConversationCompacted) -> None:
        title = (
            f"The conversation was shortened: {event.messages_before} messages to {len(event.messages)}, "
            f"about {event.tokens_before:,} tokens to {event.tokens_after:,}"
        )
        self._add(event.attempt, _prompt(title, event.messages))

    def _message(self, event: MessageAdded) -> None:
        self._add(event.attempt, Note("miyabi told the model", excerpt(event.message.content)))

    def _switched(self, event: ProviderSwitched) -> None:
        title = f"{event.failed} failed, and {event.model} ({event.provider}) goes on"
        self._add(event.attempt, Note(title, excerpt(event.reason)))

    def _reply(self, event: ReplyReceived) -> None:
        reply = event.reply
        step = Step(
            event.step,
            excerpt(reply.thought),
            excerpt(reply.text),
            reply.usage,
            reply.timing.total,
            reply.timing.first_token,
            reply.finish_reason,
            reply.is_cut,
            [call_of(call) for call in reply.tool_calls[:MOST_NAMES]],
        )
        self._steps[event.attempt, event.step] = step
        self._add(event.attempt, step)
        self._span(event.attempt, "model", reply.timing.total, f"the model, step {event.step}")

    def _tool_started(self, event: ToolStarted) -> None:
        step = self._steps.get((event.attempt, event.step))
        if step and event.call.id not in [call.id for call in step.calls]:  # one that miyabi has made of the reply
            step.calls.append(call_of(event.call))

    def _tool_ended(self, event: ToolEnded) -> None:
        self._span(event.attempt, "tool", event.seconds, f"{event.name}, step {event.step}")
        step = self._steps.get((event.attempt, event.step))
        open_calls = [call for call in step.calls if call.output is None and call.id == event.call_id] if step else []
        for call in open_calls[:1]:
            call.output, call.failed, call.seconds = excerpt(event.output), event.failed, event.seconds
            call.changed, call.more_changed = first_of(event.changed, MOST_CHANGED)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        attempt = self._attempt(event.attempt)
        attempt.status, attempt.reason, attempt.summary = event.status, event.reason, event.summary
        attempt.steps, attempt.usage, attempt.seconds = event.steps, event.usage, event.seconds
        attempt.lines_added, attempt.lines_removed = event.lines_added, event.lines_removed


def _prompt(title: str, messages: tuple[Message, ...], functions: tuple[str, ...] = ()) -> Prompt:
    shown, omitted = first_of(messages, MOST_MESSAGES)
    return Prompt(title, tuple(Said(one.role, excerpt(one.content)) for one in shown), omitted, functions)


HANDLERS: Mapping[type[Any], Callable[[_Teller, Any], None]] = {
    RunStarted: _Teller._run_started,
    RunResumed: _Teller._run_resumed,
    WarningRaised: _Teller._warning,
    CheckStarted: _Teller._check_started,
    CheckEnded: _Teller._check_ended,
    AttemptStarted: _Teller._attempt_started,
    ConversationOpened: _Teller._opened,
    ConversationCompacted: _Teller._compacted,
    MessageAdded: _Teller._message,
    ProviderSwitched: _Teller._switched,
    ReplyReceived: _Teller._reply,
    ToolStarted: _Teller._tool_started,
    ToolEnded: _Teller._tool_ended,
    AttemptEnded: _Teller._attempt_ended,
}
