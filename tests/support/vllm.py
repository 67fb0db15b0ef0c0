"""A local HTTP server that plays vLLM's exact wire format (read off 0.32.0) to replies in raw Harmony.

A turn is what the model writes after `<|start|>assistant`, special tokens written out; both routes play it, chat
completions as vLLM's own parser does. A turn may also be a function of the handler and the request.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import takewhile
from typing import Any

from miyabi_cli.llm.harmony.tokens import CALL, RETURN, encoding
from tests.support.server import Request, send_error, send_event, start_events
from tests.support.serving import serving

MODEL = "openai/gpt-oss-20b"
BLOCK = 16  # tokens of a block of the prefix cache
METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 640.0
"""


def final(text: str, thought: str = "") -> str:
    """A turn that thinks and answers."""
    return f"{thinking(thought)}<|channel|>final<|message|>{text}<|return|>"


def called(recipient: str, arguments: Any, thought: str = "") -> str:
    """A turn that thinks and calls a tool, as gpt-oss calls those of its training."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    channel = "commentary" if recipient.startswith("functions.") else "analysis"
    kind = " <|constrain|>json" if channel == "commentary" else " code"
    return f"{thinking(thought)}<|channel|>{channel} to={recipient}{kind}<|message|>{text}<|call|>"


def thinking(thought: str) -> str:
    return f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant" if thought else ""


@dataclass
class Vllm:
    """`turns` are played in order, the last one again and again. `requests` holds the generations asked for."""

    turns: Sequence[Any]
    model: str = MODEL
    window: int = 131_072
    key: str = ""
    tool_flags: bool = True
    serves_completions: bool = True
    sends_token_ids: bool = True
    tells_stop_reason: bool = True
    tokens_a_chunk: int = 1
    health: int = 200
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_turn(self, request: Request) -> Any:
        with self.lock:
            self.requests.append(request)
            return self.turns[min(len(self.requests), len(self.turns)) - 1]

    def cached(self, prompt: list[int]) -> int:
        """Return the tokens that the prefix cache has of a prompt, and keep it there."""
        with self.lock:
            common = max((_common(prompt, one) for one in self.prompts), default=0)
            self.prompts.append(prompt)
        return common // BLOCK * BLOCK


@contextmanager
def vllm_server(*turns: Any, **options: Any) -> Iterator[Vllm]:
    """Serve on a loopback port of its own until the block ends."""
    state = Vllm(turns, **options)

    class Player(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            _get(state, self)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            _post(state, self, Request(self.path, dict(self.headers), body))

        def log_message(self, *_: Any) -> None:
            return

    with serving(Player) as state.url:
        yield state


def refuse(status: int, message: str, param: str | None = None, kind: str = "BadRequestError") -> Any:
    """A turn that refuses as vLLM does."""
    return send_error(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def cut(text: str, *after: Any) -> Any:
    """A turn that stops in the middle of a reply, without a finish reason."""

    def turn(handler: BaseHTTPRequestHandler, _: Any) -> None:
        choice = {"index": 0, "text": text, "token_ids": encode(text), "finish_reason": None}
        play_events(handler, [{"object": "text_completion", "choices": [choice]}, *after])

    return turn


_NOT_FOUND = send_error(404, {"detail": "Not Found"})
_BAD_METHOD = send_error(405, {"detail": "Method Not Allowed"})
_UNAUTHORIZED = send_error(401, {"error": "Unauthorized"})
_POSTED = ("/v1/completions", "/v1/chat/completions", "/tokenize")


def _get(state: Vllm, handler: BaseHTTPRequestHandler) -> None:
    state.asked.append(handler.path)
    if not _allowed(state, handler):
        _UNAUTHORIZED(handler, {})
    elif handler.path == "/health":
        send_error(state.health, b"")(handler, {})
    elif handler.path == "/version":
        send_error(200, {"version": "0.32.0"})(handler, {})
    elif handler.path == "/metrics":
        send_error(200, METRICS.encode(), kind="text/plain; version=0.0.4; charset=utf-8")(handler, {})
    elif handler.path == "/v1/models":
        model: dict[str, Any] = {
            "id": state.model,
            "object": "model",
            "created": 1,
            "owned_by": "vllm",
            "root": state.model,
        }
        send_error(200, {"object": "list", "data": [{**model, "parent": None, "max_model_len": state.window}]})(
            handler, {}
        )
    else:
        (_BAD_METHOD if handler.path in _POSTED else _NOT_FOUND)(handler, {})


def _post(state: Vllm, handler: BaseHTTPRequestHandler, request: Request) -> None:
    state.asked.append(request.path)
    if request.path not in _POSTED or (request.path == "/v1/completions" and not state.serves_completions):
        _NOT_FOUND(handler, {})
        return
    if not _allowed(state, handler):
        _UNAUTHORIZED(handler, {})
        return
    try:
        body = request.json
    except ValueError:
        refuse(400, "1 validation error:\n  {'type': 'json_invalid'}", kind="Bad Request")(handler, {})
        return
    if body.get("model") != state.model:
        said = f"The model `{body.get('model')}` does not exist. Valid aliases: {state.model}."
        refuse(404, said, "model", "NotFoundError")(handler, {})
        return
    if request.path == "/tokenize":
        ids = _chat_prompt(body) if "messages" in body else encode(body["prompt"])
        answer = {"count": len(ids), "max_model_len": state.window, "tokens": ids, "token_strs": None}
        send_error(200, answer)(handler, {})
        return
    completions = request.path == "/v1/completions"
    refusal = (_completions_refusal if completions else _chat_refusal)(state, body)
    turn = refusal or state.next_turn(request)
    if callable(turn):
        turn(handler, request)
    elif completions:
        play_completion(state, handler, body, turn)
    else:
        play_chat(state, handler, body, turn)


def _allowed(state: Vllm, handler: BaseHTTPRequestHandler) -> bool:
    """A key guards what is under /v1 alone."""
    given = handler.headers.get("authorization")
    return not state.key or not handler.path.startswith("/v1") or given == f"Bearer {state.key}"


def _sampling_refusal(body: dict[str, Any]) -> Any:
    if body.get("stream_options") and not body.get("stream"):
        return refuse(400, "Stream options can only be defined when `stream=True`.", "stream_options")
    if not 0 <= body.get("temperature", 1) <= 2:
        return refuse(400, "temperature must be in [0, 2]", "temperature")
    cap = body.get("max_tokens", body.get("max_completion_tokens", 1))
    if cap < 1:
        return refuse(
            400, f"max_tokens must be at least 1, got {cap}. (parameter=max_tokens, value={cap})", "max_tokens"
        )
    return None


def _completions_refusal(state: Vllm, body: dict[str, Any]) -> Any:
    if refusal := _sampling_refusal(body):
        return refusal
    prompt = _prompt(body)
    if not prompt:
        return refuse(400, "You must pass at least one prompt")
    if any(not 0 <= token < 201_088 for token in prompt):
        error = {"message": "Token id is out of vocabulary", "type": "BadRequestError", "param": None, "code": 400}
        return lambda handler, _: play_events(handler, [{"error": error}, "[DONE]"])
    if len(prompt) > state.window:
        said = (
            f"This model's maximum context length is {state.window} tokens. However, your prompt contains {len(prompt)}"
            " input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the "
            f"input prompt. (parameter=input_tokens, value={len(prompt)})"
        )
        return refuse(400, said, "input_tokens")
    if len(prompt) == state.window:
        return refuse(400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens")
    return None


def _chat_refusal(state: Vllm, body: dict[str, Any]) -> Any:
    if refusal := _sampling_refusal(body):
        return refusal
    if body.get("tools") == []:
        return refuse(400, "`tools` must not be an empty array. Either provide at least one tool or omit it.", "tools")
    if body.get("reasoning_effort", "low") not in ("low", "medium", "high"):
        return refuse(400, "reasoning_effort is none of low, medium, high", "body.reasoning_effort", "Bad Request")
    choice = body.get("tool_choice")
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        return refuse(400, "The tool specified in `tool_choice` does not match any of the specified `tools`")
    count = len(_chat_prompt(body))
    if count > state.window:
        return refuse(400, f"Input length ({count}) exceeds model's maximum context length ({state.window}).")
    return None


def encode(text: str) -> list[int]:
    """Return tokens, the special ones as such."""
    return list(encoding().encode(text, allowed_special="all"))


def _prompt(body: dict[str, Any]) -> list[int]:
    prompt = body.get("prompt") or []
    return encode(prompt) if isinstance(prompt, str) else list(prompt)


def _chat_prompt(body: dict[str, Any]) -> list[int]:
    return encode(json.dumps([body.get("messages"), body.get("tools")]))


def _generated(body: dict[str, Any], turn: str, prompt: int, window: int, default: int) -> tuple[list[int], str]:
    """Return what the model writes until a stop token or the cap, and the finish reason; a cap is cut in silence."""
    stops = {RETURN, CALL, *body.get("stop_token_ids", ())}
    ids = encode(turn)
    whole = [*takewhile(lambda token: token not in stops, ids)]
    whole = ids[: len(whole) + 1]
    cap = min(body.get("max_tokens") or body.get("max_completion_tokens") or default, window - prompt)
    return whole[:cap], "length" if cap < len(whole) else "stop"


def play_completion(state: Vllm, handler: BaseHTTPRequestHandler, body: dict[str, Any], turn: str) -> None:
    play_events(handler, completion_events(state, body, turn))


def completion_events(state: Vllm, body: dict[str, Any], turn: str) -> list[Any]:
    prompt = _prompt(body)
    held = body.get("structured_outputs") or body.get("response_format")
    assert not held or turn.startswith("{"), "what is held to a schema is JSON from the first character on"
    ids, finish = _generated(body, turn if not held else turn + "<|return|>", len(prompt), state.window, 16)
    events: list[Any] = completion_chunks(state, body, prompt, ids, finish)
    usage: dict[str, Any] = {
        "prompt_tokens": len(prompt),
        "total_tokens": len(prompt) + len(ids),
        "completion_tokens": len(ids),
        "prompt_tokens_details": {"cached_tokens": state.cached(prompt)},
    }
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**_completion(state), "choices": [], "usage": usage, "system_fingerprint": "vllm-0.32.0"})
    assert body.get("stream"), "only streams are played"
    return [*events, "[DONE]"]


def completion_chunks(
    state: Vllm, body: dict[str, Any], prompt: list[int], ids: list[int], finish: str
) -> list[dict[str, Any]]:
    """Return the chunks of a completion: the id of the stop token comes, its text does not."""
    chunks: list[dict[str, Any]] = []
    shows = body.get("return_token_ids") and state.sends_token_ids
    pending: list[int] = []
    for start in range(0, len(ids), state.tokens_a_chunk):
        part = ids[start : start + state.tokens_a_chunk]
        last = start + len(part) == len(ids)
        pending += part
        text = encoding().decode([token for token in pending if token not in (RETURN, CALL)]) if pending else ""
        if text.endswith("\ufffd") and not last:  # half of a character
            text = ""
        else:
            pending = []
        if body.get("skip_special_tokens", True):
            text = "" if text.startswith("<|") else text
        choice = {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": finish if last else None,
            "stop_reason": CALL if last and ids[-1] == CALL else None,
            "prompt_token_ids": prompt if shows and not chunks else None,
            "token_ids": part if shows else None,
        }
        if not state.sends_token_ids:
            del choice["token_ids"], choice["prompt_token_ids"]
        chunks.append({**_completion(state), "choices": [choice]})
    return chunks


def _completion(state: Vllm) -> dict[str, Any]:
    return {"id": "cmpl-9b14", "object": "text_completion", "created": 1795369521, "model": state.model}


def play_chat(state: Vllm, handler: BaseHTTPRequestHandler, body: dict[str, Any], turn: str) -> None:
    play_events(handler, chat_events(state, body, turn))


def chat_events(state: Vllm, body: dict[str, Any], turn: str) -> list[Any]:
    from openai_harmony import Role

    prompt = _chat_prompt(body)
    ids, finish = _generated(body, turn, len(prompt), state.window, state.window)
    messages = encoding().parse_messages_from_completion_tokens(ids, role=Role.ASSISTANT, strict=False)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    calls = thought = 0
    for message in messages:
        text = message.content[0].text
        if message.recipient in (None, "assistant") or message.recipient.startswith("<|"):
            name = "reasoning" if message.channel == "analysis" else "content"
            thought += len(encode(text)) if name == "reasoning" else 0
            deltas += [{name: text[start : start + 20]} for start in range(0, len(text), 20)]
        elif state.tool_flags and message.recipient.split(".")[0] not in ("python", "browser", "container"):
            deltas += _call_deltas(calls, message.recipient.removeprefix("functions."), text)
            calls += 1
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
    ]
    ended = "tool_calls" if calls and finish == "stop" else finish
    stop_reason = CALL if ids and ids[-1] == CALL and state.tells_stop_reason else None
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": ended, "stop_reason": stop_reason})
    base = {"id": "chatcmpl-b07b", "object": "chat.completion.chunk", "created": 1795369564, "model": state.model}
    events: list[Any] = [{**base, "choices": [choice]} for choice in choices]
    if (body.get("stream_options") or {}).get("include_usage"):
        usage: dict[str, Any] = {
            "prompt_tokens": len(prompt),
            "total_tokens": len(prompt) + len(ids),
            "completion_tokens": len(ids),
            "prompt_tokens_details": {"cached_tokens": state.cached(prompt), "created_cache_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
        events.append({**base, "choices": [], "usage": usage, "system_fingerprint": "vllm-0.32.0"})
    return [*events, "[DONE]"]


def _call_deltas(index: int, name: str, arguments: str) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"id": f"chatcmpl-tool-{uuid.uuid4().hex}", "type": "function", "index": index}
    pieces = [arguments[start : start + 8] for start in range(0, len(arguments), 8)]
    return [
        {"tool_calls": [{**first, "function": {"name": name, "arguments": ""}}]},
        *({"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces),
    ]


def play_events(handler: BaseHTTPRequestHandler, events: Sequence[Any]) -> None:
    """Send events with a comment line before them, as a server behind a proxy keeps the connection alive."""
    start_events(handler)
    comment = b": keep-alive\n\n"
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(comment), comment))
    for event in events:
        send_event(handler, event)
    handler.wfile.write(b"0\r\n\r\n")


def _common(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
