"""Each server's own format: how an instance is served and opened, a neutral turn spoken and a request read."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from miyabi_cli.llm.groq import open_groq
from miyabi_cli.llm.harmony.tokens import decode
from miyabi_cli.llm.ollama import open_ollama
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.pacing import Limiter
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.vllm import WireChoice, open_vllm
from miyabi_cli.messages import Usage
from tests.support import groq, ollama, vllm
from tests.support.groq import Clock
from tests.support.server import chat_server, chunk, chunks_of
from tests.support.turns import Spoken, Turn

NATIVE_MODEL, NATIVE_INFILLING = "gpt-oss:20b", "qwen2.5-coder:1.5b"
EVENTS, LINES, JSON = "text/event-stream; charset=utf-8", "application/x-ndjson", "application/json"
DATE = "2026-01-02"

Play = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever its format. `head`: the bytes that the next request of the same run begins with.

    `thoughts`: those that go back to the server, oldest first.
    """

    head: bytes
    body: bytes
    prompt: str
    thoughts: tuple[str, ...]
    results: tuple[str, ...]
    effort: str | None
    schema: Mapping[str, Any] | None
    functions: tuple[str, ...]
    forced: str
    stop: tuple[str, ...]


def events(found: Sequence[Any]) -> list[bytes]:
    return [f"data: {one if isinstance(one, str) else compact(one)}\n\n".encode() for one in found]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def usage_of(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_turn(turn: Turn) -> dict[str, Any]:
    """Return a turn as the players of chat completions take it."""
    said = {"text": turn.text, "thought": turn.thought, "calls": turn.calls}
    said["finish"] = "tool_calls" if turn.calls else turn.finish
    return said | ({"usage": usage_of(turn.usage)} if turn.usage else {})


def read_chat(body: bytes) -> Asked:
    data = json.loads(body)
    messages = data["messages"]
    held, choice = data.get("response_format"), data.get("tool_choice")
    return Asked(
        head=body[: body.rindex(b"]")],
        body=body,
        prompt=[one["content"] for one in messages if one["role"] == "user"][-1],
        thoughts=tuple(one["reasoning"] for one in messages if one.get("reasoning")),
        results=tuple(one["content"] for one in messages if one["role"] == "tool"),
        effort=data.get("reasoning_effort"),
        schema=held["json_schema"]["schema"] if held else None,
        functions=tuple(tool["function"]["name"] for tool in data.get("tools", ())),
        forced=choice["function"]["name"] if isinstance(choice, dict) else "",
        stop=tuple(data.get("stop", ())),
    )


# Any server of chat completions.


@contextmanager
def serve_openai(play: Play, _: str) -> Iterator[Any]:
    with chat_server(lambda handler, request: play(handler, request.body)) as server:
        yield server


def open_one(url: str, model: str, _: Clock, **options: Any) -> Provider:
    return open_openai(url, model, **options)


def speak_openai(_: Any, body: dict[str, Any], turn: Turn) -> Spoken:
    if "prompt" in body:
        chunks = [chunk({"text": turn.text, "finish_reason": turn.finish})]
    else:
        chunks = chunks_of(chat_turn(turn))
    failure = {"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}}
    return Spoken(EVENTS, events([*chunks, "[DONE]"]), events([failure])[0])


# vLLM: what the model writes is the same on both routes.


@contextmanager
def serve_vllm(play: Play, model: str) -> Iterator[Any]:
    with vllm.vllm_server(lambda handler, request: play(handler, request.body), model=model) as server:
        yield server


def open_vllm_by(wire: WireChoice) -> Callable[..., Provider]:
    def opened(url: str, model: str, _: Clock, **options: Any) -> Provider:
        return open_vllm(url, model, wire=wire, date=DATE, **options)

    return opened


def speak_vllm(server: Any, body: dict[str, Any], turn: Turn) -> Spoken:
    speak = vllm.chat_events if "messages" in body else vllm.completion_events
    found = speak(server, body, harmony(turn, bare="prompt" in body and ("response_format" in body or "stop" in body)))
    for event in found:
        if isinstance(event, dict):
            if turn.finish == "length" and event["choices"] and event["choices"][0]["finish_reason"]:
                event["choices"][0]["finish_reason"] = "length"
            if event.get("usage"):
                event["usage"] |= {key: value for key, value in usage_of(turn.usage).items() if key in event["usage"]}
    code = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "param": None, "code": 500}
    return Spoken(EVENTS, [b": keep-alive\n\n", *events(found)], b"".join(events([{"error": code}, "[DONE]"])))


def harmony(turn: Turn, *, bare: bool) -> str:
    """Return what gpt-oss writes; `bare`: the header stands in the prompt already, or the model knows none."""
    if bare:
        return turn.calls[0][1] if turn.calls else turn.text
    if turn.calls:
        ((name, arguments),) = turn.calls
        return vllm.called(f"functions.{name}", arguments, turn.thought)
    said = vllm.final(turn.text, turn.thought)
    return said.removesuffix("<|return|>") if turn.finish == "length" else said


def read_harmony(body: bytes) -> Asked:
    data = json.loads(body)
    text = decode(data["prompt"])
    effort = re.search(r"^Reasoning: (\w+)$", text, re.MULTILINE)
    forced = re.search(r"<\|start\|>assistant to=functions\.(\w+)[^<]*<\|channel\|>.{0,40}<\|message\|>\Z", text)
    schema = re.search(r"# Response Formats.*?^(\{.*\})<\|end\|>", text, re.MULTILINE | re.DOTALL)
    return Asked(
        head=body[: body.rindex(b"]")],
        body=body,
        prompt=re.findall(r"<\|start\|>user<\|message\|>(.*?)<\|end\|>", text, re.DOTALL)[-1],
        thoughts=tuple(re.findall(r"<\|channel\|>analysis<\|message\|>(.*?)<\|end\|>", text, re.DOTALL)),
        results=tuple(re.findall(r" to=assistant<\|channel\|>\w+<\|message\|>(.*?)<\|end\|>", text, re.DOTALL)),
        effort=effort[1] if effort else None,
        schema=json.loads(schema[1]) if schema else None,
        functions=tuple(re.findall(r"^type (\w+) = ", text, re.MULTILINE)),
        forced=forced[1] if forced else "",
        stop=tuple(data.get("stop", ())),
    )


# Ollama.


@contextmanager
def serve_ollama(play: Play, _: str) -> Iterator[Any]:
    models = [ollama.Model(NATIVE_MODEL), ollama.Model(NATIVE_INFILLING, thinks=False, tools=False)]

    def turn(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        play(handler, next(one.body for one in server.asked if one.json is body))

    with ollama.ollama_server(turn, models=models) as server:
        yield server


def open_native(url: str, model: str, _: Clock, **options: Any) -> Provider:
    return open_ollama(url, model, **options)


def speak_ollama(_: Any, body: dict[str, Any], turn: Turn) -> Spoken:
    if "prompt" in body:
        parts = ollama.generated(turn.text, body)
    else:
        said: dict[str, Any] = {"text": turn.text, "thought": turn.thought, "reason": turn.finish}
        said["calls"] = [
            {
                "id": f"call_{uuid.uuid4().hex[:8]}",
                "function": {"index": at, "name": name, "arguments": json.loads(text)},
            }
            for at, (name, text) in enumerate(turn.calls)
        ]
        if usage := turn.usage:
            said["more"] = {
                "prompt_eval_count": usage.input_tokens,
                "prompt_eval_cached_count": usage.cached_tokens,
                "eval_count": usage.output_tokens,
            }
        parts = ollama.parts_of(said, body, len(json.dumps(body["messages"])) // 4)
    failure = {"error": "llama runner process has terminated: exit status 2"}
    return Spoken(LINES, [f"{compact(one)}\n".encode() for one in parts], f"{compact(failure)}\n".encode())


def read_ollama(body: bytes) -> Asked:
    data = json.loads(body)
    messages = data.get("messages", [])
    return Asked(
        head=body[: body.rindex(b"]")],
        body=body,
        prompt=[one["content"] for one in messages if one["role"] == "user"][-1],
        thoughts=tuple(one["thinking"] for one in messages if one.get("thinking")),
        results=tuple(one["content"] for one in messages if one["role"] == "tool"),
        effort=data.get("think"),
        schema=data.get("format"),
        functions=tuple(tool["function"]["name"] for tool in data.get("tools", ())),
        forced="",
        stop=tuple(data["options"].get("stop", ())),
    )


# Groq.


@contextmanager
def serve_groq(play: Play, _: str) -> Iterator[Any]:
    def turn(handler: BaseHTTPRequestHandler, data: dict[str, Any]) -> None:
        play(handler, next(one.body for one in reversed(server.requests) if one.json == data))

    with groq.groq_server(turn) as server:
        yield server


def open_paced(url: str, model: str, clock: Clock, *, key: str = groq.KEY, **options: Any) -> Provider:
    return open_groq(key, model, endpoint=url, limiter=Limiter(clock=clock, sleep=clock.sleep), **options)


def speak_groq(_: Any, body: dict[str, Any], turn: Turn) -> Spoken:
    error = {"message": "Internal Server Error", "type": "internal_server_error", "status_code": 500}
    failure = b"event: error\n" + events([{"error": error}])[0]
    if body.get("stream"):
        return Spoken(EVENTS, events([*groq.chunks(body, chat_turn(turn)), "[DONE]"]), failure)
    return Spoken(JSON, [compact(groq.completion(body, chat_turn(turn))).encode()], failure)
