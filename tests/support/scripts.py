"""What a scripted model does in a run: a bug that it mends, commands that leave a mark each, and faults on the way."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Any

from tests.support.server import ChatServer, call, chunks_of, say, send_events, start_events, stream

FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
FIXING = (call("apply_patch", {"patch": FIX}), say("It adds now."))
MARKS = "marks.txt"
GONE_SECONDS = 30.0  # after which a server gives up a client that hangs


def arguments(server: ChatServer, *more: str, task: str | None = "Fix add") -> list[str]:
    """Return a command line that asks this server; without a task, for one that is resumed."""
    given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--no-checks", "--format", "json"]
    return ["codegen", *([task] if task else []), *given, *more]


def marking(name: str, *, seconds: float = 0.0) -> dict[str, Any]:
    """A turn with a command that must not run twice: it leaves a line in a file of the patch, and then works on."""
    return call("exec", {"cmd": f"echo {name} >>{MARKS}; sleep {seconds}; cat {MARKS}"})


def marks_in(patch: str) -> list[str]:
    """Return the marks that a patch brings."""
    _, _, file = patch.partition(f"+++ b/{MARKS}\n")
    added = file.partition("\ndiff --git")[0].splitlines()
    return [line[1:] for line in added if line.startswith("+")]


def by_history(*turns: Any) -> Any:
    """Play the turn that the conversation has come to: as many as the model has said before are over."""

    def play(handler: Any, request: Any) -> None:
        said = sum(message["role"] == "assistant" for message in request.json["messages"])
        turn = turns[min(said, len(turns) - 1)]
        if callable(turn):
            turn(handler, request)
        else:
            stream(handler, turn)

    return play


def ended_early(turn: dict[str, Any]) -> Any:
    """A turn whose stream ends in good order, with all that it says, but before the server says why it ends."""

    def play(handler: Any, _: Any) -> None:
        send_events(handler, chunks_of({**turn, "finish": None}))

    return play


def garbled(turn: dict[str, Any]) -> Any:
    """A turn in whose stream one piece is half of what it should be."""

    def play(handler: Any, _: Any) -> None:
        first, *rest = chunks_of(turn)
        send_events(handler, [first, '{"id": "chatcmpl-1", "choi', *rest, "[DONE]"])

    return play


def hanging(handler: Any, _: Any) -> None:
    """A turn that begins, and then nothing more comes until the client goes away."""
    handler.close_connection = True
    start_events(handler)
    select.select([handler.connection], [], [], GONE_SECONDS)


def broken_off(handler: Any, _: Any) -> None:
    """A turn in whose place the connection is reset."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())


def closed(handler: Any, _: Any) -> None:
    """A turn in whose place the connection is closed, as of a server that has just had enough of keeping it alive."""
    handler.close_connection = True


def at_times(times: list[float], turn: Any) -> Any:
    """A turn that notes when it was asked for."""

    def play(handler: Any, request: Any) -> None:
        times.append(time.monotonic())
        if callable(turn):
            turn(handler, request)
        else:
            stream(handler, turn)

    return play
