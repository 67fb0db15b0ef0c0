"""The chat completions wire: any server that speaks OpenAI's `/v1/chat/completions`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from miyabi_cli.errors import BrokenReply, ProviderError
from miyabi_cli.llm.calling import call_function, generate, last_reply
from miyabi_cli.llm.collecting import ReplyCollector
from miyabi_cli.llm.encoding import encode_json, encode_request
from miyabi_cli.llm.failures import connection_error, refusal, server_message
from miyabi_cli.llm.http import open_client
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.retry import Retries, stream_again
from miyabi_cli.llm.sse import read_events
from miyabi_cli.messages import (
    SERVERS_CHOICE,
    Delta,
    Function,
    LLMRequest,
    LLMResponse,
    Message,
    Reply,
    Sampling,
    Timing,
)


class ChatCompletions:
    """A `Provider` over chat completions, streamed.

    `endpoint` is the server's base without `/v1`; `idle` the seconds that may pass without a byte.
    `profile` says what the model can do; by default it is looked up by the model's name.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        key: str | None = None,
        name: str = "openai",
        profile: Profile | None = None,
        idle: float | None = None,
        retries: Retries | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.model_name = model
        self.profile = profile or profile_of(model)
        self._retries = retries or Retries()
        self._client = client or open_client(endpoint, key=key, idle=idle)

    @property
    def max_tokens(self) -> int:
        return self.profile.window

    @property
    def capabilities(self) -> Capabilities:
        return self.profile.capabilities

    async def generate(self, request: LLMRequest) -> LLMResponse:
        return await generate(self, request)

    async def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[Function] = (),
        sampling: Sampling = SERVERS_CHOICE,
        schema: Mapping[str, Any] | None = None,
        stop: Sequence[str] = (),
    ) -> AsyncIterator[Delta | Reply]:
        body = encode_request(
            model=self.model_name,
            messages=messages,
            functions=functions,
            thought_field=self.profile.thought_field,
            options=self._options(sampling, schema, stop),
        )
        async for piece in stream_again(lambda: self._stream("chat/completions", body), self._retries):
            yield piece

    async def call_function(
        self, function: Function, messages: Sequence[Message], sampling: Sampling = SERVERS_CHOICE
    ) -> dict[str, Any]:
        return await call_function(self, function, messages, sampling)

    async def infill(self, prefix: str, suffix: str, *, max_tokens: int, stop: Sequence[str] = ()) -> Reply:
        return await last_reply(self.stream_infill(prefix, suffix, max_tokens=max_tokens, stop=stop))

    async def stream_infill(
        self, prefix: str, suffix: str, *, max_tokens: int, stop: Sequence[str] = ()
    ) -> AsyncIterator[Delta | Reply]:
        """Stream what belongs between two texts, by the completions route; see `Provider.infill`."""
        if not self.profile.infill_format:
            raise ProviderError(f"the model {self.model_name} does not fill in the middle of a text")
        prompt = self.profile.infill_format.replace("{prefix}", prefix).replace("{suffix}", suffix)
        data = {"model": self.model_name, "stream": True, "stream_options": {"include_usage": True}, "prompt": prompt}
        body = encode_json(data | {"max_tokens": max_tokens, "temperature": 0, "stop": list(stop)})
        async for piece in stream_again(lambda: self._stream("completions", body), self._retries):
            yield piece

    async def close(self) -> None:
        await self._client.aclose()

    def _options(self, sampling: Sampling, schema: Mapping[str, Any] | None, stop: Sequence[str]) -> dict[str, Any]:
        options = {
            "temperature": self.profile.temperature if sampling.temperature is None else sampling.temperature,
            "top_p": self.profile.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "reasoning_effort": sampling.effort if self.profile.thinks else None,
            "stop": list(stop) or None,
            "response_format": schema
            and {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": dict(schema)}},
        }
        return {key: value for key, value in options.items() if value is not None}

    async def _stream(self, route: str, body: bytes) -> AsyncIterator[Delta | Reply]:
        """Send one request; yield its deltas and its reply."""
        url = f"{self.endpoint}/v1/{route}"
        headers = {"content-type": "application/json"}
        collector = ReplyCollector()
        started = time.perf_counter()
        first: float | None = None
        try:
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    raise refusal(response, await response.aread(), provider=self.name)
                async for chunk in _chunks(response, self.name):
                    if delta := collector.add(chunk):
                        first = first if first is not None else time.perf_counter() - started
                        yield delta
        except httpx.TransportError as error:
            failure = connection_error(error, endpoint=self.endpoint, provider=self.name)
            failure.usage = collector.usage
            raise failure from None
        yield collector.reply(Timing(first, time.perf_counter() - started))


async def _chunks(response: httpx.Response, provider: str) -> AsyncIterator[dict[str, Any]]:
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
        raise _stream_error(error, data, provider)
    return chunk


def _stream_error(error: Any, data: str, provider: str) -> ProviderError:
    """Read an error sent in the middle of a stream, whose HTTP status was already 200."""
    status = error.get("code") if isinstance(error, dict) else None
    said = server_message(data.encode())
    if isinstance(status, int) and 400 <= status < 600:
        return refusal(httpx.Response(status), data.encode(), provider=provider)
    return BrokenReply(f"{provider} failed while it answered: {said}")
