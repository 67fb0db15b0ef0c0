"""The chat completions wire: any server that speaks OpenAI's `/v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError
from miyabi_cli.llm.collecting import ReplyCollector
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.encoding import encode_json, encode_request
from miyabi_cli.llm.failures import refusal, server_message
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.sse import read_events
from miyabi_cli.messages import ChatRequest, Function, Message, Piece


def open_openai(
    endpoint: str,
    model: str,
    *,
    key: str | None = None,
    name: str = "openai",
    profile: Profile | None = None,
    idle: float | None = None,
    retries: Retries | None = None,
) -> Provider:
    """Return a model behind any server of chat completions.

    `endpoint` is the server's base without `/v1`; `idle` the seconds that may pass without a byte.
    `profile` says what the model can do; by default it is looked up by the model's name.
    """
    server = Server.at(name, endpoint, key=key, idle=idle)
    return Provider(ChatCompletions(server, model, profile or profile_of(model)), retries=retries)


class ChatCompletions:
    """A `Wire` over chat completions, streamed."""

    def __init__(self, server: Server, model: str, profile: Profile) -> None:
        self.server = server
        self.name = server.name
        self.model_name = model
        self.profile = profile

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        return self.profile.capabilities

    def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        body = encode_request(
            model=self.model_name,
            messages=request.messages,
            functions=request.functions,
            thought_field=self.profile.thought_field,
            options=self._options(request),
        )
        return self._exchange("v1/chat/completions", body)

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        prompt = self.profile.infill_format.replace("{prefix}", prefix).replace("{suffix}", suffix)
        data = {"model": self.model_name, "stream": True, "stream_options": {"include_usage": True}, "prompt": prompt}
        body = encode_json(data | {"max_tokens": max_tokens, "temperature": 0, "stop": list(stop)})
        return self._exchange("v1/completions", body)

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return upper_bound(messages, functions)

    async def close(self) -> None:
        await self.server.close()

    def _exchange(self, path: str, body: bytes) -> AsyncIterator[Piece]:
        return self.server.exchange(path, body, lambda response: read_chunks(response, self.name), ReplyCollector())

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        sampling = request.sampling
        options = {
            "temperature": self.profile.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": self.profile.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "reasoning_effort": sampling.effort if self.profile.thinks else None,
            "stop": list(request.stop) or None,
            "response_format": request.schema and response_format(request.schema),
        }
        return {key: value for key, value in options.items() if value is not None}


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option that holds a reply to a JSON Schema."""
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": dict(schema)}}


async def read_chunks(response: httpx.Response, provider: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the chunks of a reply, streamed or (by a server that streams nothing) whole."""
    kind = response.headers.get("content-type", "")
    if kind.startswith("text/html"):
        raise BrokenReply(f"{provider} answered with a web page", hint="is --endpoint the address of a model's server?")
    if kind.startswith("application/json"):
        yield _chunk((await response.aread()).decode("utf-8", "replace"), provider)
        return
    try:
        async for data in read_events(response.aiter_bytes()):
            if data.strip() == "[DONE]":
                return
            yield _chunk(data, provider)
    except ValueError as error:
        raise BrokenReply(f"{provider} sent a broken stream: {error}") from None


def _chunk(data: str, provider: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise BrokenReply(f"{provider} sent something that is not JSON: {data[:100]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenReply(f"{provider} sent a chunk that is not an object")
    if error := chunk.get("error"):
        raise stream_error(error, data, provider)
    return chunk


def stream_error(error: Any, data: str, provider: str) -> ProviderError:
    """Read an error sent in the middle of a stream, whose HTTP status was already 200."""
    status = error.get("code") if isinstance(error, dict) else None
    said = server_message(data.encode())
    if isinstance(status, int) and 400 <= status < 600:
        return refusal(httpx.Response(status), data.encode(), provider=provider)
    return BrokenReply(f"{provider} failed while it answered: {said}", detail=error if isinstance(error, dict) else {})
