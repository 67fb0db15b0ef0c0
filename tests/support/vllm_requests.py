"""What the tests of vLLM ask it for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from miyabi_cli.llm.harmony.tokens import decode
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.vllm import open_vllm
from miyabi_cli.messages import ChatRequest, Function, Message, Reply
from tests.support.vllm import Vllm

QUESTION = (Message("system", "You fix bugs."), Message("user", "What is wrong?"))
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
COMMAND = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
OPEN = Function("open_file", "Open a file.", PATH, "repo_browser")
EXEC = Function("exec", "Run a command.", COMMAND, "container")
ADD = Function("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
COLOR = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}
NO_WAIT = Retries(sleep=lambda _: asyncio.sleep(0), jitter=lambda: 1.0)
ONCE = Retries(attempts=1)
DATE = "2026-01-02"


async def last_of(provider: Provider, request: ChatRequest) -> Reply:
    async for piece in provider.stream(request):
        last = piece
    assert isinstance(last, Reply)
    return last


def ask(server: Vllm, *requests: ChatRequest, retries: Retries = ONCE, **options: Any) -> list[Reply]:
    """Send requests one after the other by one provider."""

    async def main() -> list[Reply]:
        async with open_vllm(server.url, server.model, date=DATE, retries=retries, **options) as provider:
            return [await last_of(provider, request) for request in requests]

    return asyncio.run(main())


def question(*functions: Function, messages: Sequence[Message] = QUESTION, **options: Any) -> ChatRequest:
    return ChatRequest(messages, functions, **options)


def prompts(server: Vllm) -> list[str]:
    return [decode(request.json["prompt"]) for request in server.requests]
