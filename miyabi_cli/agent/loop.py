"""The agent: a conversation in which a model calls tools until it answers or a limit is reached."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from miyabi_cli.agent.actions import Actions, SchemaActions
from miyabi_cli.agent.compaction import call_line, shortened
from miyabi_cli.agent.conversation import Conversation, Question
from miyabi_cli.agent.results import ToolResult
from miyabi_cli.errors import ToolsRefused
from miyabi_cli.events import (
    ConversationCompacted,
    ConversationOpened,
    Event,
    MessageAdded,
    ReplyReceived,
    ToolEnded,
    ToolStarted,
    WarningRaised,
)
from miyabi_cli.messages import Effort, Message, Reply, ToolCall

REPEATS_NOTED = 3
REPEATS_ENDED = 5
BAD_REPLIES_ENDED = 3
CUT_OFF_SHOWN = 2_000  # bytes of a reply without an end that go back to the model
LOWER_EFFORT: Mapping[str, Effort] = {"high": "medium", "medium": "low"}
INTERRUPTED = "interrupted: miyabi was stopped while this ran; look at the state before you go on"
REPEATED = "\n[The same call gave the same result {} times. Do something else.]"
REPEATED_END = re.compile(re.escape(REPEATED).replace(r"\{\}", r"\d+") + r"\Z")

Ending = Literal["answered", "limit", "stuck"]


class Result(Protocol):
    """What a tool gives back."""

    @property
    def output(self) -> str: ...

    @property
    def failed(self) -> bool: ...

    @property
    def changed(self) -> tuple[str, ...]: ...


RunTool = Callable[[str, str], Awaitable[Result]]


@dataclass(slots=True)
class Agent:
    """A model at work by tools, in one conversation.

    `run_tool` takes a tool's name and its arguments as the model wrote them. After `turn` has ended, `ending` says
    how and `answer` holds the model's last word; `tell` adds a message, and `turn` then goes on. `rounds` says how
    often it is worth telling it what fails with its work.

    What is to be done about the last reply waits in `_calls` and `_complaint`. So an agent that has recalled the events
    of a process that was stopped goes on where that one was.
    """

    conversation: Conversation
    actions: Actions
    run_tool: RunTool
    rounds: int = 3
    keeps_work: bool = True
    steps: int = 0
    ending: Ending = "answered"
    reason: str = ""
    answer: str = ""
    _seen: Counter[int] = field(default_factory=Counter)
    _bad_replies: int = 0
    _over: bool = False
    _complaint: str = ""
    _calls: deque[ToolCall] = field(default_factory=deque)
    _interrupted: bool = False  # the first of the calls has started, in a process that was stopped

    @property
    def messages(self) -> Sequence[Message]:
        return self.conversation.messages

    @property
    def attempt(self) -> int:
        return self.conversation.attempt

    def tell(self, text: str, *, lasting: bool = False) -> tuple[Event, ...]:
        """Say something to the model; return what happened."""
        self._over = False
        return self.conversation.tell(text, lasting=lasting)

    def recall(self, event: Event) -> None:
        """Be as after an event of this attempt that an earlier process has logged; nothing is asked and nothing runs.

        The agent has begun with the tools that the log's first conversation offers.
        """
        match event:
            case ConversationOpened():
                if self.actions.offered and not event.functions:
                    self.actions = self._schema_actions()
                self.conversation.reopen(event.messages)
            case ConversationCompacted():
                self.conversation.reopen(event.messages)
            case MessageAdded():
                self._complaint, self._over = "", False
                self.conversation.recall(event)
            case ReplyReceived():
                self.steps = event.step
                self.conversation.learn_size(event.reply)
                self._take(event.reply)
            case ToolStarted():
                self._interrupted = True
            case ToolEnded() if self._calls:
                self._interrupted = False
                result = ToolResult(REPEATED_END.sub("", event.output), event.failed, event.changed)
                self._settle(self._calls.popleft(), result)
            case _:
                pass

    def adapt(self) -> tuple[Event, ...]:
        """Change over to actions as objects where the model is offered tools that its server does not take.

        It is for a conversation that began with another server; return what happened.
        """
        if not self.actions.offered or self.conversation.provider.capabilities.tools:
            return ()
        return (self._reopen_without_tools(),)

    async def turn(self) -> AsyncGenerator[Event, None]:
        """Go on until the model answers without a tool call, or a limit is reached.

        `ToolStarted` is yielded before the tool runs: whoever keeps a log has it on disk by then.
        """
        async for event in self._follow_up():
            yield event
        while not self._over:
            if limit := self.conversation.allowance.reached(self.steps):
                self.ending, self.reason = "limit", limit
                return
            try:
                async with contextlib.aclosing(self.conversation.ask(self._question())) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            reply = piece
                        else:
                            yield piece
            except ToolsRefused as error:
                for event in self._do_without_tools(error):
                    yield event
                continue
            self.steps += 1
            yield ReplyReceived(self.attempt, self.steps, reply)
            self._take(reply)
            async for event in self._follow_up():
                yield event

    def _do_without_tools(self, error: ToolsRefused) -> tuple[Event, ...]:
        """Open the conversation anew, with all that was said told in objects. Raises the error where that is done."""
        if not self.actions.offered:
            raise error
        opened = self._reopen_without_tools()
        better = f" ({error.hint})" if error.hint else ""
        return (
            WarningRaised("tools", "", f"{error.message}; so the model is asked for actions as JSON objects{better}"),
            opened,
        )

    def _reopen_without_tools(self) -> ConversationOpened:
        actions = self._schema_actions()
        self.conversation.reopen(actions.retold(self.messages))
        self.actions = actions
        return ConversationOpened(self.attempt, tuple(self.messages), ())

    def _schema_actions(self) -> SchemaActions:
        return SchemaActions(self.actions.offered, held=self.conversation.provider.capabilities.schema)

    def _take(self, reply: Reply) -> None:
        """Put a reply into the conversation, and note what is to be done about it; without a call it is the answer."""
        if problem := self._problem(reply):
            self._object(reply, problem)
            return
        self._bad_replies = 0
        self.conversation.messages.append(reply.message())
        self._calls.extend(self.actions.calls(reply))
        if not self._calls:
            self.ending, self.answer, self._over = "answered", self.actions.answer(reply), True

    def _object(self, reply: Reply, problem: str) -> None:
        """Let the model hear what is wrong with its reply; end the turn when that has not helped."""
        self._bad_replies += 1
        text, thought = reply.text, reply.thought
        if reply.is_cut:
            parts = (shortened(part, CUT_OFF_SHOWN) for part in (thought, text) if part.strip())
            text, thought = "", "\n\n".join(parts)  # no answer: the thought before an answer is left out of prompts
        self.conversation.messages.append(Message("assistant", text, thought=thought))
        if self._bad_replies >= BAD_REPLIES_ENDED:
            self.ending, self.reason, self._over = "stuck", problem, True
        else:
            self._complaint = problem

    async def _follow_up(self) -> AsyncGenerator[Event, None]:
        """Do what the last reply calls for: say what is wrong with it, or run its tools in their order."""
        if self._complaint:
            problem, self._complaint = self._complaint, ""
            for event in self.tell(problem):
                yield event
        while self._calls:
            if self._interrupted:
                self._interrupted = False
                yield self._settle(self._calls.popleft(), ToolResult(INTERRUPTED, failed=True))
                continue
            yield ToolStarted(self.attempt, self.steps, self._calls[0])
            yield await self._run(self._calls.popleft())

    def _question(self) -> Question:
        return Question(self.actions.offered, self.actions.schema)

    def _problem(self, reply: Reply) -> str:
        """Say what is wrong with a reply that can be neither run nor taken for an answer; "" where nothing is.

        A reply that was cut off, such as at the token limit, may hold half a call, which must never run.
        """
        if reply.is_cut:
            if reply.text.strip() or reply.tool_calls:
                return "Your reply was cut off before its end. Be brief, and make one small step."
            self._lower_effort()
            return (
                "You were cut off while you thought, before you did anything. Think briefly, and make one small step."
            )
        try:
            calls = self.actions.calls(reply)
        except ValueError as error:
            return f"Your reply could not be read: {error}."
        if not calls and not reply.text.strip():
            return "Your reply was empty. Call a tool, or say in a sentence that the task is done."
        return ""

    def _lower_effort(self) -> None:
        """Let a model that thinks without end think less. It stays so: the effort is in the head of the prompt, and
        each change of it costs the server's whole cache."""
        sampling = self.conversation.sampling
        effort = LOWER_EFFORT.get(sampling.effort or "", sampling.effort)
        self.conversation.sampling = replace(sampling, effort=effort)

    async def _run(self, call: ToolCall) -> ToolEnded:
        started = time.perf_counter()
        result = await self.run_tool(call.name, call.arguments)
        return self._settle(call, result, round(time.perf_counter() - started, 3))

    def _settle(self, call: ToolCall, result: Result, seconds: float = 0.0) -> ToolEnded:
        """Put the result of a call into the conversation."""
        output = self._guarded(call, result)
        self.conversation.messages.append(self.actions.result(call, output))
        self.conversation.calls.append(call_line(call, result.changed, failed=result.failed))
        return ToolEnded(self.attempt, self.steps, call.id, call.name, output, result.failed, result.changed, seconds)

    def _guarded(self, call: ToolCall, result: Result) -> str:
        """Return the output, with a word to a model that makes the same call with the same result again and again."""
        if result.changed:
            self._seen.clear()
        key = hash((call.name, call.arguments, result.output))  # not the texts: they may be long, and are many
        self._seen[key] += 1
        if self._seen[key] >= REPEATS_ENDED:
            self.ending, self.reason, self._over = "stuck", f"the same call of {call.name}, {REPEATS_ENDED} times", True
        if self._seen[key] >= REPEATS_NOTED:
            return result.output + REPEATED.format(self._seen[key])
        return result.output
