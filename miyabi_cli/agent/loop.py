"""The agent: an append-only conversation in which a model calls tools until it answers or a limit is reached."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from miyabi_cli.agent.actions import Actions
from miyabi_cli.agent.allowance import Allowance
from miyabi_cli.agent.asking import Question, ask_model
from miyabi_cli.events import Event, MessageAdded, ReplyReceived, ToolEnded, ToolStarted
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import SERVERS_CHOICE, Message, Reply, Sampling, ToolCall

REPEATS_NOTED = 3
REPEATS_ENDED = 5
BAD_REPLIES_ENDED = 3

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
    """One conversation. `messages` begins with the head of the prompt, and is only ever appended to.

    `run_tool` takes a tool's name and its arguments as the model wrote them. After `turn` has ended, `ending` says
    how and `answer` holds the model's last word; `tell` adds a message, and `turn` then goes on. `rounds` says how
    often it is worth telling it what fails with its work.
    """

    provider: Provider
    actions: Actions
    run_tool: RunTool
    allowance: Allowance
    messages: list[Message]
    sampling: Sampling = SERVERS_CHOICE
    attempt: int = 1
    rounds: int = 3
    keeps_work: bool = True
    steps: int = 0
    ending: Ending = "answered"
    reason: str = ""
    answer: str = ""
    _seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _bad_replies: int = 0
    _over: bool = False

    def tell(self, text: str) -> tuple[Event, ...]:
        """Say something to the model; return what happened."""
        message = Message("user", text)
        self.messages.append(message)
        return (MessageAdded(self.attempt, message),)

    async def turn(self) -> AsyncGenerator[Event, None]:
        """Go on until the model answers without a tool call, or a limit is reached.

        `ToolStarted` is yielded before the tool runs: whoever keeps a log has it on disk by then.
        """
        self._over = False
        while not self._over:
            if limit := self.allowance.reached(self.steps):
                self.ending, self.reason = "limit", limit
                return
            async for piece in ask_model(
                self.provider, self.messages, self._question(), allowance=self.allowance, attempt=self.attempt
            ):
                if isinstance(piece, Reply):
                    reply = piece
                else:
                    yield piece
            self.steps += 1
            yield ReplyReceived(self.attempt, self.steps, reply)
            if problem := self._problem(reply):
                for event in self._complain(reply, problem):
                    yield event
                continue
            self._bad_replies = 0
            self.messages.append(reply.message())
            async for event in self._act(reply):
                yield event

    def _complain(self, reply: Reply, problem: str) -> tuple[Event, ...]:
        """Tell the model what is wrong with its reply; end the turn when that has not helped."""
        self._bad_replies += 1
        if self._bad_replies >= BAD_REPLIES_ENDED:
            self.ending, self.reason, self._over = "stuck", problem, True
            return ()
        self.messages.append(Message("assistant", reply.text, thought=reply.thought))
        return self.tell(problem)

    async def _act(self, reply: Reply) -> AsyncGenerator[Event, None]:
        """Run the tools that a reply calls; without any it is the answer."""
        calls = self.actions.calls(reply)
        if not calls:
            self.ending, self.answer, self._over = "answered", self.actions.answer(reply), True
        for call in calls:
            yield ToolStarted(self.attempt, self.steps, call)
            yield await self._run(call)

    def _question(self) -> Question:
        return Question(self.sampling, self.actions.offered, self.actions.schema)

    def _problem(self, reply: Reply) -> str:
        """Say what is wrong with a reply that can be neither run nor taken for an answer; "" where nothing is.

        A reply that ended at the token limit may hold half a call, which must never run.
        """
        if reply.finish_reason == "length":
            return "Your reply was cut off at the token limit. Be brief, and make one small step."
        try:
            calls = self.actions.calls(reply)
        except ValueError as error:
            return f"Your reply could not be read: {error}."
        if not calls and not reply.text.strip():
            return "Your reply was empty. Call a tool, or say in a sentence that the task is done."
        return ""

    async def _run(self, call: ToolCall) -> ToolEnded:
        started = time.perf_counter()
        result = await self.run_tool(call.name, call.arguments)
        seconds = time.perf_counter() - started
        output = self._guarded(call, result)
        self.messages.append(self.actions.result(call, output))
        return ToolEnded(
            self.attempt, self.steps, call.id, call.name, output, result.failed, result.changed, round(seconds, 3)
        )

    def _guarded(self, call: ToolCall, result: Result) -> str:
        """Return the output, with a word to a model that makes the same call with the same result again and again."""
        if result.changed:
            self._seen.clear()
        key = (call.name, call.arguments, result.output)
        self._seen[key] += 1
        if self._seen[key] >= REPEATS_ENDED:
            self.ending, self.reason, self._over = "stuck", f"the same call of {call.name}, {REPEATS_ENDED} times", True
        if self._seen[key] >= REPEATS_NOTED:
            return f"{result.output}\n[The same call gave the same result {self._seen[key]} times. Do something else.]"
        return result.output
