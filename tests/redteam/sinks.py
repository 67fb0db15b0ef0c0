"""Sockets of the user's machine that count what reaches them."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CONNECTION = 1  # counts as much as a byte: that somebody is there is told already


@dataclass
class Sinks:
    """`places` are their addresses by the names that attacks call them; `bytes` what came to each that was reached."""

    places: dict[str, str]
    bytes: Counter[str] = field(default_factory=Counter)

    def reached(self) -> set[str]:
        return set(self.bytes)


@contextmanager
def open_sinks(home: Path) -> Iterator[Sinks]:
    """Listen on loopback, as a package index, an ssh agent, a container engine, a system log, and an abstract name."""
    agent, engine, log = home / ".ssh/agent", home / ".docker/run/docker.sock", home / ".docker/run/log"
    abstract = f"miyabi-{os.getpid()}-{id(home)}"
    with ExitStack() as stack:
        sockets = {
            "tcp": socket.create_server(("127.0.0.1", 0)),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "index": socket.create_server(("127.0.0.1", 0)),
            "ssh agent": socket.socket(socket.AF_UNIX),
            "container engine": socket.socket(socket.AF_UNIX),
            "system log": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "abstract": socket.socket(socket.AF_UNIX),
        }
        for one in sockets.values():
            stack.enter_context(one)
        sockets["udp"].bind(("127.0.0.1", 0))
        for name, address in (("ssh agent", agent), ("container engine", engine), ("abstract", f"\0{abstract}")):
            sockets[name].bind(str(address))
            sockets[name].listen()
        sockets["system log"].bind(str(log))
        for path in (agent, engine, log):
            path.chmod(0o777)
        ports = {name: str(sockets[name].getsockname()[1]) for name in ("tcp", "udp", "index")}
        sinks = Sinks({**ports, "agent": str(agent), "engine": str(engine), "log": str(log), "abstract": abstract})
        stack.enter_context(_counting(sinks, sockets))
        yield sinks


@contextmanager
def _counting(sinks: Sinks, sockets: dict[str, socket.socket]) -> Iterator[None]:
    """Count in a thread until the block ends, and then what is still on its way."""
    ended, ends = socket.socketpair()
    with selectors.DefaultSelector() as selector, ended, ends:
        for name, one in sockets.items():
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ, name)
        selector.register(ended, selectors.EVENT_READ)
        thread = threading.Thread(target=_count, args=(sinks, selector))
        thread.start()
        try:
            yield
        finally:
            ends.send(b"x")
            thread.join()


def _count(sinks: Sinks, selector: selectors.BaseSelector) -> None:
    while True:
        ready = [(key.data, key.fileobj) for key, _ in selector.select()]
        for name, server in ready:
            assert isinstance(server, socket.socket)
            if name in ("udp", "system log"):
                sinks.bytes[name] += CONNECTION + len(server.recv(1 << 16))
            elif name is not None:
                sinks.bytes[name] += CONNECTION + _received(server)
        if [name for name, _ in ready] == [None]:
            return


def _received(server: socket.socket) -> int:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(2)
        try:
            return len(connection.recv(1 << 16))
        except OSError:
            return 0
