"""Recordings of the real Groq, played byte for byte and read without loss by the real client.

Small ones lie in `fixtures/groq`; where a checkout has `../shared`, those that are there are read too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from miyabi_cli.llm.groq import open_groq
from miyabi_cli.llm.pacing import Limiter
from miyabi_cli.messages import Function, Message, Reply
from tests.support.groq import KEY, Clock, groq_server, send_bytes

HERE = Path(__file__).parent / "fixtures/groq"
SHARED = Path(__file__).parents[2] / "shared/fixtures/groq"


@dataclass(frozen=True)
class Exchange:
    """One request as somebody else sent it, and the bytes that came back."""

    name: str
    asked: dict[str, Any]
    status: int
    kind: str
    payload: bytes

    @property
    def chunks(self) -> list[dict[str, Any]]:
        if self.kind == "application/json":
            return [json.loads(self.payload)]
        lines = [line[6:] for line in self.payload.decode().split("\n") if line.startswith("data: {")]
        return [json.loads(line) for line in lines]

    @property
    def functions(self) -> list[Function]:
        tools = [tool["function"] for tool in self.asked.get("tools", ())]
        return [Function(tool["name"], tool["description"], tool["parameters"]) for tool in tools]


def exchanges_of(file: Path) -> Iterator[Exchange]:
    for index, interaction in enumerate(yaml.safe_load(file.read_text(encoding="utf-8"))["interactions"]):
        asked, came = (interaction[side] for side in ("request", "response"))
        status = came["status"] if isinstance(came["status"], int) else came["status"]["code"]
        body = came.get("parsed_body") or came["body"].get("content") or came["body"]["string"]
        payload = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        sent = asked.get("parsed_body") or asked["body"]["content"]
        yield Exchange(f"{file.stem}-{index}", sent, status, came["headers"]["content-type"][0], payload)


def all_exchanges() -> list[Exchange]:
    files = {
        file.name.replace("[", "__").replace("]", ""): file for place in (SHARED, HERE) for file in place.glob("*.yaml")
    }
    return [exchange for name in sorted(files) for exchange in exchanges_of(files[name])]


EXCHANGES = all_exchanges()
FAILED = [exchange for exchange in EXCHANGES if any("error" in chunk for chunk in exchange.chunks)]
WHOLE = [exchange for exchange in EXCHANGES if exchange not in FAILED]


def read(exchange: Exchange) -> Reply:
    def turn(handler: Any, _: Any) -> None:
        send_bytes(handler, exchange.status, exchange.payload, {"content-type": exchange.kind})

    async def main() -> Reply:
        clock = Clock()
        limiter = Limiter(clock=clock, sleep=clock.sleep)
        async with open_groq(KEY, "openai/gpt-oss-120b", endpoint=server.url, limiter=limiter) as provider:
            schema = exchange.asked.get("response_format", {}).get("json_schema", {}).get("schema")
            async for piece in provider.chat([Message("user", "go on")], exchange.functions, schema=schema):
                last = piece
        assert isinstance(last, Reply)
        return last

    with groq_server(turn) as server:
        reply = asyncio.run(main())
    assert len(server.requests) == 1
    assert server.refused == []
    return reply


@pytest.mark.parametrize("exchange", WHOLE, ids=lambda exchange: exchange.name)
def test_a_reply_is_read_without_loss(exchange: Exchange) -> None:
    reply = read(exchange)
    text, thought, finish = "", "", ""
    calls: list[tuple[str, str, Any]] = []
    usage: dict[str, Any] = {}
    for chunk in exchange.chunks:
        (choice,) = chunk["choices"]
        part = choice.get("delta") or choice.get("message") or {}
        text += part.get("content") or ""
        thought += part.get("reasoning") or ""
        for call in part.get("tool_calls", ()):
            function = call["function"]
            calls.append((call["id"], function["name"], json.loads(function["arguments"])))
        finish = choice["finish_reason"] or finish
        usage = chunk.get("usage") or usage
    assert (reply.text, reply.thought, reply.finish_reason) == (text, thought, finish)
    assert [(call.id, call.name, json.loads(call.arguments)) for call in reply.tool_calls] == calls
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert reply.usage.reasoning_tokens == usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
    assert reply.usage.cached_tokens == usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    assert text or calls


@pytest.mark.parametrize("exchange", FAILED, ids=lambda exchange: exchange.name)
def test_a_failed_call_is_read_all_the_same(exchange: Exchange) -> None:
    reply = read(exchange)
    error = exchange.chunks[-1]["error"]
    before = [chunk["choices"][0]["delta"] for chunk in exchange.chunks[:-1]]
    assert reply.thought == "".join(delta.get("reasoning") or "" for delta in before)
    assert reply.usage.requests == 1
    try:
        meant = json.loads(error["failed_generation"])
    except ValueError:
        assert reply.text == (error["failed_generation"] or "".join(delta.get("content") or "" for delta in before))
        assert (reply.text, reply.tool_calls, reply.finish_reason) == ("maybe", (), "stop")
    else:
        (call,) = reply.tool_calls
        assert (call.name, json.loads(call.arguments)) == (meant["name"], meant["arguments"])
        assert (reply.finish_reason, reply.text) == ("tool_calls", "")
        assert call.id


def test_the_recordings_hold_what_is_known_of_groq() -> None:
    kinds = {(exchange.status, exchange.kind) for exchange in EXCHANGES}
    assert kinds == {(200, "application/json"), (200, "text/event-stream"), (400, "application/json")}
    assert len(FAILED) >= 5
    assert len(WHOLE) >= 15


def test_the_large_recordings_are_read_too() -> None:
    if not SHARED.is_dir():
        pytest.skip("the large recordings lie in ../shared, beside a checkout that has it")
    assert any("executed_tools" in json.dumps(exchange.chunks) for exchange in WHOLE)
    assert any(exchange.name.startswith("84afc79ac882") for exchange in FAILED)
