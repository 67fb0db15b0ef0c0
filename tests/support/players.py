"""The servers that the conformance suite asks, one row each, and a server at work on a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any

from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from tests.support import wires
from tests.support.groq import Clock
from tests.support.refusals import GROQ, OLLAMA, OPENAI, VLLM, Refusal
from tests.support.server import send_error
from tests.support.turns import Line, Spoken, Turn, transmit
from tests.support.wires import Asked, Play

MODEL = "openai/gpt-oss-20b"
INFILLING = "qwen2.5-coder-1.5b"

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Player:
    """One kind of server.

    `serve`: an instance that has a model, whose turns are played by a function. `open`: a provider that asks it.
    `speak`: a neutral turn in its format. `read`: a request to it. `refusals`: how it says each kind of error.
    `lacks`: what its format has no room for, or the wire does not ask for. `infills`: a model of it that fills in.
    """

    serve: Callable[[Play, str], AbstractContextManager[Any]]
    open: Callable[..., Provider]
    speak: Callable[[Any, dict[str, Any], Turn], Spoken]
    read: Callable[[bytes], Asked]
    refusals: Mapping[str, Refusal]
    lacks: frozenset[str] = frozenset()
    infills: str = ""
    model: str = MODEL


@dataclass
class Playing:
    """A server at work on a script: its turns in order, the last one again and again."""

    player: Player
    model: str
    server: Any = None
    turns: Sequence[Turn] = ()
    bodies: list[bytes] = field(default_factory=list)
    line: Line = field(default_factory=Line)
    clock: Clock = field(default_factory=Clock)
    naps: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def script(self, *turns: Turn, meeting: int = 1) -> None:
        """Play these from now on; what was asked before is forgotten. `meeting`: see `Turn.meets`."""
        self.turns, self.bodies, self.line = turns, [], Line(meeting=threading.Barrier(meeting))
        self.naps.clear()

    def open(self, *, url: str = "", attempts: int = 4, sleep: Sleep | None = None, **options: Any) -> Provider:
        """Open a provider whose waits are noted and not waited, unless by `sleep`."""
        retries = Retries(attempts=attempts, sleep=sleep or self._sleep, jitter=lambda: 1.0)
        return self.player.open(url or self.server.url, self.model, self.clock, retries=retries, **options)

    @property
    def asked(self) -> list[Asked]:
        return [self.player.read(body) for body in self.bodies]

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        await self.clock.sleep(seconds)

    def play(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self.lock:
            self.bodies.append(body)
            turn = self.turns[min(len(self.bodies), len(self.turns)) - 1]
        if turn.kind:
            refused = self.player.refusals[turn.kind]
            send_error(refused.status, refused.body, dict(refused.headers), refused.content_type)(handler, {})
            return
        data = json.loads(body)
        if turn.echo:
            turn = replace(turn, text=self.player.read(body).prompt, echo=False)
        transmit(handler, turn, self.player.speak(self.server, data, stopped(data, turn)), self.line)


@contextmanager
def playing(player: Player, model: str = "") -> Iterator[Playing]:
    """Serve a row of the table."""
    work = Playing(player, model or player.model)
    with player.serve(work.play, work.model) as work.server:
        yield work


def stopped(body: Mapping[str, Any], turn: Turn) -> Turn:
    """Return what is left of a turn where the request names what ends it."""
    stops = body.get("stop") or (body.get("options") or {}).get("stop") or ()
    ends = [at for mark in stops if (at := turn.text.find(mark)) >= 0]
    return Turn(turn.text[: min(ends)], turn.thought) if ends else turn


# What a wire has no room for, or does not do at once.
CHAT = frozenset({"dropping thought"})
CHAT_OF_VLLM = CHAT | {"several calls", "a comment first"}
HARMONY = frozenset({"several calls", "stop", "holding at once", "a comment first"})
NATIVE = frozenset({"reasoning tokens", "forcing", "the end of a call"})

PLAYERS = {
    "openai": Player(wires.serve_openai, wires.open_one, wires.speak_openai, wires.read_chat, OPENAI, CHAT, INFILLING),
    "vllm-harmony": Player(
        wires.serve_vllm, wires.open_vllm_by("harmony"), wires.speak_vllm, wires.read_harmony, VLLM, HARMONY
    ),
    "vllm-chat": Player(
        wires.serve_vllm, wires.open_vllm_by("chat"), wires.speak_vllm, wires.read_chat, VLLM, CHAT_OF_VLLM, INFILLING
    ),
    "ollama": Player(
        wires.serve_ollama, wires.open_native, wires.speak_ollama, wires.read_ollama, OLLAMA, NATIVE,
        wires.NATIVE_INFILLING, wires.NATIVE_MODEL,
    ),
    "groq": Player(wires.serve_groq, wires.open_paced, wires.speak_groq, wires.read_chat, GROQ, CHAT),
}  # fmt: skip
