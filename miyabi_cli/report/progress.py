"""Progress on stderr: a line for each thing that happened and, on a terminal, a line of what goes on now."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from miyabi_cli.events import (
    AttemptEnded,
    AttemptStarted,
    CheckEnded,
    CheckStarted,
    ConversationCompacted,
    Event,
    MessageAdded,
    ProgressMade,
    ReplyReceived,
    ReplyStreaming,
    RunResumed,
    RunStarted,
    ToolEnded,
    ToolStarted,
    WarningRaised,
)
from miyabi_cli.report.display import counted, indented, plain_text, safe_text
from miyabi_cli.report.streams import Streams

if TYPE_CHECKING:
    from rich.text import Text

SHOWN_ARGUMENTS = 100
STAGES = {
    "before": "before",
    "after": "after",
    "base_copies": "with the base's tests",
    "tests_alone": "new tests on the base",
}


class Progress:
    """Shows events to a person. A spinner only on a terminal; plain lines elsewhere."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._console = streams.console(streams.talk) if not streams.quiet else None
        self._live = self._console is not None and streams.talk.isatty() and streams.colored(streams.talk)
        self._status: Any = None
        self._started = time.monotonic()
        self._doing = ""
        self._streamed = 0
        self._calls: dict[tuple[int, str], str] = {}
        self._at_work: set[int] = set()  # attempts
        self._side_by_side = False
        self._warned: set[WarningRaised] = set()

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._console is None:
            return
        if isinstance(event, ReplyStreaming):
            self._streamed += len(event.delta.text) + len(event.delta.thought) + len(event.delta.tool_text)
            self._now(f"the model writes ({self._streamed:,} characters)")
        elif isinstance(event, ProgressMade):
            self._now(event.what)
        else:
            for kind, shown in SHOWN.items():
                if isinstance(event, kind):
                    shown(self, event)
                    return

    def close(self) -> None:
        """End the line of what goes on now."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _line(self, text: str, style: str | None = None) -> None:
        if self._console is not None:
            self._console.print(safe_text(text), style=style, soft_wrap=True)

    def _now(self, text: str) -> None:
        if not self._live or self._console is None:
            return
        self._doing = plain_text(text)
        if self._status is None:
            self._status = self._console.status(self)
            self._status.start()

    def __rich__(self) -> Text:
        """Return the line of what goes on now, drawn anew many times a second; nothing in it is markup."""
        from rich.text import Text

        return Text(f"{self._doing} · {time.monotonic() - self._started:.0f} s", no_wrap=True, overflow="ellipsis")

    def _of(self, attempt: int) -> str:
        """Return how a line begins: with its attempt, where several are made side by side."""
        return f"attempt {attempt}: " if attempt and self._side_by_side else ""

    def _run_started(self, event: RunStarted | RunResumed) -> None:
        effort = f", effort {event.effort}" if event.effort else ""
        model = plain_text(f"{event.model} ({event.provider}{effort})")
        self._line(f"miyabi {event.version}: {model}, sandbox {event.sandbox}", "bold")

    def _warning(self, event: WarningRaised) -> None:
        if event not in self._warned:  # a run tells what was shown before it began once more
            self._warned.add(event)
            self._line(plain_text(f"warning: {event.path + ': ' if event.path else ''}{event.message}"), "yellow")

    def _check_started(self, event: CheckStarted) -> None:
        self._now(f"{STAGES[event.stage]}: {event.name}")

    def _check_ended(self, event: CheckEnded) -> None:
        style = {"pass": "green", "fail": "red"}.get(event.status, "dim")
        cached = ", known from an earlier run" if event.cached else ""
        stage = STAGES[event.stage]
        what = f"{self._of(event.attempt)}{stage}: {plain_text(event.name)}"
        self._line(f"{what} {event.status} ({event.seconds:.1f} s{cached})", style)
        if self._streams.verbose and event.status == "fail":
            self._line(indented(event.output.rstrip()), "dim")

    def _attempt_started(self, event: AttemptStarted) -> None:
        self._at_work.add(event.attempt)
        self._side_by_side |= len(self._at_work) > 1
        self._line(f"attempt {event.attempt}", "bold")
        self._now("waiting for the model")

    def _reply(self, event: ReplyReceived) -> None:
        self._streamed = 0
        reply = event.reply
        if self._streams.verbose and reply.thought.strip():
            self._line(indented(reply.thought.strip()), "dim italic")
        if reply.text.strip() and (self._streams.verbose or reply.tool_calls):
            self._line(indented(reply.text.strip()))

    def _tool_started(self, event: ToolStarted) -> None:
        shown = brief(event.call.arguments)
        self._calls[event.attempt, event.call.id] = shown
        self._now(f"{event.call.name} {shown}")

    def _tool_ended(self, event: ToolEnded) -> None:
        mark = "failed: " if event.failed else ""
        first = plain_text(event.output.partition("\n")[0])[:SHOWN_ARGUMENTS] if event.failed else ""
        about = self._calls.pop((event.attempt, event.call_id), "")
        name = self._of(event.attempt) + plain_text(event.name)[:SHOWN_ARGUMENTS]
        self._line(f"  {name} {about} ({event.seconds:.1f} s) {mark}{first}".rstrip())
        if self._streams.verbose:
            self._line(indented(event.output.rstrip()), "dim")
        self._now("waiting for the model")

    def _message(self, event: MessageAdded) -> None:
        self._line(
            f"  {self._of(event.attempt)}told the model: {plain_text(event.message.content)[:SHOWN_ARGUMENTS]}", "dim"
        )
        self._now("waiting for the model")

    def _compacted(self, event: ConversationCompacted) -> None:
        self._line(
            f"  {self._of(event.attempt)}the conversation was shortened: {event.messages_before} messages to "
            f"{len(event.messages)}, about {event.tokens_before:,} tokens to {event.tokens_after:,}",
            "dim",
        )

    def _attempt_ended(self, event: AttemptEnded) -> None:
        self._at_work.discard(event.attempt)
        tokens = event.usage.input_tokens + event.usage.output_tokens
        reason = f" ({plain_text(event.reason)})" if event.reason else ""
        self._line(
            f"attempt {event.attempt}: {event.status}{reason}, {counted(event.steps, 'step')}, {tokens:,} tokens, "
            f"{event.seconds:.1f} s"
        )


SHOWN: dict[type[Any], Callable[[Progress, Any], None]] = {
    RunStarted: Progress._run_started,
    RunResumed: Progress._run_started,
    WarningRaised: Progress._warning,
    CheckStarted: Progress._check_started,
    CheckEnded: Progress._check_ended,
    AttemptStarted: Progress._attempt_started,
    ReplyReceived: Progress._reply,
    ToolStarted: Progress._tool_started,
    ToolEnded: Progress._tool_ended,
    MessageAdded: Progress._message,
    ConversationCompacted: Progress._compacted,
    AttemptEnded: Progress._attempt_ended,
}


def brief(arguments: str) -> str:
    """Return a call's arguments in a few words: their values, cut, on one line and safe for a terminal."""
    try:
        data = json.loads(arguments)
    except (ValueError, RecursionError):
        data = arguments
    if isinstance(data, dict):
        data = " ".join(_word(value) for value in data.values())
    text = plain_text(str(data))
    return text if len(text) <= SHOWN_ARGUMENTS else text[: SHOWN_ARGUMENTS - 1] + "…"


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
