"""The agent for small models: it shows the code that matters and takes it back rewritten, without tools.

A model of 1.5 billion parameters neither explores a repository nor writes patches that apply; shown a function and
what fails, it writes the function anew. Figures: docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from miyabi_cli.agent.conversation import Conversation, Question
from miyabi_cli.agent.focus import Excerpt, definitions_of
from miyabi_cli.agent.languages.language import CodeRefused
from miyabi_cli.agent.loop import Ending
from miyabi_cli.errors import RepositoryError
from miyabi_cli.events import Event, ReplyReceived, ToolEnded, ToolStarted
from miyabi_cli.fences import backticks
from miyabi_cli.messages import Message, Reply, ToolCall
from miyabi_cli.workspace.paths import Root

REWRITE = "rewrite"
SAME = "the code is the same as before"
STOP = ("\n```\n",)
BAD_REPLIES_ENDED = 2
DEFINED = re.compile(r"\b(?:def|fn|func|function|const|let|var)\s+(?:\([^)\n]{0,200}\)\s*)?([\w$]+)")
FENCE = re.compile(r"```[\w+.-]*[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


@dataclass(slots=True)
class Rewriter:
    """One conversation about some excerpts; the same handles as `loop.Agent`."""

    conversation: Conversation
    root: Root
    excerpts: tuple[Excerpt, ...]
    rounds: int = 0
    keeps_work: bool = True
    steps: int = 0
    ending: Ending = "answered"
    reason: str = ""
    answer: str = ""
    _bad_replies: int = field(default=0)

    @property
    def messages(self) -> Sequence[Message]:
        return self.conversation.messages

    @property
    def attempt(self) -> int:
        return self.conversation.attempt

    def tell(self, text: str, *, lasting: bool = False) -> tuple[Event, ...]:
        """Say something to the model; return what happened."""
        return self.conversation.tell(text, lasting=lasting)

    async def turn(self) -> AsyncGenerator[Event, None]:
        """Ask for the code and put it in its place; a reply that has none is answered once with what is wrong."""
        while True:
            if limit := self.conversation.allowance.reached(self.steps):
                self.ending, self.reason = "limit", limit
                return
            async with contextlib.aclosing(self.conversation.ask(Question(stop=STOP))) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        reply = piece
                    else:
                        yield piece
            self.steps += 1
            yield ReplyReceived(self.attempt, self.steps, reply)
            self.conversation.messages.append(reply.message())
            call = ToolCall(f"{REWRITE}_{self.steps}", REWRITE, json.dumps({"code": _longest_fence(reply.text)}))
            yield ToolStarted(self.attempt, self.steps, call)
            ended = self._rewrite(call, reply.text)
            yield ended
            if self._is_over(ended):
                return
            for event in self.tell(
                f"That can't be used: {ended.output}. Reply with only the whole corrected function."
            ):
                yield event

    def _is_over(self, ended: ToolEnded) -> bool:
        """Say whether the turn ends here, with the code in its place or stuck; note how."""
        if not ended.failed:
            self.ending, self.answer = "answered", ended.output
            return True
        self._bad_replies += 1
        # A model that copies the code copies it again when it is told so: measured.
        if ended.output == SAME or self._bad_replies >= BAD_REPLIES_ENDED:
            self.ending, self.reason = "stuck", ended.output
            return True
        return False

    def _rewrite(self, call: ToolCall, text: str) -> ToolEnded:
        started = time.perf_counter()
        changed: tuple[str, ...] = ()
        try:
            changed = self._apply(_fences(text))
            output, failed = f"rewrote {', '.join(changed)}", False
        except (CodeRefused, RepositoryError) as error:
            output, failed = str(error), True
        seconds = round(time.perf_counter() - started, 3)
        return ToolEnded(self.attempt, self.steps, call.id, call.name, output, failed, changed, seconds)

    def _apply(self, fences: Sequence[str]) -> tuple[str, ...]:
        """Put the longest usable code into the file it belongs to; return the files that changed."""
        problem: CodeRefused | None = None
        for code in sorted(fences, key=lambda fence: -len(fence)):
            excerpt = self._excerpt_for(code)
            try:
                if self._replace(excerpt, code):
                    return (excerpt.path,)
                problem = CodeRefused(SAME)
            except CodeRefused as error:
                problem = problem or error
        raise problem or CodeRefused("there is no code in the reply")

    def _excerpt_for(self, code: str) -> Excerpt:
        """Return the excerpt that holds a function which the code defines; the likeliest one for what is new."""
        defined = set(DEFINED.findall(code))
        holding = (one for one in self.excerpts if defined & {name.split(".")[-1] for name in one.names})
        return next(holding, self.excerpts[0])

    def _replace(self, excerpt: Excerpt, code: str) -> bool:
        """Rewrite one file; say whether it is another now."""
        data = self.root.read(excerpt.path)
        old = data.decode("utf-8", "surrogateescape")
        new = excerpt.language.replaced(old, code, excerpt.names)
        if new == old:
            return False
        self.root.write(excerpt.path, new.encode("utf-8", "surrogateescape"))
        return True


def rewriting_prompt(task: str, excerpts: Sequence[Excerpt], failures: str) -> str:
    """Return the one message of a rewriting conversation: the code first, so that a cached prefix serves each try."""
    shown = "\n\n".join(_shown(excerpt, excerpt.text) for excerpt in excerpts)
    names = [name for excerpt in excerpts for name in excerpt.likeliest]
    fence = f"```{excerpts[0].language.name}"
    what = f"function `{names[0]}`" if len(names) == 1 else "function that is to be changed"
    ask = f"Fix the bug. Reply with only the whole corrected {what} in one {fence} block."
    if not failures.strip():
        ask = f"Do that. Reply with only the whole functions that change or are new, in one {fence} block."
    return _joined(task, shown, failures, ask)


def anew_prompt(task: str, excerpt: Excerpt, source: str, failures: str) -> str:
    """Return the one message of a conversation in which the likeliest function is written without seeing the old one.

    A model that sees a faulty function often copies the fault; `source` is the whole file.
    """
    name = excerpt.likeliest[0]
    definition = next(one for one in definitions_of(excerpt.path, source) if one.name == name)
    shown = _shown(excerpt, definition.outline)
    ask = f"Write `{name}` anew. Reply with only the whole function in one ```{excerpt.language.name} block."
    return _joined(task, shown, failures, ask)


def _joined(task: str, shown: str, failures: str, ask: str) -> str:
    fence = backticks(failures)
    told = f"The test fails:\n{fence}\n{failures.strip()}\n{fence}" if failures.strip() else ""
    return "\n\n".join(part for part in (task.strip(), shown, told, ask) if part)


def _shown(excerpt: Excerpt, text: str) -> str:
    fence = backticks(text)
    return f"{' '.join(excerpt.path.split())}:\n{fence}{excerpt.language.name}\n{text}\n{fence}"


def _fences(text: str) -> list[str]:
    """Return the code of a reply: each fence (the last may have lost its end), or all of it where there is none."""
    found = [match.strip("\n") for match in FENCE.findall(text)]
    return [code for code in found if code.strip()] or ([text] if text.strip() else [])


def _longest_fence(text: str) -> str:
    return max(_fences(text), key=len, default="")
