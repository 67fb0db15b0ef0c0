"""Wishes as the bodies that a server gets, made ahead by the project's own wires, and the readers of its replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from miyabi_cli.bench.load.prompts import Wish
from miyabi_cli.bench.load.reading import ReplyReader
from miyabi_cli.errors import UsageError
from miyabi_cli.llm.chat.collecting import ReplyCollector
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.embedded import EmbeddedModel
from miyabi_cli.llm.groq import Groq
from miyabi_cli.llm.harmony.collecting import HarmonyCollector
from miyabi_cli.llm.harmony.completions import Completions
from miyabi_cli.llm.harmony.rendering import Head, render
from miyabi_cli.llm.native.reading import OllamaCollector
from miyabi_cli.llm.ollama import Ollama
from miyabi_cli.llm.openai import ChatCompletions
from miyabi_cli.llm.provider import Wire
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.vllm import Vllm
from miyabi_cli.messages import ChatRequest, Effort, Message, Sampling

Route = ChatCompletions | Completions | Ollama


@dataclass(frozen=True, slots=True)
class Order:
    """A request ready to be sent. `bound`: no fewer tokens than its prompt has; `most`: its answer's."""

    path: str
    body: bytes
    bound: int
    most: int


@dataclass(frozen=True, slots=True)
class Style:
    """What all requests have in common.

    `whole`: answers go on to their full number of tokens, by `ignore_eos` and `min_tokens`, which vLLM and SGLang know;
    None: of vLLM.
    """

    effort: Effort | None = None
    temperature: float | None = None
    seed: int | None = None
    whole: bool | None = None


async def route_of(wire: Wire) -> Route:
    """Return the route that a wire takes at the moment. Raises UsageError for one that has no server."""
    if isinstance(wire, EmbeddedModel):
        return await wire.connect()
    if isinstance(wire, (Vllm, Groq)):
        return wire.route
    if isinstance(wire, (ChatCompletions, Ollama)):
        return wire
    raise UsageError(f"the provider {wire.name} has no server to put under load", hint="name one by --endpoint")


def server_of(route: Route) -> Server:
    """Return the server that a route leads to."""
    return route.server


def protocol_of(route: Route) -> str:
    """Return the name of a route's protocol, for the result: chat, harmony or ollama."""
    return {ChatCompletions: "chat", Completions: "harmony", Ollama: "ollama"}[type(route)]


def draft(route: Route, wish: Wish, style: Style) -> Order:
    """Return the request for a wish, as the project itself would send it."""
    most = wish.output_tokens
    sampling = Sampling(style.temperature, most, style.effort, style.seed)
    request = ChatRequest([Message("user", wish.text)], sampling=sampling)
    held: dict[str, Any] = {"ignore_eos": True, "min_tokens": most} if style.whole and most else {}
    bound = upper_bound(request.messages, ())
    if isinstance(route, Ollama):
        return Order("api/chat", route.body(request), bound, most or route.max_tokens)
    if isinstance(route, Completions):
        prompt = render(request.messages, Head(effort=style.effort, date=route.date))
        room = route.window.room(prompt.count, most)
        body = route.body(request, prompt, room)
        body = body[:-1] + b"," + encode_json(held)[1:] if held else body
        return Order("v1/completions", body, prompt.count, room)
    dialect = replace(route.dialect, extra={**route.dialect.extra, **held})
    sent = route.draft(request, dialect)
    return Order(sent.path, sent.body, bound, most or route.max_tokens)


def reader_of(route: Route) -> Callable[[], ReplyReader]:
    """Return what makes a reader for one reply of a route."""
    name = route.server.name
    if isinstance(route, Ollama):
        return lambda: ReplyReader(name, OllamaCollector(route.model_name), objects=True)
    if isinstance(route, Completions):
        return lambda: ReplyReader(name, HarmonyCollector())
    return lambda: ReplyReader(name, ReplyCollector())
