"""Repair line by line: one line of a suspicious function is left out, and the model fills it in.

A small model that is shown a faulty function often copies it as it is; asked for one missing line it has nothing to
copy. Each program that comes of it is tried by the checks. Figures: docs/benchmarks.md.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from miyabi_cli.agent.allowance import Allowance
from miyabi_cli.agent.focus import Excerpt, definitions_of
from miyabi_cli.agent.languages.language import CodeRefused, Language
from miyabi_cli.agent.loop import Ending
from miyabi_cli.errors import ProviderError
from miyabi_cli.events import Event, ReplyReceived, ToolEnded, ToolStarted
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Message, Reply, ToolCall
from miyabi_cli.workspace.indentation import indent_of
from miyabi_cli.workspace.paths import Root

INFILL = "infill"
LINE_TOKENS = 48
LINES_TRIED = 40
# Brackets alone, and words that only begin a block.
NOTHING_TO_FILL = re.compile(r"[\W_]*(?:(?:else|try|finally|pass|do|default|loop|unsafe)\b[\W_]*)?")


@dataclass(frozen=True, slots=True)
class _Gap:
    """A line to leave out: `number` counts from 0 in the file's lines, `first` is its function's first line."""

    path: str
    language: Language
    number: int
    first: int
    last: int


@dataclass(slots=True)
class Infiller:
    """Tries the lines of the excerpts' functions; each `turn` ends with another program in the worktree."""

    provider: Provider
    root: Root
    excerpts: tuple[Excerpt, ...]
    failures: str
    allowance: Allowance
    attempt: int = 1
    messages: Sequence[Message] = ()
    steps: int = 0
    rounds: int = LINES_TRIED
    keeps_work: bool = False
    ending: Ending = "answered"
    reason: str = ""
    answer: str = ""
    _sources: dict[str, str] = field(default_factory=dict)
    _gaps: Iterator[_Gap] = field(default=iter(()))
    _seen: set[Hashable] = field(default_factory=set)
    _changed: str = ""

    def __post_init__(self) -> None:
        self._sources = {one.path: self.root.read(one.path).decode("utf-8", "surrogateescape") for one in self.excerpts}
        self._gaps = iter([gap for one in self.excerpts for gap in _gaps(one, self._sources[one.path])][:LINES_TRIED])

    def tell(self, text: str, *, lasting: bool = False) -> tuple[Event, ...]:  # noqa: ARG002 - a left out line is deaf
        """Go on with the next line."""
        return ()

    async def turn(self) -> AsyncGenerator[Event, None]:
        """Fill in lines until one gives a program that was not tried before."""
        self._restore()
        for gap in self._gaps:
            if limit := self.allowance.reached(self.steps):
                self.ending, self.reason = "limit", limit
                return
            reply = await self._fill(gap)
            self.steps += 1
            yield ReplyReceived(self.attempt, self.steps, reply)
            program = self._program(gap, reply.text)
            if program is None:
                continue
            line = program.split("\n")[gap.number].strip()
            call = ToolCall(f"{INFILL}_{self.steps}", INFILL, json.dumps({"line": gap.number + 1, "code": line}))
            yield ToolStarted(self.attempt, self.steps, call)
            yield self._write(gap, call, program)
            self.answer = f"changed line {gap.number + 1} of {gap.path} to `{line}`"
            return
        self.ending, self.reason = "stuck", "no line that was filled in makes the checks pass"

    async def _fill(self, gap: _Gap) -> Reply:
        lines = self._sources[gap.path].split("\n")
        line = lines[gap.number]
        indent = indent_of(line)
        notes = "".join(f"{gap.language.comment} {note}\n" for note in self.failures.splitlines())
        prefix = notes + "\n".join([*lines[gap.first : gap.number], indent])
        suffix = "\n" + "\n".join(lines[gap.number + 1 : gap.last]) + "\n"
        try:
            reply = await self.provider.infill(prefix, suffix, max_tokens=LINE_TOKENS, stop=("\n",))
        except ProviderError as error:
            self.allowance.spend(error.usage)
            raise
        self.allowance.spend(reply.usage)
        return reply

    def _program(self, gap: _Gap, text: str) -> str | None:
        """Return the file with the line filled in; None where it is not of the language or was there before."""
        lines = self._sources[gap.path].split("\n")
        old = lines[gap.number]
        lines[gap.number] = indent_of(old) + text.split("\n")[0].strip()
        program = "\n".join(lines)
        try:
            meaning = gap.language.meaning(program)
            known = gap.language.meaning(self._sources[gap.path])
        except CodeRefused:
            return None
        if meaning == known or meaning in self._seen:
            return None
        self._seen.add(meaning)
        return program

    def _write(self, gap: _Gap, call: ToolCall, program: str) -> ToolEnded:
        started = time.perf_counter()
        self.root.write(gap.path, program.encode("utf-8", "surrogateescape"))
        self._changed = gap.path
        seconds = round(time.perf_counter() - started, 3)
        output = f"filled in line {gap.number + 1} of {gap.path}"
        return ToolEnded(self.attempt, self.steps, call.id, call.name, output, False, (gap.path,), seconds)

    def _restore(self) -> None:
        """Put the file back that the turn before has changed."""
        if self._changed:
            self.root.write(self._changed, self._sources[self._changed].encode("utf-8", "surrogateescape"))
            self._changed = ""


def _gaps(excerpt: Excerpt, source: str) -> Iterator[_Gap]:
    """Yield the lines of an excerpt's functions that are worth leaving out, the likeliest function first."""
    found = {one.name: one for one in definitions_of(excerpt.path, source)}
    language = excerpt.language
    lines = source.split("\n")
    for name in excerpt.likeliest:
        if definition := found.get(name):
            start = definition.first - 1
            for number in range(start + definition.body, min(definition.last, len(lines))):
                text = lines[number].strip()
                if not text.startswith(language.comment) and not NOTHING_TO_FILL.fullmatch(text):
                    yield _Gap(excerpt.path, language, number, start, definition.last)
