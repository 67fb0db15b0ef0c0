"""The agent: a conversation in which a model calls tools until it answers or a limit is reached."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from miyabi_cli.agent.actions import Actions, SchemaActions
from miyabi_cli.agent.compaction import call_line, shortened
from miyabi_cli.agent.conversation import REPETITION, Conversation, Question
from miyabi_cli.errors import ToolsRefused
from miyabi_cli.events import ConversationOpened, Event, ReplyReceived, ToolEnded, ToolStarted, WarningRaised
from miyabi_cli.messages import Effort, Message, Reply, ToolCall

REPEATS_NOTED = 3
REPEATS_ENDED = 5
BAD_REPLIES_ENDED = 3
CUT_OFF_SHOWN = 2_000  # bytes of a reply without an end that go back to the model
LOWER_EFFORT: Mapping[str, Effort] = {"high": "medium", "medium": "low"}

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
        """Go on until the model answers without a tool call, or a limit is reached.

        `ToolStarted` is yielded before the tool runs: whoever keeps a log has it on disk by then.
        """
        self._over = False
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
            if problem := self._problem(reply):
                for event in self._complain(reply, problem):
                    yield event
                continue
            self._bad_replies = 0
            self.conversation.messages.append(reply.message())
            async for event in self._act(reply):
                yield event

    def _do_without_tools(self, error: ToolsRefused) -> tuple[Event, ...]:
        """Open the conversation anew, with all that was said told in objects. Raises the error where that is done."""
        if not self.actions.offered:
            raise error
        actions = SchemaActions(self.actions.offered, held=self.conversation.provider.capabilities.schema)
        self.conversation.reopen(actions.retold(self.messages))
        self.actions = actions
        better = f" ({error.hint})" if error.hint else ""
        return (
            WarningRaised("tools", "", f"{error.message}; so the model is asked for actions as JSON objects{better}"),
            ConversationOpened(self.attempt, tuple(self.messages), ()),
        )

    def _complain(self, reply: Reply, problem: str) -> tuple[Event, ...]:
        """Tell the model what is wrong with its reply; end the turn when that has not helped."""
        self._bad_replies += 1
        text, thought = reply.text, reply.thought
        if _is_cut_off(reply):
            text, thought = shortened(text, CUT_OFF_SHOWN), shortened(thought, CUT_OFF_SHOWN)
        self.conversation.messages.append(Message("assistant", text, thought=thought))
        if self._bad_replies >= BAD_REPLIES_ENDED:
            self.ending, self.reason, self._over = "stuck", problem, True
            return ()
        return self.tell(problem)

    async def _act(self, reply: Reply) -> AsyncGenerator[Event, None]:
        """Run the tools that a reply calls, in their order; without any it is the answer."""
        calls = self.actions.calls(reply)
        if not calls:
            self.ending, self.answer, self._over = "answered", self.actions.answer(reply), True
        for call in calls:
            yield ToolStarted(self.attempt, self.steps, call)
            yield await self._run(call)

    def _question(self) -> Question:
        return Question(self.actions.offered, self.actions.schema)

    def _problem(self, reply: Reply) -> str:
        """Say what is wrong with a reply that can be neither run nor taken for an answer; "" where nothing is.

        A reply that ended at the token limit may hold half a call, which must never run.
        """
        if _is_cut_off(reply):
            if reply.text.strip() or reply.tool_calls:
                return "Your reply was cut off at the token limit. Be brief, and make one small step."
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
        seconds = time.perf_counter() - started
        output = self._guarded(call, result)
        self.conversation.messages.append(self.actions.result(call, output))
        self.conversation.calls.append(call_line(call, result.changed, failed=result.failed))
        return ToolEnded(
            self.attempt, self.steps, call.id, call.name, output, result.failed, result.changed, round(seconds, 3)
        )

    def _guarded(self, call: ToolCall, result: Result) -> str:
        """Return the output, with a word to a model that makes the same call with the same result again and again."""
        if result.changed:
            self._seen.clear()
        key = hash((call.name, call.arguments, result.output))  # not the texts: they may be long, and are many
        self._seen[key] += 1
        if self._seen[key] >= REPEATS_ENDED:
            self.ending, self.reason, self._over = "stuck", f"the same call of {call.name}, {REPEATS_ENDED} times", True
        if self._seen[key] >= REPEATS_NOTED:
            return f"{result.output}\n[The same call gave the same result {self._seen[key]} times. Do something else.]"
        return result.output


def _is_cut_off(reply: Reply) -> bool:
    return reply.finish_reason in ("length", REPETITION)
