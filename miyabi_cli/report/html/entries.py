"""What stands on a run's page: plain data, bounded, as its template reads it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from miyabi_cli.messages import ToolCall, Usage
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.html.excerpts import Excerpt, excerpt
from miyabi_cli.report.progress import SHOWN_ARGUMENTS, brief

ArgumentKind = Literal["value", "text", "command", "patch"]
TEST_KINDS = ("fixed", "broken", "still_failing")
PATCH_BEGINS = "*** Begin Patch"
MOST_ARGUMENTS = 30
FOLDED_LINES = 25  # a text with more of them is folded


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: a short `value`, or a text, a shell's command or a patch of its own lines."""

    name: str
    kind: ArgumentKind
    text: Excerpt


@dataclass(slots=True)
class Call:
    """A tool's call and what came of it; `output` is None where it has not ended."""

    id: str
    name: str
    about: str
    arguments: tuple[Argument, ...]
    output: Excerpt | None = None
    failed: bool = False
    changed: tuple[str, ...] = ()
    more_changed: int = 0
    seconds: float = 0.0

    @property
    def is_long(self) -> bool:
        texts = [argument.text for argument in self.arguments] + ([self.output] if self.output else [])
        return sum(text.lines for text in texts) > FOLDED_LINES


@dataclass(slots=True)
class Step:
    """A reply of the model, and the calls that it made."""

    kind: ClassVar[str] = "step"
    number: int
    thought: Excerpt
    text: Excerpt
    usage: Usage
    seconds: float
    first_token: float | None
    finish_reason: str
    is_cut: bool
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Said:
    role: str
    text: Excerpt


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model was told at once; `omitted` messages are not shown."""

    kind: ClassVar[str] = "prompt"
    title: str
    messages: tuple[Said, ...]
    omitted: int = 0
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Something that miyabi did or said to the model."""

    kind: ClassVar[str] = "note"
    title: str
    text: Excerpt


@dataclass(frozen=True, slots=True)
class CheckMade:
    """A check that has run."""

    kind: ClassVar[str] = "check"
    name: str
    stage: str
    status: str
    seconds: float
    cached: bool
    output: Excerpt


Entry = Step | Prompt | Note | CheckMade


@dataclass(slots=True)
class Attempt:
    """One attempt; number 0 is the work on the base before the first. `status` is "" while it has not ended."""

    number: int
    entries: list[Entry] = field(default_factory=list)
    status: str = ""
    reason: str = ""
    summary: str = ""
    steps: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float | None = None
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check before and after the change, and its tests by what became of them; of each kind some are shown."""

    name: str
    command: str
    before: str
    after: str
    seconds: float | None
    fixed: int = 0
    broken: int = 0
    still_failing: int = 0
    tests: tuple[tuple[str, tuple[str, ...], int], ...] = ()


def call_of(call: ToolCall) -> Call:
    """Return a call that has not ended yet. Arguments that are whole in the words about it are not told again."""
    arguments = tuple(_arguments(call.arguments))
    about = _about(arguments, call.arguments)
    is_one_command = len(arguments) == 1 and arguments[0].kind == "command"
    told = not about.endswith("…") and (is_one_command or all(argument.kind == "value" for argument in arguments))
    return Call(call.id, call.name, about, () if told else arguments)


def _about(arguments: tuple[Argument, ...], text: str) -> str:
    """Return a call in a few words: of a command its first line, of a patch nothing, for its files are named."""
    kinds = {argument.kind: argument.text.head for argument in arguments}
    if "patch" in kinds:
        return ""
    first, _, more = kinds.get("command", "").strip().partition("\n")
    return plain_text(first)[:SHOWN_ARGUMENTS] + ("…" if more or len(first) > SHOWN_ARGUMENTS else "") or brief(text)


def texts_of(entry: Entry) -> int:
    """Return how many texts an entry holds."""
    if isinstance(entry, Step):
        return 2 + sum(1 + len(call.arguments) for call in entry.calls)
    return len(entry.messages) if isinstance(entry, Prompt) else 1


def _arguments(text: str) -> Iterator[Argument]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        yield Argument("", "text", excerpt(text))
        return
    for name, value in list(data.items())[:MOST_ARGUMENTS]:
        yield _argument(name, value)


def _argument(name: str, value: object) -> Argument:
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return Argument(name, "command", excerpt(_command(value)))
    if not isinstance(value, str):
        return Argument(name, "value", excerpt(json.dumps(value, ensure_ascii=False)))
    if value.lstrip().startswith(PATCH_BEGINS):
        return Argument(name, "patch", excerpt(value))
    return Argument(name, "text" if "\n" in value.strip() else "value", excerpt(value))


def _command(words: Sequence[str]) -> str:
    """Return a command as a person would type it: of `bash -lc SCRIPT` the script alone."""
    is_script = len(words) == 3 and words[0].endswith("sh") and words[1] in ("-c", "-lc")
    return words[2] if is_script else shlex.join(words)


def check_rows(checks: Sequence[Mapping[str, Any]], most: int) -> tuple[CheckRow, ...]:
    """Return the checks of a result (objects as schemas/codegen.json describes them)."""
    return tuple(_check_row(check, most) for check in checks[:most])


def _check_row(check: Mapping[str, Any], most: int) -> CheckRow:
    tests = {kind: check["tests"][kind] for kind in TEST_KINDS}
    named = tuple(
        (kind.replace("_", " "), tuple(names[:most]), max(0, len(names) - most))
        for kind, names in tests.items()
        if names
    )
    return CheckRow(
        name=check["name"],
        command=check["command"],
        before=check["before"],
        after=check["after"],
        seconds=check["seconds"],
        fixed=len(tests["fixed"]),
        broken=len(tests["broken"]),
        still_failing=len(tests["still_failing"]),
        tests=named,
    )
