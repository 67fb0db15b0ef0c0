"""Asking a model for two short replies, to see what really works: a call that is forced, and an answer to a schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from miyabi_cli.errors import BrokenReply, ProviderError, ToolsRefused
from miyabi_cli.llm.inspecting.remembering import Abilities
from miyabi_cli.llm.inspecting.served import Advice
from miyabi_cli.llm.objects.mending import objects_in
from miyabi_cli.llm.objects.validating import obeys
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Reply, Sampling, Usage
from miyabi_cli.observations import Observation, failure

MOST_TOKENS = 1024  # of thought and answer together
FEWEST_TOKENS = 8  # that a speed is worth to be told of
REPORT_SUM = Function(
    "report_sum",
    "Report the sum of two numbers.",
    {
        "type": "object",
        "properties": {"sum": {"type": "integer"}},
        "required": ["sum"],
        "additionalProperties": False,
    },
)
PRIMES = {
    "type": "object",
    "properties": {"primes": {"type": "array", "items": {"type": "integer"}}, "sum": {"type": "integer"}},
    "required": ["primes", "sum"],
    "additionalProperties": False,
}
ASK_FOR_CALL = "What is 17 + 25? Call report_sum with the answer."
ASK_FOR_OBJECT = "Give the first fifteen prime numbers, and their sum, as a JSON object."
RETRY_HINT = "run again; where it stays so, look at the server's log"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Probed:
    """What asking has shown; `is_usable` is False where no reply came."""

    abilities: Abilities
    findings: tuple[Observation, ...]
    is_usable: bool


async def probe(provider: Provider, advice: Advice, *, clock: Clock, seconds: float) -> Probed:
    """Ask a provider, at most `seconds` for each reply; a reply that does not come ends it. No error leaves it."""
    probing = _Probing(provider, advice, clock, seconds)
    is_usable = await probing.look_at_tools() and await probing.look_at_schema()
    if is_usable:
        probing.look_at_thought()
        probing.look_at_speed()
    return Probed(probing.abilities(), tuple(probing.findings), is_usable)


@dataclass(slots=True)
class _Probing:
    """One provider being asked. `speeds`: tokens and their seconds, by reply."""

    provider: Provider
    advice: Advice
    clock: Clock
    seconds: float
    findings: list[Observation] = field(default_factory=list)
    spent: Usage = field(default_factory=Usage)
    replies: list[Reply] = field(default_factory=list)
    speeds: list[tuple[int, float]] = field(default_factory=list)
    first_token: float | None = None
    tools: bool | None = None
    schema: bool | None = None

    @property
    def sampling(self) -> Sampling:
        """What is asked for: a model that does not think might refuse an effort."""
        return Sampling(max_tokens=MOST_TOKENS, effort="low" if self.provider.profile.thinks else None)

    def abilities(self) -> Abilities:
        """Return what is known so far."""
        tokens, seconds = max(self.speeds, default=(0, 0.0))
        speed = tokens / seconds if tokens >= FEWEST_TOKENS and seconds > 0 else None
        thought = any(reply.thought.strip() for reply in self.replies) if self.replies else None
        return Abilities(
            tools=self.tools,
            thought=thought if self.provider.profile.thinks else None,
            schema=self.schema,
            window=self.provider.max_tokens,
            tokens_per_second=round(speed, 1) if speed else None,
            first_token=self.first_token,
            spent_usd=self.spent.cost_usd,
        )

    async def look_at_tools(self) -> bool:
        """Have a function called; say whether it is worth to go on."""
        capabilities = self.provider.capabilities
        if not capabilities.tools:
            self._found("tools", "skip", "this model is not asked to call tools: it acts by JSON or plain text")
            return True
        forced = REPORT_SUM.name if capabilities.forced else ""
        request = ChatRequest([Message("user", ASK_FOR_CALL)], (REPORT_SUM,), self.sampling, forced=forced)
        try:
            reply = await self._asked(request)
        except ToolsRefused as error:
            self.tools = False
            said = f"{error.message}: actions are asked for as JSON"
            self._found("tools", "warn", said, error.hint or self.advice.tools)
            return True
        except (ProviderError, TimeoutError) as error:
            if not _was_written(error):
                self._failed(error)
                return False
            self.tools = False
            self.findings.append(failure("tools", error, self.advice.tools))
            return True
        self._judge_call(reply, was_forced=bool(forced))
        return True

    def _judge_call(self, reply: Reply, *, was_forced: bool) -> None:
        """Judge a reply that ought to hold a call; whether calls are lost is not known where the model made none."""
        calls = [call for call in reply.tool_calls if call.name == REPORT_SUM.name]
        means = "a forced call" if was_forced else "a call"
        self.tools = True if reply.tool_calls else None
        if any(obeys(call.arguments, REPORT_SUM.parameters) for call in calls):
            self._found("tools", "ok", f"{means} came back as one")
        elif reply.tool_calls:
            self._found("tools", "warn", f"{means} came back with arguments that are not valid", RETRY_HINT)
        elif any(obeys(json.dumps(value), REPORT_SUM.parameters) for value in objects_in(reply.text)):
            self.tools = False
            self._found("tools", "fail", f"{means} came back as text: the server does not read it", self.advice.tools)
        elif reply.is_cut:
            self._found("tools", "warn", f"no call within {MOST_TOKENS:,} tokens", RETRY_HINT)
        elif was_forced or not reply.text.strip():
            self.tools = False
            self._found("tools", "fail", f"{means} was asked for, and none came back: it is lost", self.advice.tools)
        else:
            self._found("tools", "warn", "the model answered in text instead of calling a function", self.advice.tools)

    async def look_at_schema(self) -> bool:
        """Ask for an object; say whether it is worth to go on."""
        request = ChatRequest([Message("user", ASK_FOR_OBJECT)], sampling=self.sampling, schema=PRIMES)
        try:
            reply = await self._asked(request)
        except (ProviderError, TimeoutError) as error:
            if not _was_written(error):
                self._failed(error)
                return False
            self.schema = False
            self._found("schema", "warn", error.message, error.hint or self.advice.schema)
            return True
        self.schema = obeys(reply.text, PRIMES) or (None if reply.is_cut else False)
        if self.schema:
            held = self.provider.capabilities.schema
            self._found(
                "schema", "ok", "an answer obeyed it" if held else "an answer obeyed it, held by the prompt alone"
            )
        elif reply.is_cut:
            self._found("schema", "warn", f"no whole answer within {MOST_TOKENS:,} tokens", RETRY_HINT)
        else:
            self._found("schema", "warn", "the answer does not obey it: the server passes over it", self.advice.schema)
        return True

    def look_at_thought(self) -> None:
        """Judge whether the model's thought came back, where it has one."""
        thought = self.abilities().thought
        if thought:
            self._found("thought", "ok", "it is returned")
        elif thought is not None:
            said = "none came back: without it, the model forgets between two calls why it made the first"
            self._found("thought", "warn", said, self.advice.thought)

    def look_at_speed(self) -> None:
        """Tell how fast it was."""
        abilities = self.abilities()
        if abilities.tokens_per_second is not None and abilities.first_token is not None:
            speed = (
                f"{abilities.tokens_per_second:,.0f}"
                if abilities.tokens_per_second >= 10
                else (f"{abilities.tokens_per_second:g}")
            )
            self._found("speed", "ok", f"about {speed} tokens a second, the first after {abilities.first_token:.1f} s")
        else:
            self._found("speed", "skip", "the server does not say how many tokens came")

    async def _asked(self, request: ChatRequest) -> Reply:
        """Return a reply, and note its speed and cost. Raises ProviderError, TimeoutError."""
        begin = first = self.clock()
        came = 0
        reply: Reply | None = None
        try:
            async with asyncio.timeout(self.seconds):
                async for piece in self.provider.stream(request):
                    if isinstance(piece, Delta):
                        came += 1
                        first = self.clock() if came == 1 else first
                    elif isinstance(piece, Reply):
                        reply = piece
        except ProviderError as error:
            self.spent += error.usage
            raise
        if reply is None:
            raise BrokenReply("the server sent no reply")
        end = self.clock()
        self.spent += reply.usage
        self.replies.append(reply)
        self.first_token = round((first if came else end) - begin, 3) if self.first_token is None else self.first_token
        # what comes in a single piece was written before that came
        self.speeds.append((reply.usage.output_tokens, end - (first if came > 1 else begin)))
        return reply

    def _found(self, subject: str, level: Any, message: str, hint: str | None = None) -> None:
        self.findings.append(Observation(subject, level, message, hint))

    def _failed(self, error: ProviderError | TimeoutError) -> None:
        if isinstance(error, ProviderError):
            self.findings.append(failure("answers", error, RETRY_HINT))
        else:
            hint = "the model may still be loading: run again, or give it longer by --timeout"
            self._found("answers", "fail", f"no whole reply within {self.seconds:g} s", hint)


def _was_written(error: ProviderError | TimeoutError) -> TypeGuard[BrokenReply]:
    """Say whether the model did write something, which was lost or is not right: then the server is worth asking on."""
    return isinstance(error, BrokenReply) and error.usage.output_tokens > 0
