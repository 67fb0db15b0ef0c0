"""What happens in a run, as a tagged union of frozen data; a report shows it and the run's log keeps it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from miyabi_cli.messages import Delta, Function, Message, Reply, ToolCall, Usage

Stage = Literal["before", "after", "base_copies", "tests_alone"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    type = "run_started"
    version: str
    task: str
    repository: str
    base: str
    provider: str
    model: str
    effort: str | None
    sandbox: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunResumed:
    """A run that was stopped goes on in another process; what is not said here is as it was."""

    type = "run_resumed"
    version: str
    provider: str
    model: str
    effort: str | None
    sandbox: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WarningRaised:
    """Something that the user should know; `path` is the file that it is about, "" where it is about none."""

    type = "warning"
    kind: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """A step of the preparation that takes a while: `what` is for a person, and not kept in the log."""

    type = "progress"
    what: str


@dataclass(frozen=True, slots=True)
class CheckStarted:
    type = "check_started"
    attempt: int
    stage: Stage
    name: str
    command: str


@dataclass(frozen=True, slots=True)
class CheckEnded:
    type = "check_ended"
    attempt: int
    stage: Stage
    name: str
    status: str
    seconds: float
    output: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    type = "attempt_started"
    attempt: int
    worktree: str


@dataclass(frozen=True, slots=True)
class ConversationOpened:
    """The head of the prompt, which stays as it is for the whole attempt.

    It comes once more with all that was said where the server takes no tools, and the model is told of them in words.
    """

    type = "conversation_opened"
    attempt: int
    messages: tuple[Message, ...]
    functions: tuple[Function, ...]


@dataclass(frozen=True, slots=True)
class ConversationCompacted:
    """The conversation came near the end of the model's window: from here on it is `messages`.

    `messages_before` counts those that it was; the tokens are estimates of the prompt's.
    """

    type = "conversation_compacted"
    attempt: int
    messages: tuple[Message, ...]
    messages_before: int
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True)
class ProviderSwitched:
    """The provider `failed` is given up, and the conversation goes on with another one's `model`."""

    type = "provider_switched"
    attempt: int
    failed: str
    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageAdded:
    """A word of miyabi's own to the model: a nudge, a failing check. What is `lasting` outlives a shortening."""

    type = "message_added"
    attempt: int
    message: Message
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class ReplyStreaming:
    """A piece of a reply while it comes; not kept in the log."""

    type = "reply_streaming"
    attempt: int
    delta: Delta


@dataclass(frozen=True, slots=True)
class ReplyReceived:
    type = "reply"
    attempt: int
    step: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class ToolStarted:
    type = "tool_started"
    attempt: int
    step: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolEnded:
    type = "tool_ended"
    attempt: int
    step: int
    call_id: str
    name: str
    output: str
    failed: bool
    changed: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The `status` is the result's, or "interrupted" where an error, a signal or a better attempt has ended it."""

    type = "attempt_ended"
    attempt: int
    status: str
    reason: str
    summary: str
    steps: int
    lines_added: int
    lines_removed: int
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last event of a run: the result as its JSON Schema describes it."""

    type = "result"
    result: dict[str, Any]


Event = (
    RunStarted
    | RunResumed
    | WarningRaised
    | ProgressMade
    | CheckStarted
    | CheckEnded
    | AttemptStarted
    | ConversationOpened
    | ConversationCompacted
    | ProviderSwitched
    | MessageAdded
    | ReplyStreaming
    | ReplyReceived
    | ToolStarted
    | ToolEnded
    | AttemptEnded
    | RunEnded
)

# For the eye alone: neither in the log nor in a JSON line.
TRANSIENT = (ReplyStreaming, ProgressMade)


def timestamp() -> str:
    """Return the time now, in UTC, as RFC 3339 writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_data(event: Event, *, run_id: str) -> dict[str, Any]:
    """Return the event as the object of one JSON line: type, time, run id, then its fields."""
    return {"type": event.type, "time": timestamp(), "run_id": run_id, **dataclasses.asdict(event)}


def event_of(data: Mapping[str, Any]) -> Event | None:
    """Return the event that `event_data` has made data of; None for a type that this version does not know.

    A field that the data lacks has its default, each is held to its type. Raises ValueError for what is no event.
    """
    kind = KINDS.get(str(data.get("type")))
    return record_of(kind, data) if kind else None


def record_of(kind: Any, data: Mapping[str, Any]) -> Any:
    """Return the dataclass that JSON data was made of. Raises ValueError for data that is none of it."""
    try:
        return _record(kind, data)
    except TypeError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from None


LARGEST = 2**53  # up to here every JSON reader has the same number (RFC 8259, section 6)
KINDS: Mapping[str, Any] = {kind.type: kind for kind in get_args(Event)}


def _record(kind: Any, data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"{kind.__name__} is to be an object")
    hints = _hints(kind)
    given = [field.name for field in dataclasses.fields(kind) if field.name in data]
    return kind(**{name: _value(hints[name], data[name], name) for name in given})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as what a field's type hint says. Raises TypeError where it is none of it."""
    if dataclasses.is_dataclass(hint):
        return _record(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_value(get_args(hint)[0], item, name) for item in value)
    if not _is_a(hint, value):
        raise TypeError(f"{name} is {value!r:.50}")
    return value


def _is_a(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_is_a(part, value) for part in get_args(hint))
    if hint in (int, float):  # an infinity is no JSON, and nothing is counted that far
        return isinstance(value, int | hint) and not isinstance(value, bool) and abs(value) <= LARGEST
    return hint is Any or isinstance(value, get_origin(hint) or hint)
