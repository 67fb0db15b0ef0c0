"""`doctor`'s text for a server of each kind, healthy and broken in each known way.

The texts lie in tests/fixtures/doctor; after a change on purpose: MIYABI_WRITE_SNAPSHOTS=1 pytest
tests/test_doctor_snapshots.py writes them anew, to be read before they are committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.doctor.diagnosing import find_choice
from miyabi_cli.doctor.providers import Means, examine
from miyabi_cli.doctor.report import Diagnosis
from miyabi_cli.ledger.store import Ledger
from miyabi_cli.llm.metering import Account
from miyabi_cli.observations import Observation
from miyabi_cli.redaction import NO_SECRETS
from miyabi_cli.report.doctor import write_text
from miyabi_cli.settings.sources import load_settings
from tests.conftest import ROOT
from tests.support import groq, ollama, server, vllm
from tests.support.serving import serving

TEXTS = ROOT / "tests/fixtures/doctor"
ADDRESS = "http://server.test"
THOUGHT = "17 and 25 make 42, so report_sum gets 42."
OBJECT = '{"primes": [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47], "sum": 328}'
WISH = '{"sum": 42}'
CHAT = {"wire": "chat"}
GPT_OSS = {"model": "gpt-oss-20b"}
USAGE = {"prompt_tokens": 90, "completion_tokens": 64}

Serve = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Case:
    """A server, and the settings of the provider that asks it; `llm`: further ones. `seconds`: how long it may take."""

    provider: str
    serve: Serve
    settings: Mapping[str, Any] = field(default_factory=dict)
    llm: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 20.0


def nobody() -> Serve:
    """A port on which nothing listens."""
    return lambda: nullcontext(server.ChatServer((), url="http://127.0.0.1:9"))


def gpu(*turns: Any, **options: Any) -> Serve:
    said = turns or (vllm.called("functions.report_sum", WISH, THOUGHT), vllm.final(OBJECT, THOUGHT))
    return lambda: vllm.vllm_server(*said, **options)


def desk(*turns: Any, **options: Any) -> Serve:
    said = turns or (ollama.call("report_sum", {"sum": 42}, thought=THOUGHT), ollama.say(OBJECT, eval_count=64))
    return lambda: ollama.ollama_server(*said, **options)


def cloud(*turns: Any, limit: int = 250_000) -> Serve:
    call = server.call("report_sum", WISH, thought=THOUGHT)
    said = turns or (call, server.say(OBJECT, thought=THOUGHT))
    return lambda: groq.groq_server(*said, budget=groq.Budget(limit, lambda: 0.0))


def any_chat(*turns: Any, models: tuple[str, ...] = ("gpt-oss-20b",), window: int = 65_536) -> Serve:
    call = server.call("report_sum", WISH, thought=THOUGHT) | {"usage": USAGE}
    said = turns or (call, server.say(OBJECT, thought=THOUGHT) | {"usage": USAGE})

    @contextmanager
    def serve() -> Iterator[Any]:
        with server.chat_server(*said) as state:
            state.models, state.model_fields = models, {"max_model_len": window}
            yield state

    return serve


def hang(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Say nothing until the client has gone."""
    handler.connection.recv(1)


def page(handler: BaseHTTPRequestHandler, request: Any) -> None:
    server.send_error(200, b"<html><body>Welcome</body></html>", kind="text/html")(handler, request)


def stranger(answer: Callable[[BaseHTTPRequestHandler, Any], None]) -> Serve:
    """A server that is no model's: it answers whatever it is asked in one way."""

    class Player(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, None)

        def log_message(self, *_: Any) -> None:
            return

    @contextmanager
    def serve() -> Iterator[Any]:
        with serving(Player) as url:
            yield server.ChatServer((), url=url)

    return serve


NO_TOOLS = {"error": {"message": "gpt-oss-20b does not support tools", "type": "invalid_request_error"}}

CASES = {
    "vllm": Case("vllm", gpu()),
    "vllm-chat": Case("vllm", gpu(), CHAT),
    "vllm-no-tool-flags": Case("vllm", gpu(tool_flags=False), CHAT),
    "vllm-no-tool-flags-old": Case("vllm", gpu(tool_flags=False, tells_stop_reason=False), CHAT),
    "vllm-call-as-text": Case("vllm", gpu(vllm.final(f"I call it: {WISH}"), vllm.final(OBJECT)), CHAT),
    "vllm-no-harmony": Case("vllm", gpu(serves_completions=False)),
    "vllm-wrong-key": Case("vllm", gpu(key="right"), {"api_key": "wrong-key"}),
    "vllm-other-model": Case("vllm", gpu(model="meta/llama")),
    "vllm-small-window": Case("vllm", gpu(window=4096)),
    "vllm-engine-dead": Case("vllm", gpu(health=503)),
    "vllm-not-running": Case("vllm", nobody()),
    "vllm-web-page": Case("vllm", stranger(page)),
    "vllm-hangs": Case("vllm", stranger(hang), seconds=0.3),
    "vllm-broken": Case("vllm", gpu(vllm.refuse(500, "EngineCore encountered an issue.", kind="InternalServerError"))),
    "openai": Case("openai", any_chat(), GPT_OSS),
    "openai-no-thought": Case("openai", any_chat(server.call("report_sum", WISH), server.say(OBJECT)), GPT_OSS),
    "openai-no-schema": Case(
        "openai", any_chat(server.call("report_sum", WISH, thought="x"), server.say("328, I think.")), GPT_OSS
    ),
    "openai-no-tools": Case("openai", any_chat(server.send_error(400, NO_TOOLS), server.say(OBJECT)), GPT_OSS),
    "openai-call-lost": Case("openai", any_chat(server.say(""), server.say(OBJECT)), GPT_OSS),
    "openai-web-page": Case("openai", any_chat(page), GPT_OSS),
    "openai-hangs": Case("openai", any_chat(hang), GPT_OSS, seconds=0.3),
    "openai-unlisted": Case("openai", any_chat(models=("other",)), GPT_OSS),
    "openai-no-model": Case("openai", any_chat()),
    "ollama": Case("ollama", desk()),
    "ollama-small-context": Case("ollama", desk(capped=4096)),
    "ollama-not-running": Case("ollama", nobody()),
    "ollama-no-model": Case("ollama", desk(models=[ollama.Model("tiny:1b")])),
    "ollama-empty": Case("ollama", desk(models=[])),
    "ollama-no-tools": Case(
        "ollama",
        desk(ollama.say(OBJECT), models=[ollama.Model("phi:latest", tools=False, thinks=False)]),
        {"model": "phi"},
    ),
    "ollama-cloud": Case(
        "ollama", desk(models=[ollama.Model("gpt-oss:20b-cloud", remote=True)]), {"model": "gpt-oss:20b-cloud"}
    ),
    "ollama-local-only": Case(
        "ollama", desk(models=[ollama.Model("alias:latest", remote=True)]), {"model": "alias"}, {"local_only": True}
    ),
    "groq": Case("groq", cloud(), {"api_key": groq.KEY}),
    "groq-no-key": Case("groq", cloud()),
    "groq-wrong-key": Case("groq", cloud(), {"api_key": "gsk-something-else"}),
    "groq-small-limits": Case("groq", cloud(limit=8000), {"api_key": groq.KEY}),
    "embedded-no-model": Case("embedded", nobody(), {"model": "smollm2-135m"}),
}


def text_of(case: Case, folder: Path) -> str:
    """Return what is told of a provider; each look at the clock finds it a quarter of a second later."""
    ticks = itertools.count()
    with case.serve() as served, contextlib.closing(Ledger(folder / "ledger")) as ledger:
        own = dict(case.settings) | ({} if case.provider == "embedded" else {"endpoint": served.url})
        flags = {"llm": {"provider": case.provider, case.provider: own, **case.llm}}
        settings = load_settings(flags=flags, environ={}, repository=None)
        means = Means(
            settings,
            tell=lambda _: None,
            account=lambda tell: Account(ledger, "doctor", tell=tell),
            redactor=NO_SECRETS,
            clock=lambda: next(ticks) / 4,
            now=lambda: 0.0,
            seconds=case.seconds,
        )

        async def look() -> Diagnosis:
            choice = await find_choice(settings, is_named=True)
            report = await examine(case.provider, means, is_chosen=True)
            return Diagnosis(choice, (report,), (Observation("git", "ok", "2.39.5"),), None)

        diagnosis = asyncio.run(look())
        assert all(one.hint for one in diagnosis.providers[0].findings if one.level in ("warn", "fail"))
        text = io.StringIO()
        write_text(diagnosis, text, colored=False)
    return text.getvalue().replace(served.url, ADDRESS)


@pytest.mark.parametrize("name", CASES)
def test_what_is_told_of_a_server(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MIYABI_CACHE_DIR", "MIYABI_DATA_DIR", "MIYABI_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    told = text_of(CASES[name], tmp_path)
    path = TEXTS / f"{name}.txt"
    if os.environ.get("MIYABI_WRITE_SNAPSHOTS"):
        path.write_text(told)
    assert told == path.read_text()


def test_every_text_has_its_case() -> None:
    assert {path.stem for path in TEXTS.iterdir()} == set(CASES)
