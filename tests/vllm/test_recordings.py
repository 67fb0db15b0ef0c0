"""What vLLM says is what `tests/fixtures/vllm` holds. `MIYABI_RECORD=1` writes these files anew.

Other tests play these recordings, so a vLLM that answers otherwise shows here first. Compared is what a stream adds up
to, and which fields it has: how many tokens come in one chunk is chance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai_harmony import HarmonyEncodingName, load_harmony_encoding

from tests.vllm.server import MODEL, WINDOW, VllmServer
from tests.vllm.turns import call, final, preamble, raw_call, thought, turn

FOLDER = Path(__file__).parent.parent / "fixtures" / "vllm"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
ALSO = ("id", "created", "system_fingerprint")
PARAMETERS = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = [{"type": "function", "function": {"name": "open_file", "description": "Read.", "parameters": PARAMETERS}}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
RAW = {**USAGE, "max_tokens": 400, "stop_token_ids": [200002, 200012], "skip_special_tokens": False}
ANSWER = turn(thought("I add 2 and 2."), final("It is 4 — héé 🙂."))
OPEN = turn(thought("I look."), call("functions.open_file", path="calc.py"))


@dataclass(frozen=True)
class Case:
    """A request, and the turn that the model answers with; `end` is what the prompt of a completion ends in."""

    path: str
    turn: str = ANSWER
    body: Mapping[str, Any] = field(default_factory=dict)
    end: str = ""


def completion(turn: str = ANSWER, end: str = "", **body: Any) -> Case:
    return Case(COMPLETIONS, turn, {**RAW, "return_token_ids": True, **body}, end)


def chat(turn: str = ANSWER, **body: Any) -> Case:
    return Case(CHAT, turn, {**USAGE, "max_completion_tokens": 400, **body})


def whole(case: Case) -> Case:
    """The same request, not streamed."""
    body = {key: value for key, value in case.body.items() if key not in USAGE}
    return Case(case.path, case.turn, body, case.end)


CASES = {
    "completions-answer": completion(),
    "completions-call": completion(turn(thought("I look."), call("repo_browser.open_file", path="calc.py"))),
    "completions-preamble": completion(turn(preamble("I will list."), call("container.exec", cmd=["ls"]))),
    "completions-length": completion(max_tokens=5),
    "completions-whole": whole(completion()),
    "completions-schema": completion(
        '{"name": "calc", "count": 3}<|return|>',
        "<|channel|>final <|constrain|>json<|message|>",
        structured_outputs={"json": SCHEMA},
    ),
    "completions-unknown-token": completion(prompt=[100, 999999]),
    "completions-too-long": completion(prompt=[100] * (WINDOW + 7)),
    "completions-full": completion(prompt=[100] * WINDOW),
    "completions-cap-past-window": completion(max_tokens=WINDOW + 1),
    "chat-cap-past-window": chat(max_completion_tokens=WINDOW + 1),
    "completions-no-model": completion(model="nope"),
    "chat-answer": chat(),
    "chat-call": chat(OPEN, tools=TOOLS),
    "chat-preamble": chat(
        turn(thought("I say it."), preamble("I will look."), call("functions.open_file", path="a.py")), tools=TOOLS
    ),
    "chat-whole-call": whole(chat(OPEN, tools=TOOLS)),
    "chat-length": chat(max_completion_tokens=5),
    "chat-length-in-header": chat(max_completion_tokens=2),
    "chat-lost-container": chat(turn(thought("I list."), call("container.exec", cmd=["ls"])), tools=TOOLS),
    "chat-lost-doubled-recipient": chat(
        turn(
            thought("I look."),
            raw_call(" to=functions.open_file<|channel|>commentary to=functions.open_file json", path="calc.py"),
        ),
        tools=TOOLS,
    ),
    "chat-lost-recipient": chat(
        turn(thought("I look."), raw_call("<|channel|>commentary <|constrain|>json", path="calc.py")), tools=TOOLS
    ),
    "chat-lost-schema": chat(
        turn(thought("I answer."), '<|channel|>final json<|message|>{"name": "calc", "count": 3}<|return|>'),
        response_format=FORMAT,
    ),
    "chat-schema": chat(
        turn(
            thought("I answer."),
            '<|channel|>final <|constrain|>json<|message|>{"name": "calc", "count": 3}<|return|>',
        ),
        response_format=FORMAT,
    ),
    "chat-forced": chat(OPEN, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "open_file"}}),
    "chat-too-long": chat(messages=[{"role": "user", "content": "word " * (WINDOW + 7)}]),
    "chat-bad-effort": chat(reasoning_effort="bogus"),
    "chat-no-effort": chat(reasoning_effort="none"),
    "chat-no-tools": chat(tools=[]),
    "chat-bad-schema": chat(structured_outputs={"json": {"type": "objekt"}}),
    "no-such-path": Case("/v1/nope"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_server_answers_as_it_was_recorded(vllm: VllmServer, name: str) -> None:
    case = CASES[name]
    marker = vllm.script(case.turn, name=f"recording-{name}")
    body = {"model": MODEL, **prompt_for(case, marker), **case.body}
    answer = httpx.post(f"{vllm.url}{case.path}", json=body, timeout=60)
    suffix = "sse" if answer.headers["content-type"].startswith("text/event-stream") else f"{answer.status_code}.json"
    path = FOLDER / f"{name}.{suffix}"
    if os.environ.get("MIYABI_RECORD"):
        path.write_text(answer.text)
    assert summary(answer.text) == summary(path.read_text())


def test_every_recording_has_its_request() -> None:
    recorded = {path.name.split(".")[0] for path in FOLDER.iterdir() if path.name != "README.md"}
    assert recorded == set(CASES)


def prompt_for(case: Case, marker: str) -> dict[str, Any]:
    question = f"What is 2 + 2? {marker}"
    if case.path == CHAT:
        return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]}
    if case.path != COMPLETIONS:
        return {}
    text = f"<|start|>user<|message|>{question}<|end|><|start|>assistant{case.end}"
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    return {"prompt": encoding.encode(text, allowed_special="all")}


def summary(reply: str) -> Any:
    """Return what a reply says, without what differs from one run to the next."""
    if not reply.startswith("data: "):
        return told(json.loads(reply))
    events = [event.removeprefix("data: ") for event in reply.split("\n\n") if event]
    chunks = [told(json.loads(event)) for event in events if event != "[DONE]"]
    shapes = {path for chunk in chunks for path in paths(chunk)}
    joined: dict[str, Any] = {}
    for chunk in chunks:
        add(joined, chunk)
    return joined, sorted(shapes), events[-1]


def told(value: Any, key: str = "") -> Any:
    """Leave out names and times; how much of a prompt is cached depends on what was asked before."""
    if isinstance(value, dict):
        kept = {name: told(part, name) for name, part in value.items() if name not in ALSO}
        return {**kept, "cached_tokens": 0, "created_cache_tokens": 0} if key == "prompt_tokens_details" else kept
    return [told(part) for part in value] if isinstance(value, list) else value


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Name every field that is there, and the type of what it holds."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from paths(part, f"{at}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from paths(part, f"{at}[]")
    else:
        yield f"{at}: {type(value).__name__}"


def add(joined: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Join texts, tokens and calls as a client does; of anything else the last is kept."""
    joins: dict[type, Callable[[Any, Any], Any]] = {str: str.__add__, list: list.__add__}
    for name, value in chunk.items():
        if isinstance(value, dict):
            add(joined.setdefault(name, {}), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, part in enumerate(value):
                add(joined.setdefault(name, {}).setdefault(index, {}), part)
        elif name in ("text", "content", "reasoning", "arguments", "token_ids") and value is not None:
            joined[name] = joins[type(value)](joined[name], value) if joined.get(name) else value
        elif value is not None:
            joined[name] = value
