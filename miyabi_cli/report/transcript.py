"""A run's log as a conversation that a person can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from miyabi_cli.report.display import indented, plain_text, safe_text
from miyabi_cli.report.streams import Streams

OUTPUT_LIMIT = 2_000


def write_transcript(events: Iterable[Mapping[str, Any]], streams: Streams) -> None:
    """Write the events of a log (objects as `events.event_data` makes them) to the result's stream."""
    console = streams.console(streams.output)
    for event in events:
        for text, style in _lines(event):
            console.print(safe_text(text), style=style, soft_wrap=True)


Lines = Iterable[tuple[str, str | None]]


def _lines(event: Mapping[str, Any]) -> Lines:
    shown = SHOWN.get(str(event.get("type")))
    try:
        return tuple(shown(event)) if shown else ()
    except (AttributeError, KeyError, TypeError, ValueError):  # the log is damaged, or another version's
        return ((f"── an event that can't be read: {event['type']}", "dim"),)


def _resumed(event: Mapping[str, Any]) -> Lines:
    yield f"══ the run was stopped, and goes on with {event['model']} ({event['provider']})", "bold"


def _opened(event: Mapping[str, Any]) -> Lines:
    for message in event["messages"]:
        yield f"── {plain_text(message['role'])}", "bold"
        yield indented(_cut(message["content"])), None


def _compacted(event: Mapping[str, Any]) -> Lines:
    before, after = event["messages_before"], len(event["messages"])
    yield f"── the conversation was shortened: {before} messages to {after}", "bold"
    _task, digest, *_ = (message["content"] for message in event["messages"] if message["role"] == "user")
    yield indented(digest), None


def _reply(event: Mapping[str, Any]) -> Lines:
    reply = event["reply"]
    yield f"── the model, step {event['step']}", "bold cyan"
    if reply["thought"].strip():
        yield indented(reply["thought"].strip()), "dim italic"
    if reply["text"].strip():
        yield indented(reply["text"].strip()), None
    for call in reply["tool_calls"]:
        yield plain_text(f"{call['name']} {call['arguments']}", "→ "), "cyan"


def _tool_ended(event: Mapping[str, Any]) -> Lines:
    yield plain_text(f"{event['name']}{' failed' if event['failed'] else ''} ({event['seconds']:.1f} s)", "── "), "bold"
    yield indented(_cut(event["output"].rstrip())), "dim"


def _message_added(event: Mapping[str, Any]) -> Lines:
    yield "── miyabi", "bold"
    yield indented(_cut(event["message"]["content"])), None


def _check_ended(event: Mapping[str, Any]) -> Lines:
    ended = f"{event['name']} {event['stage']}: {event['status']} ({event['seconds']:.1f} s)"
    yield plain_text(ended, "── check "), "bold"


def _attempt(event: Mapping[str, Any]) -> Lines:
    yield plain_text(f"{event['attempt']} {event.get('status', '')}", "══ attempt "), "bold"


def _warning(event: Mapping[str, Any]) -> Lines:
    yield plain_text(f"warning: {event['path'] + ': ' if event['path'] else ''}{event['message']}"), "yellow"


SHOWN: dict[str, Callable[[Mapping[str, Any]], Lines]] = {
    "run_resumed": _resumed,
    "conversation_opened": _opened,
    "conversation_compacted": _compacted,
    "reply": _reply,
    "tool_ended": _tool_ended,
    "message_added": _message_added,
    "check_ended": _check_ended,
    "attempt_started": _attempt,
    "attempt_ended": _attempt,
    "warning": _warning,
}


def _cut(text: str) -> str:
    return text if len(text) <= OUTPUT_LIMIT else f"{text[:OUTPUT_LIMIT]}\n[{len(text) - OUTPUT_LIMIT} characters more]"
