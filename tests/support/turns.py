"""What a scripted server says, in no server's format, and how it goes over the line: whole, slowly, in half, never."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

from miyabi_cli.messages import Usage

Fault = Literal["", "cut", "reset", "hang", "fail", "garble"]
Kind = Literal[
    "", "unauthorized", "no_model", "too_long", "busy", "broken", "overloaded",
    "web_page", "junk", "squeezed", "broken_squeezed", "elsewhere", "empty", "deep",
]  # fmt: skip

FOR_EVER = 30.0  # seconds after which a test has failed that never went away


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply. `calls` are names and JSON texts; `finish`: why it ends, where it is not for the calls.

    `kind`: the refusal in its place. `fault`: what happens once `after` pieces are sent; below 0: before the status.
    `seconds` pass between the pieces. `block`: the bytes in which the reply goes out, however they cut its pieces.
    `echo`: the text is the user's last words. `meets`: so many requests have to be there before any is answered.
    """

    text: str = ""
    thought: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish: Literal["stop", "length"] = "stop"
    usage: Usage | None = None
    kind: Kind = ""
    fault: Fault = ""
    after: int = 0
    seconds: float = 0.0
    block: int = 0
    echo: bool = False
    meets: bool = False


def say(text: str, thought: str = "", **more: Any) -> Turn:
    return Turn(text, thought, **more)


def call(name: str, arguments: dict[str, Any] | str, thought: str = "") -> Turn:
    return several((name, arguments), thought=thought)


def several(*calls: tuple[str, dict[str, Any] | str], thought: str = "") -> Turn:
    texts = [(name, one if isinstance(one, str) else json.dumps(one)) for name, one in calls]
    return Turn(thought=thought, calls=tuple(texts))


def error(kind: Kind) -> Turn:
    return Turn(kind=kind)


def cut(turn: Turn, after: int) -> Turn:
    """The stream ends in good order, only too early."""
    return replace(turn, fault="cut", after=after)


def reset(turn: Turn, after: int) -> Turn:
    """The connection is reset (RST) in the middle."""
    return replace(turn, fault="reset", after=after)


def hang(turn: Turn, after: int) -> Turn:
    """Nothing more comes, until the client goes away."""
    return replace(turn, fault="hang", after=after)


def fail(turn: Turn, after: int) -> Turn:
    """The server says in the stream that it failed."""
    return replace(turn, fault="fail", after=after)


def garble(turn: Turn, after: int) -> Turn:
    """Half of a piece comes, as if it were whole."""
    return replace(turn, fault="garble", after=after)


def slow(turn: Turn, seconds: float) -> Turn:
    return replace(turn, seconds=seconds)


def chopped(turn: Turn, block: int = 1) -> Turn:
    return replace(turn, block=block)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn in a server's own format: its pieces, and what it would say in the stream if it failed."""

    content_type: str
    pieces: Sequence[bytes]
    failure: bytes = b""


@dataclass
class Line:
    """What the server saw of its clients: `asked`: one is there; `gone`: one left before its reply was over."""

    asked: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))


def transmit(handler: BaseHTTPRequestHandler, turn: Turn, spoken: Spoken, line: Line) -> None:
    """Send a turn as a chunked reply, with what goes wrong in it."""
    handler.close_connection = turn.fault in ("hang", "reset")
    line.asked.set()
    if turn.meets:
        line.meeting.wait(FOR_EVER)
    try:
        if turn.fault == "hang" and turn.after < 0:
            _wait_for_end(handler)
            return
        handler.send_response(200)
        handler.send_header("content-type", spoken.content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for piece in _pieces(turn, spoken):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(turn.seconds)
        if turn.fault == "hang":
            _wait_for_end(handler)
        elif turn.fault == "reset":
            _reset(handler)
        else:
            handler.wfile.write(b"0\r\n\r\n")
    except ConnectionError:
        line.gone.set()


def _pieces(turn: Turn, spoken: Spoken) -> list[bytes]:
    pieces = list(spoken.pieces)
    if turn.fault:
        pieces = pieces[: turn.after]
    if turn.fault == "fail":
        pieces.append(spoken.failure)
    if turn.fault == "garble":
        broken = spoken.pieces[turn.after]
        text = broken.rstrip(b"\n")
        pieces.append(text[: len(text) // 2] + broken[len(text) :])
    if turn.block:
        whole = b"".join(pieces)
        pieces = [whole[at : at + turn.block] for at in range(0, len(whole), turn.block)]
    return pieces


def _wait_for_end(handler: BaseHTTPRequestHandler) -> None:
    """Wait until the client has gone away."""
    readable, _, _ = select.select([handler.connection], [], [], FOR_EVER)
    if readable and not handler.connection.recv(1, socket.MSG_PEEK):
        raise ConnectionResetError("the client has gone away")


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Close with what the network does to a process that is killed: no end of the stream, but a reset."""
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())
