"""The chat completions wire: any server that speaks OpenAI's `/v1/chat/completions`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from miyabi_cli.errors import ProviderError, RequestTooLarge, ToolsRefused
from miyabi_cli.llm.chat.chunks import read_chunks
from miyabi_cli.llm.chat.collecting import ReplyCollector
from miyabi_cli.llm.chat.dialects import HOLDING, OPENAI, Dialect
from miyabi_cli.llm.chat.encoding import encode_json, encode_request
from miyabi_cli.llm.chat.healing import heal
from miyabi_cli.llm.chat.holding import is_held, offered, response_format, shape_of, tool_choice
from miyabi_cli.llm.chat.learning import learn, left_undone, refuses_tools
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.inspecting.listing import served_window
from miyabi_cli.llm.marks import guarded, infill_prompt, unguarded
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.schema_prompt import with_schema
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.windows import overflow
from miyabi_cli.messages import ChatRequest, Function, Message, Piece, Reply, Usage

MAX_LESSONS = 12  # refusals that one request may learn from
MIN_ANSWER = 512  # tokens: a smaller rest of the window is not worth an answer
ASK_SECONDS = 5.0
IDLE_SECONDS = 300.0  # a server on a desk may read a long prompt for minutes

Tell = Callable[[str], None]


def open_openai(
    endpoint: str,
    model: str,
    *,
    key: str | None = None,
    name: str = "openai",
    profile: Profile | None = None,
    dialect: Dialect = OPENAI,
    idle: float | None = IDLE_SECONDS,
    retries: Retries | None = None,
    tell: Tell = lambda _: None,
) -> Provider:
    """Return a model behind any server of chat completions.

    `endpoint` is the server's base, with or without `/v1`; `idle` the seconds that may pass without a byte.
    `profile` says what the model can do; by default it is looked up by the model's name. `dialect` says what the
    server understands; where that is too much, it is learned from the server's refusals, and `tell` hears once of what
    is left out from then on.
    """
    server = Server.at(name, endpoint, key=key, idle=idle)
    return Provider(ChatCompletions(server, model, profile or profile_of(model), dialect, tell), retries=retries)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request as it goes out; `fields` are the names of all that the server might not understand in it."""

    path: str
    body: bytes
    fields: frozenset[str]
    cap: int | None


class ChatCompletions:
    """A `Wire` over chat completions.

    `dialect` changes as the server refuses what it does not understand: the request is sent again at once without
    that, and the wire remembers for its life. `tell` hears once of each thing that is left out.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        profile: Profile,
        dialect: Dialect = OPENAI,
        tell: Tell = lambda _: None,
    ) -> None:
        self.server = server
        self.name = server.name
        self.model_name = model
        self.profile = profile
        self.dialect = dialect
        self._tell = tell
        self._full = self._spoken = dialect
        self._told: set[str] = set()
        self._window: int | None = None
        self._asked = False

    @property
    def max_tokens(self) -> int:
        """The window, as far as the server has told it; else the model's."""
        return self._window or self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        can, dialect = self.profile.capabilities, self.dialect
        tools = can.tools and dialect.tools
        schema = can.schema and bool(dialect.schema_form)
        return replace(can, tools=tools, schema=schema, forced=tools and bool(dialect.forcing))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of one reply. Raises ToolsRefused where the server takes no functions."""
        if request.functions and not self.dialect.tools:
            raise ToolsRefused(f"{self.name} takes no functions", hint="ask for actions as JSON")
        plain = guarded(request)
        async with aclosing(self._sent(lambda dialect, cap: self.draft(plain, dialect, cap))) as pieces:
            async for piece in pieces:
                yield unguarded(heal(piece, request.functions)) if isinstance(piece, Reply) else piece

    async def infill(
        self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]
    ) -> AsyncGenerator[Piece, None]:
        prompt = infill_prompt(self.profile.infill_format, prefix, suffix)
        options = {"max_tokens": max_tokens, "temperature": 0, "stop": list(stop)}

        def draft(dialect: Dialect, cap: int | None) -> Draft:
            data = {"model": self.model_name, "stream": True, "stream_options": {"include_usage": True}}
            data |= {"prompt": prompt, **options, "max_tokens": cap or max_tokens}
            data = {name: value for name, value in data.items() if name not in dialect.left_out}
            fields = frozenset(data) - {"model", "prompt", "stream"}
            return Draft("v1/completions", encode_json(data), fields, cap or max_tokens)

        async with aclosing(self._sent(draft)) as pieces:
            async for piece in pieces:
                yield unguarded(piece) if isinstance(piece, Reply) else piece

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        """Return an upper bound. Where it comes near the window that is assumed, the server is asked for its own."""
        tokens = upper_bound(messages, functions)
        if tokens > self.profile.window // 4:
            await self.ask_window()
        return tokens

    async def ask_window(self) -> int:
        """Return the window, asked for once, where no refusal has told it."""
        if self._window is None and not self._asked:
            self._asked = True
            # Not every server lists its models: where it does not, what is known of the model holds.
            with contextlib.suppress(ProviderError, TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    self._window = await served_window(self.server, await self.server.ask("v1/models"), self.model_name)
        return self.max_tokens

    async def close(self) -> None:
        await self.server.close()

    def draft(self, request: ChatRequest, dialect: Dialect | None = None, cap: int | None = None) -> Draft:
        """Return the request as the server gets it; `cap` replaces the request's own cap on tokens."""
        dialect = dialect or self.dialect
        options = self._options(request, dialect, cap)
        functions = offered(request, dialect)
        streamed = shape_of(request) in dialect.streamed
        messages = request.messages
        if request.schema is not None and is_held(request) and dialect.schema_form not in HOLDING:
            messages = with_schema(messages, request.schema)
        body = encode_request(
            model=self.model_name,
            messages=messages,
            functions=functions,
            dialect=dialect,
            streamed=streamed,
            options=options,
        )
        fields = set(options) | ({"stream", "stream_options"} if streamed else set())
        fields |= {"tools"} if functions else set()
        fields |= {"strict"} if functions and dialect.strict_functions else set()
        fields |= {"strict"} if "response_format" in options and dialect.schema_form == "json_schema" else set()
        fields |= {dialect.thought_field} if any(message.thought for message in request.messages) else set()
        fields |= {"name"} if any(message.tool_calls for message in request.messages) else set()
        return Draft(dialect.path, body, frozenset(fields) - dialect.left_out - {""}, options.get(dialect.cap_field))

    async def _sent(self, draft: Callable[[Dialect, int | None], Draft]) -> AsyncGenerator[Piece, None]:
        """Send a request, and once more for each thing that the server's refusals teach."""
        spent = Usage()
        cap: int | None = None
        before, refused = self.dialect, ""
        for lesson in range(MAX_LESSONS + 1):
            dialect = self.dialect
            sent = draft(dialect, cap)
            try:
                async with aclosing(self._exchange(sent)) as pieces:
                    async for piece in pieces:
                        self._understood(dialect)
                        yield replace(piece, usage=piece.usage + spent) if isinstance(piece, Reply) else piece
                return
            except ProviderError as error:
                spent += error.usage
                smaller = self._smaller_cap(sent, error)
                cap = smaller or cap
                if lesson < MAX_LESSONS and (smaller or self._learned(dialect, sent, error)):
                    if error.message != refused:
                        before, refused = dialect, error.message
                    continue
                if error.message == refused and self.dialect == dialect:  # it was none of what was left out for it
                    self.dialect = before
                error.usage = spent
                raise

    def _understood(self, dialect: Dialect) -> None:
        """Tell what is left out of a dialect that the server was found to understand, once for each thing."""
        if dialect is self._spoken:
            return
        self._spoken = dialect
        for line in left_undone(self._full, dialect):
            if line not in self._told:
                self._told.add(line)
                self._tell(f"{self.name} {line}")

    def _learned(self, dialect: Dialect, sent: Draft, error: ProviderError) -> bool:
        """Say whether the request is worth to be sent again, in another dialect. Raises ToolsRefused."""
        if "tools" in sent.fields and (hint := refuses_tools(error, by_flag=True)):
            raise self._tools_refused(error, hint)
        about_window = isinstance(error, RequestTooLarge) and overflow(error).window is not None
        learned = None if about_window else learn(dialect, sent.fields, error)
        if learned is not None:
            if self.dialect == dialect:  # else another stream has learned in the meantime
                self.dialect = learned
            return True
        if "tools" in sent.fields and (hint := refuses_tools(error, by_flag=False)):
            raise self._tools_refused(error, hint)
        return False

    def _tools_refused(self, error: ProviderError, hint: str) -> ToolsRefused:
        self.dialect = replace(self.dialect, tools=False)
        return ToolsRefused(error.message, hint=hint, usage=error.usage, status=error.status, detail=error.detail)

    def _smaller_cap(self, sent: Draft, error: ProviderError) -> int | None:
        """Learn the window from an overflow; return what is left of it for the answer, where that is worth it."""
        if not isinstance(error, RequestTooLarge):
            return None
        told = overflow(error)
        self._window = told.window or self._window
        if told.window is None or told.prompt is None or sent.cap is None:
            return None
        rest = told.window - told.prompt - 1
        return rest if MIN_ANSWER <= rest < sent.cap else None

    async def _exchange(self, sent: Draft) -> AsyncGenerator[Piece, None]:
        collector = ReplyCollector()
        stream = self.server.exchange(
            sent.path, sent.body, lambda response: read_chunks(response, self.name), collector
        )
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                yield piece
        seen = collector.thought_field
        dialect = self.dialect
        if seen and not dialect.thought_fixed and dialect.thought_field and seen not in dialect.left_out:
            self.dialect = replace(dialect, thought_field=seen)

    def _options(self, request: ChatRequest, dialect: Dialect, cap: int | None) -> dict[str, Any]:
        sampling = request.sampling
        cap = cap or sampling.max_tokens
        options = {
            "temperature": self.profile.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": self.profile.top_p,
            dialect.cap_field: min(cap, dialect.largest_cap or cap) if cap else None,
            "seed": sampling.seed,
            "reasoning_effort": sampling.effort if self.profile.thinks else None,
            "stop": list(request.stop) or None,
            "response_format": response_format(request.schema, dialect.schema_form) if is_held(request) else None,
            "tool_choice": tool_choice(request, dialect),
            **dialect.extra,
        }
        return {key: value for key, value in options.items() if value is not None and key not in dialect.left_out}
