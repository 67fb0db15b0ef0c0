"""Runs the CLI as a fork of a process that has imported it: the same code, in a process of its own, without the start.

An interpreter and its imports take longer than most commands. As a program this is that process; it reads requests on
the socket whose number it is given, and ends with it. A request is a length, with four descriptors (stdin, stdout,
stderr, and where the child's number and then its status go), and a JSON object of arguments, folder and environment.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBER = struct.Struct("<i")
# What an interpreter goes by when it starts: with any other value of these it has to.
AT_START = ("PYTHON", "LANG", "LC_", "COVERAGE_", "MALLOC_", "LD_")
LOADED = ("git", "httpx", "rich.console", "rich.progress", "yaml")  # and all of the package


class Forks:
    """The process that forks, and its requests, from any thread. It is started when it is first needed."""

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        self._python = python
        self._environment = environment
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Say whether an interpreter would start in this environment as it has in that of the forks."""
        return _at_start(environment) == _at_start(self._environment)

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: str | None, timeout: float
    ) -> tuple[int, str, str]:
        """Return exit code (negative: a signal's), stdout and stderr; raises TimeoutExpired as subprocess does."""
        request = json.dumps([list(arguments), os.fspath(cwd), dict(environment)]).encode()
        with contextlib.ExitStack() as opened:
            source = opened.enter_context(tempfile.TemporaryFile())
            source.write((stdin or "").encode())
            source.seek(0)
            readers = opened.enter_context(ThreadPoolExecutor(2))
            pipes = [os.pipe() for _ in range(2)]
            ours, theirs = socket.socketpair()
            opened.callback(ours.close)
            with theirs, self._lock:
                asked = self._open()
                numbers = [source.fileno(), *(write for _, write in pipes), theirs.fileno()]
                socket.send_fds(asked, [NUMBER.pack(len(request))], numbers)
                asked.sendall(request)
            for _, write in pipes:
                os.close(write)
            told = [readers.submit(_text, read) for read, _ in pipes]
            ours.settimeout(timeout)
            child = _number(ours)
            try:
                status = _number(ours)
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired([*arguments], timeout) from None
            stdout, stderr = (text.result() for text in told)
            return os.waitstatus_to_exitcode(status), stdout, stderr

    def close(self) -> None:
        """End the process."""
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait(10)

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                command = [self._python, os.fspath(Path(__file__)), str(theirs.fileno())]
                environment = dict(self._environment)
                self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], cwd="/")
        return self._socket


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def _text(pipe: int) -> str:
    with open(pipe, encoding="utf-8") as file:
        return file.read()


def _number(stream: socket.socket) -> int:
    data = b""
    while len(data) < NUMBER.size:
        data += (part := stream.recv(NUMBER.size - len(data)))
        if not part:
            raise EOFError("the process that forks has ended")
    number: int = NUMBER.unpack(data)[0]
    return number


def serve(requests: socket.socket) -> list[str]:
    """Fork for each request, and return in the child alone, with its arguments; ends with the socket."""
    import miyabi_cli

    package = [module.name for module in pkgutil.walk_packages(miyabi_cli.__path__, "miyabi_cli.")]
    for name in (*LOADED, *package):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()  # or each child would copy the memory of all that is imported as it looks it through
    while True:
        data, numbers, _, _ = socket.recv_fds(requests, NUMBER.size, 4)
        if not data:
            os._exit(0)
        left = NUMBER.unpack(data)[0]
        parts = []
        while left:
            parts.append(requests.recv(left))
            left -= len(parts[-1])
        if os.fork() == 0:
            requests.close()
            return _child(json.loads(b"".join(parts)), numbers)
        for number in numbers:
            os.close(number)


def _child(request: tuple[list[str], str, dict[str, str]], numbers: Sequence[int]) -> list[str]:
    """Fork once more, so that there is somebody to wait for the command and to tell of it; return in the command."""
    *streams, told = numbers
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        os.write(told, NUMBER.pack(child))
        _, status = os.waitpid(child, 0)
        os.write(told, NUMBER.pack(status))
        os._exit(0)
    for wanted, number in enumerate(streams):
        os.dup2(number, wanted)
    for number in numbers:
        os.close(number)
    encoding = sys.stdout.encoding
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - as the interpreter opens them
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    arguments, folder, environment = request
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    return arguments


def end(status: int) -> None:
    """End this process as an interpreter does, but for taking down all that it has imported, which takes as long."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an interpreter does
    atexit._run_exitfuncs()
    gc.collect()  # what was not closed warns now
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.path.insert(1, str(ROOT))
    given = serve(socket.socket(fileno=int(sys.argv[1])))
    from miyabi_cli.__main__ import main

    sys.argv = [str(ROOT / "miyabi_cli/__main__.py"), *given]
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    else:
        code = 0
    end(code if isinstance(code, int) else 0 if code is None else 1)
