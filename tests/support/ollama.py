"""A local server that plays Ollama's native API (0.32, server/routes.go): what that refuses, it refuses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.serving import serving

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
BUSY = "server busy, please try again.  maximum pending requests exceeded"
OPTIONS = {
    "num_ctx": int,
    "num_predict": int,
    "seed": int,
    "top_k": int,
    "temperature": float,
    "top_p": float,
    "stop": list,
}
DURATION = re.compile(r"-?([0-9.]+(ns|us|ms|s|m|h))+|0")


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    json: dict[str, Any]
    body: bytes = b""


@dataclass
class Model:
    """A model on the server. `trained`: the most context that it can have. `count`: the tokens of a request."""

    name: str
    trained: int = 131_072
    thinks: bool = True
    tools: bool = True
    remote: bool = False
    count: Callable[[dict[str, Any]], int] = lambda body: len(json.dumps(body["messages"])) // 4


@dataclass
class OllamaServer:
    """`turns` are played in order, the last again and again: a dict of `say` or `call`, or a function.

    `capped`: the context that models get, whatever is asked for. `cuts`: the prompt is cut in silence, as by old
    servers. `loaded` holds the context of each loaded model.
    """

    turns: Sequence[Any]
    models: list[Model] = field(default_factory=lambda: [Model("gpt-oss:20b")])
    asked: list[Asked] = field(default_factory=list)
    loaded: dict[str, int] = field(default_factory=dict)
    capped: int | None = None
    cuts: bool = False
    status_of_models: tuple[int, Any] | None = None  # what /api/ps says in the place of the truth
    before_status: Callable[[], Any] = lambda: None  # done before /api/ps is answered
    key: str | None = None
    pulls: list[Any] = field(default_factory=list)
    url: str = ""
    gone: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    played: int = 0

    @property
    def chats(self) -> list[dict[str, Any]]:
        return [one.json for one in self.asked if one.path == "/api/chat"]

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def next_turn(self) -> Any:
        with self.lock:
            self.played += 1
            return self.turns[min(self.played, len(self.turns)) - 1]

    def model(self, name: Any) -> Model | None:
        wanted = str(name) if ":" in str(name) else f"{name}:latest"
        return next((model for model in self.models if model.name == wanted), None)


class _Refused(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@contextmanager
def ollama_server(*turns: Any, **given: Any) -> Iterator[OllamaServer]:
    """Serve on a loopback port of its own until the block ends; `given` are fields of `OllamaServer`."""
    state = OllamaServer(turns or ({"text": "Hello."},), **given)

    class Player(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.answer({}, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                self.answer(json.loads(body), body)
            except ValueError:
                send_json(self, 400, {"error": "invalid character looking for beginning of value"})

        def answer(self, body: dict[str, Any], raw: bytes) -> None:
            state.asked.append(Asked(self.command, self.path, dict(self.headers), body, raw))
            route = ROUTES.get((self.command, self.path))
            try:
                if state.key and self.headers.get("authorization") != f"Bearer {state.key}":
                    raise _Refused(401, "unauthorized")
                if route is None:
                    return send_bytes(self, 404, b"404 page not found", "text/plain")
                route(state, self, body)
            except _Refused as refused:
                send_json(self, refused.status, {"error": refused.error})
            except ConnectionError:
                state.gone.set()

        def log_message(self, *_: Any) -> None:
            return

    with serving(Player) as state.url:
        yield state


def say(text: str, *, thought: str = "", reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A turn that answers in text; `more` are further fields of the last line."""
    return {"text": text, "thought": thought, "reason": reason, "more": more}


def call(name: str, arguments: Any, *, thought: str = "", text: str = "", identity: str = "call_ab12cd34") -> Any:
    """A turn that calls one tool, which Ollama says is a stop."""
    function = {"index": 0, "name": name, "arguments": arguments}
    made = {"id": identity, "function": function} if identity else {"function": function}
    return {"text": text, "thought": thought, "calls": [made]}


def fail(status: int, error: Any, headers: dict[str, str] | None = None) -> Callable[..., None]:
    """A turn that refuses."""
    return lambda handler, body: send_json(handler, status, {"error": error}, headers)


def lines(*objects: Any, end: bytes = b"0\r\n\r\n") -> Callable[..., None]:
    """A turn of these very lines; without `end` the connection breaks."""

    def turn(handler: BaseHTTPRequestHandler, _: Any) -> None:
        start_lines(handler)
        for one in objects:
            send_line(handler, one)
        if end:
            handler.wfile.write(end)
        else:
            handler.close_connection = True

    return turn


def part(*, done: bool = False, **message: Any) -> dict[str, Any]:
    """One line of a chat."""
    shown = {"role": "assistant", "content": "", **message}
    line = {"model": "gpt-oss:20b", "created_at": "2026-08-21T10:00:00.000000Z", "message": shown, "done": done}
    if done:
        line |= {"done_reason": "stop", "total_duration": 5_000_000, "load_duration": 1_000_000}
        line |= {"prompt_eval_count": 120, "prompt_eval_duration": 2_000_000, "eval_count": 9, "eval_duration": 1}
    return line


def start_lines(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "application/x-ndjson")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()


def send_line(handler: BaseHTTPRequestHandler, value: Any) -> None:
    payload = (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n"
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(payload), payload))
    handler.wfile.flush()


def send_json(handler: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    send_bytes(handler, status, json.dumps(value).encode(), "application/json; charset=utf-8", headers)


def send_bytes(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _chat(state: OllamaServer, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    model = _admitted(state, body)
    _check_messages(body)
    context = _load(state, model, body)
    if body.get("keep_alive") == 0:
        state.loaded.pop(model.name)
    prompt = model.count(body)
    if prompt > context:
        if body.get("truncate") is False and not state.cuts:
            raise _Refused(400, TOO_LONG)
        prompt = context
    turn = state.next_turn()
    if callable(turn):
        turn(handler, body)
        return
    _play(handler, turn, body, prompt)


def _play(handler: BaseHTTPRequestHandler, turn: dict[str, Any], body: dict[str, Any], prompt: int) -> None:
    """Stream a turn, or give it whole where the request asks for that."""
    thought, text = turn.get("thought", ""), turn.get("text", "")
    *shown, last = parts_of(turn, body, prompt)
    if body.get("stream") is False:
        message = {"role": "assistant", "content": text, "thinking": thought, **last["message"]}
        send_json(handler, 200, {**last, "message": {**message, "content": text}})
        return
    lines(*shown, last)(handler, body)


def parts_of(turn: dict[str, Any], body: dict[str, Any], prompt: int) -> list[dict[str, Any]]:
    """Return the lines of a turn: thought, text in pieces, the call on the last."""
    thought, text = turn.get("thought", ""), turn.get("text", "")
    shown = [part(thinking=thought[at : at + 20]) for at in range(0, len(thought), 20)]
    shown += [part(content=text[at : at + 20]) for at in range(0, len(text), 20)]
    last = part(done=True, **({"tool_calls": turn["calls"]} if turn.get("calls") else {}))
    last |= {"model": body["model"], "done_reason": turn.get("reason", "stop"), "prompt_eval_count": prompt}
    last |= turn.get("more", {})
    return [*shown, last]


def _generate(state: OllamaServer, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    _load(state, _admitted(state, body), body)
    turn = state.next_turn()
    if callable(turn):
        turn(handler, body)
        return
    lines(*generated(turn["text"], body))(handler, body)


def generated(text: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of an answer to a bare prompt."""
    said = {"model": body["model"], "created_at": "2026-08-21T10:00:00Z"}
    last = {"response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 2}
    return [{**said, "response": text, "done": False}, {**said, **last}]


def _admitted(state: OllamaServer, body: dict[str, Any]) -> Model:
    """Return the model that a request is for, once everything else about the request is right."""
    if not body.get("model"):
        raise _Refused(400, "model is required")
    think, keep_alive = body.get("think"), body.get("keep_alive")
    if think is not None and think not in (True, False, "low", "medium", "high", "max"):
        raise _Refused(400, f'invalid think value: "{think}"')
    if isinstance(keep_alive, str) and not DURATION.fullmatch(keep_alive):
        raise _Refused(400, f'time: invalid duration "{keep_alive}"')
    model = state.model(body["model"])
    if model is None:
        raise _Refused(404, f"model '{body['model']}' not found")
    if think and not model.thinks:
        raise _Refused(400, f'"{body["model"]}" does not support thinking')
    if body.get("tools") and not model.tools:
        raise _Refused(400, f"registry.ollama.ai/library/{model.name} does not support tools")
    for name, value in (body.get("options") or {}).items():
        kind = OPTIONS[name]  # a name that Ollama does not know would be passed over in silence
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise _Refused(500, f'option "{name}" must be of type {kind.__name__}')
    return model


def _check_messages(body: dict[str, Any]) -> None:
    for message in body["messages"]:
        if not isinstance(message.get("content"), str) or not isinstance(message.get("thinking", ""), str):
            raise _Refused(400, "json: cannot unmarshal into Go struct field of type string")
        for made in message.get("tool_calls", ()):
            if not isinstance(made["function"]["arguments"], dict):
                raise _Refused(400, "json: cannot unmarshal string into Go value of type map[string]interface {}")


def _load(state: OllamaServer, model: Model, body: dict[str, Any]) -> int:
    asked = (body.get("options") or {}).get("num_ctx", 4096)
    context = min(state.capped or asked, model.trained)
    if not model.remote:
        state.loaded[model.name] = context
    return context


def _ps(state: OllamaServer, handler: BaseHTTPRequestHandler, _: Any) -> None:
    state.before_status()
    listed = [{"name": name, "model": name, "size": 1, "context_length": size} for name, size in state.loaded.items()]
    send_json(handler, *(state.status_of_models or (200, {"models": listed})))


def _tags(state: OllamaServer, handler: BaseHTTPRequestHandler, _: Any) -> None:
    send_json(handler, 200, {"models": [_listed(model) for model in state.models]})


def _listed(model: Model) -> dict[str, Any]:
    details = {"family": "gptoss", "parameter_size": "20.9B", "quantization_level": "MXFP4"}
    entry = {"name": model.name, "model": model.name, "size": 13_793_441_244, "digest": "17052f91a42e" + "0" * 52}
    if model.remote:
        return {**entry, "size": 384, "remote_model": "gpt-oss:20b", "remote_host": "https://ollama.com:443"}
    return {**entry, "details": {**details, "context_length": model.trained}}


def _show(state: OllamaServer, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    model = state.model(body.get("model"))
    if model is None:
        raise _Refused(404, f"model '{body.get('model')}' not found")
    can = ["completion", *(["tools"] if model.tools else []), *(["thinking"] if model.thinks else [])]
    shown: dict[str, Any] = {"capabilities": can, "model_info": {"gptoss.context_length": model.trained}}
    if model.remote:
        shown |= {"remote_model": "gpt-oss:20b", "remote_host": "https://ollama.com:443"}
    send_json(handler, 200, shown)


def _version(_: OllamaServer, handler: BaseHTTPRequestHandler, __: Any) -> None:
    send_json(handler, 200, {"version": "0.32.1"})


def _pull(state: OllamaServer, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    with state.lock:
        turn = state.pulls.pop(0)
    turn(handler, body)


ROUTES: dict[tuple[str, str], Callable[[OllamaServer, BaseHTTPRequestHandler, Any], None]] = {
    ("POST", "/api/chat"): _chat,
    ("POST", "/api/generate"): _generate,
    ("GET", "/api/ps"): _ps,
    ("GET", "/api/tags"): _tags,
    ("GET", "/api/version"): _version,
    ("POST", "/api/show"): _show,
    ("POST", "/api/pull"): _pull,
}
