"""Recordings of real servers, played byte for byte and read without loss: beside a reader of the raw JSON.

Small copies lie in `fixtures`; where a checkout has `../shared`, all that is there is read too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from miyabi_cli.errors import ProviderError, ProviderRefused
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import Delta, Function, Message, Reply
from tests.support.server import chat_server, send_error

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "fixtures"
PLACES = (
    HERE / "fixtures" / "chat",
    HERE / "fixtures" / "ollama_openai",
    HERE / "fixtures" / "llama_cpp",
    SHARED / "chat",
    SHARED / "ollama",
    SHARED / "llama-cpp-and-ollama",
    SHARED / "groq",
)


@dataclass(frozen=True)
class Recording:
    """One answer as it came: `payload` is what the server sent, `asked` the body of the request."""

    name: str
    status: int
    kind: str
    payload: bytes
    asked: Mapping[str, Any]


@dataclass
class Read:
    """What a small reader finds in the chunks."""

    text: str = ""
    thought: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)


def recordings_in(folder: Path) -> Iterator[Recording]:
    for file in sorted(folder.glob("*.json")):
        yield from _of_json(file)
    for file in sorted(folder.glob("*.yaml")):
        yield from _of_cassette(file)


def _of_json(file: Path) -> Iterator[Recording]:
    """One exchange of llama-stack: the chunks as the SDK read them, or the exception."""
    data = json.loads(file.read_text())
    answer, asked = data["response"], data["request"]["body"]
    if answer.get("is_exception"):
        problem = answer["exception_data"]
        payload = json.dumps({"error": problem["body"]}).encode()
        yield Recording(file.stem, problem["status_code"], "application/json", payload, asked)
    elif isinstance(body := answer["body"], list):
        events = "".join(f"data: {json.dumps(part['__data__'])}\n\n" for part in body) + "data: [DONE]\n\n"
        yield Recording(file.stem, 200, "text/event-stream", events.encode(), asked)
    else:
        yield Recording(file.stem, 200, "application/json", json.dumps(body["__data__"]).encode(), asked)


def _of_cassette(file: Path) -> Iterator[Recording]:
    """The exchanges of go-vcr and of VCR.py: raw bodies, or JSON that was parsed."""
    data = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    for number, exchange in enumerate(data["interactions"]):
        asked, answer = exchange["request"], exchange["response"]
        if not str(asked.get("url") or asked.get("uri")).endswith("/chat/completions"):
            continue
        told = answer.get("code") or answer["status"]
        status = told["code"] if isinstance(told, dict) else told
        headers = {name.lower(): values for name, values in answer["headers"].items()}
        kind = headers["content-type"][0]
        yield Recording(f"{file.stem}-{number}", status, kind, _body(answer), json.loads(_body(asked)))


def _body(part: Mapping[str, Any]) -> bytes:
    body = part.get("parsed_body") or part["body"]
    for key in ("string", "content"):
        body = body.get(key, body) if isinstance(body, dict) else body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _read(recording: Recording) -> Read:
    """Put the first choice together, as the wire's own documents say: only what came, and no healing."""
    if recording.kind.startswith("application/json"):
        chunks = [json.loads(recording.payload)]
    else:
        lines = recording.payload.decode().split("\n")
        data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        chunks = [json.loads(one) for one in data if one != "[DONE]"]
    found = Read()
    for chunk in chunks:
        found.usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or found.usage
        for choice in chunk.get("choices") or []:
            if choice.get("index", 0) == 0:
                _read_choice(found, choice)
    return found


def _read_choice(found: Read, choice: Mapping[str, Any]) -> None:
    part = choice.get("delta") or choice.get("message") or {}
    found.text += part.get("content") or ""
    found.thought += part.get("reasoning") or part.get("reasoning_content") or ""
    found.finish = choice.get("finish_reason") or found.finish
    for call in part.get("tool_calls") or []:
        if call.get("id"):
            found.calls.append({"id": call["id"], "name": "", "arguments": ""})
        for key in ("name", "arguments"):
            found.calls[-1][key] += call["function"].get(key) or ""


def _functions(recording: Recording) -> list[Function]:
    tools = [tool["function"] for tool in recording.asked.get("tools") or () if "function" in tool]
    return [Function(tool["name"], tool.get("description") or "", tool.get("parameters") or {}) for tool in tools]


def _play(recording: Recording) -> tuple[list[Delta], Reply]:
    async def main(url: str) -> list[Any]:
        async with open_openai(url, "gpt-oss-20b", retries=Retries(attempts=1)) as provider:
            return [piece async for piece in provider.chat([Message("user", "hello")], _functions(recording))]

    with chat_server(send_error(recording.status, recording.payload, kind=recording.kind)) as server:
        *deltas, reply = asyncio.run(main(server.url))
    return deltas, reply


def _in_shared_only(name: str) -> bool:
    return not any((folder / f"{name.partition('-')[0]}.json").exists() for folder in PLACES[:3])


RECORDINGS = {
    f"{folder.name}/{recording.name}": recording
    for folder in PLACES
    for recording in recordings_in(folder)
    if folder.parent != SHARED or _in_shared_only(recording.name)
}
REPLIES = {name: one for name, one in RECORDINGS.items() if one.status == 200 and b'"error"' not in one.payload}
REFUSALS = {name: one for name, one in RECORDINGS.items() if name not in REPLIES}


@pytest.mark.parametrize("name", REPLIES)
def test_a_recorded_reply_is_read_without_loss(name: str) -> None:
    recording = REPLIES[name]
    expected = _read(recording)
    assert expected.finish
    deltas, reply = _play(recording)
    assert (reply.text, reply.thought) == (expected.text, expected.thought)
    assert "".join(delta.text for delta in deltas) == expected.text
    assert "".join(delta.thought for delta in deltas) == expected.thought
    assert reply.finish_reason == expected.finish
    assert [call.id for call in reply.tool_calls] == [call["id"] for call in expected.calls]
    names = [call["name"].partition("<|")[0] for call in expected.calls]
    offered = {function.name for function in _functions(recording)}
    assert [call.name for call in reply.tool_calls] == [
        name if name in offered else name.removesuffix("json") for name in names
    ]
    assert [json.loads(call.arguments) for call in reply.tool_calls] == [
        json.loads(call["arguments"]) for call in expected.calls
    ]
    usage = expected.usage
    details = usage.get("prompt_tokens_details") or {}
    thought = usage.get("completion_tokens_details") or {}
    assert (reply.usage.requests, reply.usage.input_tokens, reply.usage.output_tokens) == (
        1,
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
    )
    assert reply.usage.cached_tokens == (details.get("cached_tokens") or 0)
    assert reply.usage.reasoning_tokens == (thought.get("reasoning_tokens") or 0)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_recorded_refusal_is_an_error_with_the_server_s_words(name: str) -> None:
    recording = REFUSALS[name]
    with pytest.raises(ProviderError) as caught:
        _play(recording)
    assert caught.value.detail
    assert caught.value.usage.requests == 1
    if recording.status == 400:
        assert isinstance(caught.value, ProviderRefused)


def test_the_copies_hold_each_kind_of_answer() -> None:
    own = [one for folder in PLACES if folder.parent != SHARED for one in recordings_in(folder)]
    read = [_read(one) for one in own if one.status == 200]
    assert any(one.calls for one in read)
    assert any(one.thought for one in read)
    assert {one.kind.partition(";")[0] for one in own} == {"application/json", "text/event-stream"}
    assert any(one.status == 400 for one in own)


def test_the_recordings_of_the_shared_folder_are_there() -> None:
    if not SHARED.exists():
        pytest.skip("the larger recordings lie in ../shared, beside a checkout that has it")
    assert len(RECORDINGS) > 80
