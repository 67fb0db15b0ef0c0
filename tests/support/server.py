"""A local HTTP server that plays a chat completions server's wire format from a script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.serving import serving

Handler = Callable[[BaseHTTPRequestHandler, Any], None]
Turn = "Handler | dict[str, Any]"
ROUTES = ("/v1/chat/completions", "/v1/completions", "/chat")  # the last is a gateway's own


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read


@dataclass
class ChatServer:
    """`turns` are played in order; the last one again and again. `requests` holds what came, `asked` the GETs' paths.

    `models` are listed, each with `model_fields`; `properties` are llama.cpp's. `metrics` are texts or turns, the
    last one again and again.
    """

    turns: Sequence[Any]
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    models: Sequence[str] = ()
    model_fields: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_turn(self, request: Request) -> Any:
        with self.lock:
            self.requests.append(request)
            return self.turns[min(len(self.requests), len(self.turns)) - 1]


@contextmanager
def chat_server(*turns: Any) -> Iterator[ChatServer]:
    """Serve on a loopback port of its own until the block ends."""
    state = ChatServer(turns)

    class Player(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = Request(self.path, dict(self.headers), body)
            if not self.path.endswith(ROUTES):
                send_error(404, {"detail": "Not Found"})(self, request)
                return
            if self.path.endswith("/v1/completions") and not any(callable(turn) for turn in state.turns):
                send_error(404, {"detail": "Not Found"})(self, request)  # it chats, and has no other route
                return
            turn = state.next_turn(request)
            if callable(turn):
                turn(self, request)
            else:
                stream(self, turn)

        def do_GET(self) -> None:
            state.asked.append(self.path)
            listed = [{"id": model, "object": "model", **state.model_fields} for model in state.models]
            if self.path == "/metrics" and state.metrics:
                turn = state.metrics.pop(0) if len(state.metrics) > 1 else state.metrics[0]
                (turn if callable(turn) else send_error(200, turn, kind="text/plain"))(self, None)
                return
            known = {"/v1/models": {"object": "list", "data": listed} if listed else {}, "/props": state.properties}
            found = known.get(self.path)
            send_error(200 if found else 404, found or {"error": "not found"})(self, None)

        def log_message(self, *_: Any) -> None:
            return

    with serving(Player) as state.url:
        yield state


def call(tool: str, arguments: dict[str, Any] | str, *, thought: str = "") -> dict[str, Any]:
    """A turn that calls one tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"thought": thought, "calls": [(tool, text)], "finish": "tool_calls"}


def say(text: str, *, finish: str = "stop", thought: str = "") -> dict[str, Any]:
    """A turn that answers in text."""
    return {"text": text, "finish": finish, "thought": thought}


def picky(judge: Callable[[dict[str, Any]], tuple[int, Any] | None], turn: dict[str, Any]) -> Handler:
    """A turn of a server that reads the body first: `judge` gives the status and body of its refusal, or None."""

    def play(handler: BaseHTTPRequestHandler, request: Any) -> None:
        if refusal := judge(request.json):
            send_error(*refusal)(handler, request)
        elif request.json.get("stream"):
            stream(handler, turn)
        else:
            send_error(200, whole(turn))(handler, request)

    return play


def whole(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a turn as it comes without a stream."""
    calls = [
        {"id": f"call-{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(turn.get("calls", ()))
    ]
    message = {"role": "assistant", "content": turn.get("text", ""), "tool_calls": calls or None}
    return {"choices": [{"index": 0, "message": message, "finish_reason": turn["finish"]}], "usage": {}}


def stream(handler: BaseHTTPRequestHandler, turn: dict[str, Any]) -> None:
    """Play a turn as vLLM streams it: role, thought, text, tool calls in pieces, finish, usage, [DONE]."""
    send_events(handler, [*chunks_of(turn), "[DONE]"])


def chunks_of(turn: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if turn.get("thought"):
        deltas.append({"reasoning": turn["thought"]})
    text = turn.get("text", "")
    deltas += [{"content": text[start : start + 40]} for start in range(0, len(text), 40)]
    for index, (name, arguments) in enumerate(turn.get("calls", ())):
        identity = f"call-{time.monotonic_ns()}-{index}"
        deltas.append(
            {
                "tool_calls": [
                    {"index": index, "id": identity, "type": "function", "function": {"name": name, "arguments": ""}}
                ]
            }
        )
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    chunks = [chunk({"delta": delta, "finish_reason": None, "index": 0}) for delta in deltas]
    if turn.get("finish"):
        chunks.append(chunk({"delta": {}, "finish_reason": turn["finish"], "index": 0}))
    usage = turn.get(
        "usage", {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 50}}
    )
    chunks.append({**chunk(), "choices": [], "usage": usage})
    return chunks


def chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices)}


def send_events(handler: BaseHTTPRequestHandler, events: Sequence[Any]) -> None:
    """Send server-sent events, then end the reply."""
    start_events(handler)
    for event in events:
        send_event(handler, event)
    handler.wfile.write(b"0\r\n\r\n")


def start_events(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream; charset=utf-8")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()


def send_event(handler: BaseHTTPRequestHandler, event: Any) -> None:
    data = event if isinstance(event, str) else json.dumps(event)
    payload = f"data: {data}\n\n".encode()
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))
    handler.wfile.flush()


def send_error(
    status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None, kind: str = "application/json"
) -> Handler:
    """A turn that refuses."""

    def turn(handler: BaseHTTPRequestHandler, _: Any) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(payload)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(payload)

    return turn
