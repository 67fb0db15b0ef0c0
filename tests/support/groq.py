"""A local HTTP server that plays Groq: its exact wire format, its refusals and its budgets.

What it refuses is what console.groq.com/docs/openai says, in the words of real refusals; what it streams is laid out
like the recordings in tests/fixtures/groq.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.server import Request
from tests.support.serving import serving

KEY = "gsk_test"
PATH = "/openai/v1/chat/completions"
MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")
LISTED = {
    "object": "list",
    "data": [
        {
            "id": model, "object": "model", "created": 1754407957, "owned_by": "OpenAI", "active": True,
            "context_window": 131_072, "public_apps": None, "max_completion_tokens": 65_536,
        }
        for model in MODELS
    ],
}  # fmt: skip
FIELDS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "temperature", "top_p", "seed", "stop",
        "max_tokens", "max_completion_tokens", "reasoning_effort", "response_format", "include_reasoning",
        "reasoning_format", "n", "parallel_tool_calls", "user", "service_tier",
    }
)  # fmt: skip
MESSAGE_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "reasoning", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


class Clock:
    """A clock that only sleeping moves; `naps` are how long was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Budget:
    """Tokens per minute that fill up evenly; `counted` says how many tokens a prompt has."""

    limit: int
    clock: Callable[[], float]
    level: float = -1.0
    at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, amount: float) -> float:
        """Take an amount and return 0, or return the seconds until it is there."""
        with self.lock:
            self._fill()
            if self.level < amount:
                return (amount - self.level) * 60 / self.limit
            self.level -= amount
            return 0.0

    def give(self, amount: float) -> None:
        with self.lock:
            self._fill()
            self.level = min(self.limit, self.level + amount)

    def _fill(self) -> None:
        now = self.clock()
        self.level = self.limit if self.level < 0 else min(self.limit, self.level + (now - self.at) * self.limit / 60)
        self.at = now

    def headers(self) -> dict[str, str]:
        with self.lock:
            self._fill()
            return {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-remaining-requests": "999",
                "x-ratelimit-reset-requests": "1m26.4s",
                "x-ratelimit-limit-tokens": str(self.limit),
                "x-ratelimit-remaining-tokens": str(int(self.level)),
                "x-ratelimit-reset-tokens": f"{(self.limit - self.level) * 60 / self.limit:.3f}s",
            }


@dataclass
class Groq:
    """`turns` are played in order, the last one again and again; `requests` holds what came, `refused` what failed."""

    turns: tuple[Any, ...]
    budget: Budget | None = None
    requests: list[Request] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    url: str = ""
    played: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.json for request in self.requests]


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def body(self) -> dict[str, Any]:
        error = {"message": str(self), "type": "tokens" if self.status in (413, 429) else "invalid_request_error"}
        return {"error": error | ({"code": self.code} if self.code else {})}


@contextmanager
def groq_server(*turns: Any, budget: Budget | None = None) -> Iterator[Groq]:
    """Serve on a loopback port until the block ends. A turn is a dict (see `tests.support.server`), or a function
    that is given the handler and the request's body."""
    state = Groq(turns, budget)

    class Player(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            reserved = 0.0
            try:
                if (self.command, self.path) == ("GET", "/openai/v1/models"):
                    check_key(request)
                    send_json(self, 200, LISTED, {})
                    return
                data = accepted(self.command, request)
                with state.lock:
                    state.requests.append(request)
                reserved = reserve(state.budget, data)
            except Refusal as refusal:
                with state.lock:
                    state.refused.append((refusal.status, str(refusal)))
                send_json(self, refusal.status, refusal.body(), headers_of(state.budget) | refusal.headers)
                return
            with state.lock:
                turn = state.turns[min(state.played, len(state.turns) - 1)]
                state.played += 1
            if callable(turn):
                turn(self, data)
            else:
                headers, usage = headers_of(state.budget), usage_of(data, turn)
                if state.budget:  # before its last byte: who reads that may send the next request
                    state.budget.give(reserved - usage["prompt_tokens"] - usage["completion_tokens"])
                play(self, data, turn, headers)

        def log_message(self, *_: Any) -> None:
            return

    with serving(Player) as url:
        state.url = f"{url}/openai"
        yield state


def accepted(method: str, request: Request) -> dict[str, Any]:
    """Return the body of a request that the real Groq takes. Raises Refusal."""
    if (method, request.path) != ("POST", PATH):
        raise Refusal(
            404, f"Unknown request URL: {method} {request.path}. Please check the URL for typos", "unknown_url"
        )
    check_key(request)
    data: dict[str, Any] = request.json
    if data.get("model") not in MODELS:
        message = f"The model `{data.get('model')}` does not exist or you do not have access to it."
        raise Refusal(404, message, "model_not_found")
    check_fields(data)
    for index, message in enumerate(data["messages"]):
        check_message(index, message)
    check_schema(data)
    return data


def check_key(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise Refusal(401, "Invalid API Key", "invalid_api_key")


def check_fields(data: dict[str, Any]) -> None:
    for name in data.keys() - FIELDS:
        raise Refusal(400, f"property '{name}' is unsupported")
    if data.get("n", 1) != 1:
        raise Refusal(400, "'n' : number must be at most 1")
    tools = data.get("tools")
    if tools is not None and not 1 <= len(tools) <= 128:
        raise Refusal(400, "'tools' : minimum number of items is 1, maximum number of items is 128")
    if "include_reasoning" in data and "reasoning_format" in data:
        raise Refusal(400, "cannot specify both 'include_reasoning' and 'reasoning_format'")
    if data.get("reasoning_effort", "low") not in ("low", "medium", "high"):
        raise Refusal(400, "`reasoning_effort` must be one of `low`, `medium`, or `high`")
    for name in ("max_completion_tokens", "max_tokens"):
        if not 1 <= data.get(name, 1) <= 65_536:
            raise Refusal(400, f"`{name}` must be less than or equal to `65536`")


def check_message(index: int, message: dict[str, Any]) -> None:
    role = message["role"]
    for name in message.keys() - MESSAGE_FIELDS[role]:
        unsupported = f"('messages.{index}' : property '{name}' is unsupported)"
        raise Refusal(400, f"'messages.{index}' : for 'role:{role}' the following must be satisfied[{unsupported}]")
    for call in message.get("tool_calls", ()):
        if not isinstance(call["function"]["arguments"], str) or not call["id"] or not call["function"]["name"]:
            raise Refusal(400, f"'messages.{index}.tool_calls' : value must be a call")


def check_schema(data: dict[str, Any]) -> None:
    form = data.get("response_format")
    if not form:
        return
    if data.get("tools"):
        raise Refusal(400, "json mode cannot be combined with tool/function calling")
    if form["type"] == "json_schema" and data.get("stream"):
        raise Refusal(400, "response_format `json_schema` does not support streaming")
    if form["type"] == "json_schema" and form["json_schema"].get("strict"):
        check_strict(form["json_schema"]["schema"], "schema")


def check_strict(schema: Any, path: str) -> None:
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
        said = f"invalid JSON schema for response_format: {path}:"
        if schema.get("additionalProperties") is not False:
            raise Refusal(400, f"{said} `additionalProperties:false` must be set on every object")
        if set(schema.get("required", ())) != set(schema.get("properties", ())):
            raise Refusal(400, f"{said} `required` is required to be supplied and to hold every property")
    inner = {**schema.get("properties", {}), **schema.get("$defs", {}), "items": schema.get("items")}
    inner |= {f"anyOf.{index}": part for index, part in enumerate(schema.get("anyOf", ()))}
    for name, part in inner.items():
        check_strict(part, f"{path}.{name}")


def prompt_tokens(data: dict[str, Any]) -> int:
    return len(json.dumps([data["messages"], data.get("tools", [])])) // 4


def reserve(budget: Budget | None, data: dict[str, Any]) -> float:
    """Take what a request may use of the budget; raises Refusal as the real one does."""
    if budget is None:
        return 0.0
    requested = prompt_tokens(data) + data.get("max_completion_tokens", 1024)
    where = f"for model `{data['model']}` in organization `org_01` service tier `on_demand` on tokens per minute (TPM)"
    if requested > budget.limit:
        message = f"Request too large {where}: Limit {budget.limit}, Requested {requested}, please reduce your message"
        raise Refusal(413, message, "rate_limit_exceeded")
    if wait := budget.take(requested):
        used = budget.limit - int(budget.level)
        message = f"Rate limit reached {where}: Limit {budget.limit}, Used {used}, Requested {requested}."
        message += f" Please try again in {wait:.2f}s."
        raise Refusal(429, message, "rate_limit_exceeded", {"retry-after": str(int(wait) + 1)})
    return requested


def headers_of(budget: Budget | None) -> dict[str, str]:
    return budget.headers() if budget else {}


def usage_of(data: dict[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
    return turn.get("usage") or {
        "queue_time": 0.004,
        "prompt_tokens": prompt_tokens(data),
        "prompt_time": 0.01,
        "completion_tokens": 20,
        "completion_time": 0.1,
        "total_tokens": prompt_tokens(data) + 20,
        "total_time": 0.11,
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


def play(handler: Any, data: dict[str, Any], turn: dict[str, Any], headers: dict[str, str]) -> None:
    """Answer with a turn: streamed or whole, as the request asks."""
    if "error" in turn:
        error, status = turn["error"], turn.get("status", 400)
        if data.get("stream") and turn.get("streamed"):
            events = [*chunks(data, turn)[:-1], {"error": error | {"status_code": status}}]
            send_stream(handler, events, headers, error=True)
        else:
            send_json(handler, status, {"error": error}, headers | turn.get("headers", {}))
    elif data.get("stream"):
        send_stream(handler, [*chunks(data, turn), "[DONE]"], headers)
    else:
        send_json(handler, 200, completion(data, turn), headers)


def chunks(data: dict[str, Any], turn: dict[str, Any]) -> list[dict[str, Any]]:
    first = {"role": "assistant", "content": ""}
    deltas: list[dict[str, Any]] = [first]
    deltas += [{"reasoning": word, "channel": "analysis"} for word in _words(turn.get("thought", ""))]
    deltas += [{"content": word} for word in _words(turn.get("text", ""))]
    deltas += [{"tool_calls": [call | {"index": index}]} for index, call in enumerate(_calls(turn))]
    out = [_chunk(data, delta, None) for delta in deltas]
    out[0]["x_groq"] = {"id": "req_01", "seed": 1}
    last = _chunk(data, {}, turn.get("finish", "stop"))
    usage = usage_of(data, turn)
    last["x_groq"] = {"id": "req_01", "usage": usage}
    if not turn.get("usage_in_x_groq_alone"):
        last["usage"] = usage
    return [*out, last]


def completion(data: dict[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    message |= {"content": turn["text"]} if turn.get("text") else {}
    message |= {"reasoning": turn["thought"]} if turn.get("thought") else {}
    message |= {"tool_calls": _calls(turn)} if turn.get("calls") else {}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": turn.get("finish", "stop")}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": data["model"], "choices": [choice],
        "usage": usage_of(data, turn), "usage_breakdown": None, "system_fingerprint": "fp_1",
        "x_groq": {"id": "req_01", "seed": 1}, "service_tier": "on_demand",
    }  # fmt: skip


def _words(text: str) -> list[str]:
    return [text[start : start + 12] for start in range(0, len(text), 12)]


def _calls(turn: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"fc_{time.monotonic_ns()}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, (name, arguments) in enumerate(turn.get("calls", ()))
    ]


def _chunk(data: dict[str, Any], delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": data["model"],
        "system_fingerprint": "fp_1", "choices": [choice],
    }  # fmt: skip


def send_json(handler: Any, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    send_bytes(handler, status, json.dumps(body).encode(), {"content-type": "application/json"} | headers)


def send_stream(handler: Any, events: list[Any], headers: dict[str, str], *, error: bool = False) -> None:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    lines = [f"data: {text}\n\n" for text in texts]
    if error:
        lines[-1] = f"event: error\n{lines[-1]}"
    send_bytes(handler, 200, "".join(lines).encode(), {"content-type": "text/event-stream"} | headers)


def send_bytes(handler: Any, status: int, payload: bytes, headers: dict[str, str]) -> None:
    """Send bytes as they are, in pieces that cut through events."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(payload), 1000):
        piece = payload[start : start + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.flush()
    handler.wfile.write(b"0\r\n\r\n")


def failed(message: str, generation: str, *, code: str = "tool_use_failed", **more: Any) -> dict[str, Any]:
    """A turn in which the server refuses what the model wrote."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "failed_generation": generation}
    return {"error": error, **more}
