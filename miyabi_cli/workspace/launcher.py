"""Commands that the fork server starts: asking it for one, and following that to its end."""

from __future__ import annotations

import array
import asyncio
import atexit
import contextlib
import marshal
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.children import Outlast
from miyabi_cli.workspace.policy import OFF_HINT

_SERVE = """
import sys
sys.path.append(sys.argv[1])
from miyabi_cli.workspace.fork_server import serve
serve(int(sys.argv[2]))
"""
_MOST_SAID = 1 << 14  # bytes; the answers take a hundred
_PATIENCE = 60.0  # seconds, of a machine that is busy
_KILLED = 137


class ForkServer:
    """The fork server of this process: started when it is first needed, and again where it has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, output: int) -> socket.socket:
        """Have a process forked whose output is that descriptor; return the socket that it reads its plan from.

        Raises SandboxError where the server can't be started.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for _ in range(2):
                try:
                    descriptors = array.array("i", [theirs.fileno(), output])
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
                    (self._requests or self._start()).sendmsg([b"+"], ancillary)
                    return ours
                except OSError as error:
                    failure = error
                    self._stop()
        ours.close()
        raise SandboxError(f"the sandbox failed: {failure}", hint=OFF_HINT)

    @property
    def pid(self) -> int | None:
        """The server's, where it was started."""
        return self._process.pid if self._process else None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                root = str(Path(__file__).parents[2])
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _SERVE, root, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self._requests = ours
        atexit.unregister(self._stop)
        atexit.register(self._stop)
        return ours

    def _stop(self) -> None:
        """Let the server end, which it does when nobody can ask it any more."""
        if self._requests:
            self._requests.close()
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        self._requests = self._process = None


FORK_SERVER = ForkServer()


class Launched:
    """A command that the fork server's process confines and keeps; see `Child`."""

    def __init__(self, control: socket.socket) -> None:
        """Follow what is said on a control socket, which is closed at the end."""
        self._control = control
        self._answer = _Answer()
        self._was_killed = False
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        control.setblocking(False)
        self._loop.add_reader(control, self._hear)

    @property
    def pid(self) -> int:
        """The keeper's, once it was said."""
        return self._answer.pid

    def first_inside(self) -> None:
        """Return None: there is no namespace."""
        return

    async def begin(self, plan: Mapping[str, Any]) -> bool:
        """Send the plan; say whether a process has taken it, or else the server had gone.

        Raises SandboxError where nothing comes of it in time. On cancellation all is ended before it goes on.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                with contextlib.suppress(OSError):
                    await self._loop.sock_sendall(self._control, _framed(plan))
                await asyncio.shield(self._begun)
        except TimeoutError:
            self._close()
            raise SandboxError("the sandbox failed: its fork server does not answer", hint=OFF_HINT) from None
        except BaseException:
            self.kill()
            await self._gone()
            raise
        if not self._answer.was_given:
            self._close()
        return self._answer.was_given

    def kill(self) -> None:
        """Tell the keeper that nobody waits any more."""
        self._was_killed = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    async def end(self, outlast: Outlast) -> int:
        """Wait until the keeper and all below it have ended. Raises SandboxError where the command was not begun."""
        try:
            await outlast(self._ended, None)
        finally:
            self._close()
        if not self._was_killed:
            self._answer.check()
        return self._answer.exit_code

    async def _gone(self) -> None:
        while not self._ended.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._ended])
        self._close()

    def _hear(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._answer.hear(data)
        if not self._begun.done():
            self._begun.set_result(None)
        if not data:
            self._loop.remove_reader(self._control)
            self._ended.set_result(None)

    def _close(self) -> None:
        self._loop.remove_reader(self._control)
        self._control.close()


async def launch(plan: Mapping[str, Any], output: int) -> Launched:
    """Start a command by a plan of `confined`. Raises SandboxError where that fails."""
    for _ in range(2):
        launched = Launched(FORK_SERVER.begin(output))
        if await launched.begin(plan):
            return launched
        # it was killed after it was asked: the next is a new one
    raise SandboxError("the sandbox failed: its fork server ended", hint=OFF_HINT)


def probe(plan: Mapping[str, Any], output: int) -> None:
    """Run a command that must succeed; waits for it. Raises SandboxError with what went wrong."""
    answer = _Answer()
    with FORK_SERVER.begin(output) as control:
        control.settimeout(_PATIENCE)
        try:
            control.sendall(_framed(plan))
            while data := control.recv(4096):
                answer.hear(data)
        except OSError as error:
            raise SandboxError(f"the sandbox failed: {error}", hint=OFF_HINT) from None
    answer.check()
    if answer.exit_code:
        raise SandboxError(f"the sandbox failed: exit code {answer.exit_code}", hint=OFF_HINT)


def _framed(plan: Mapping[str, Any]) -> bytes:
    data = marshal.dumps(dict(plan))
    return len(data).to_bytes(4, "little") + data


class _Answer:
    """What a keeper has said; see `confined`."""

    def __init__(self) -> None:
        self._said = b""

    def hear(self, data: bytes) -> None:
        self._said = (self._said + data)[:_MOST_SAID]

    @property
    def was_given(self) -> bool:
        return bool(self._said)

    @property
    def pid(self) -> int:
        return self._number(rb"^started (\d+)$") or 0

    @property
    def exit_code(self) -> int:
        """The command's; 137 where the keeper was killed before it could say it."""
        code = self._number(rb"^ended (\d+)$")
        return _KILLED if code is None else code

    def check(self) -> None:
        """Raise SandboxError where the command was not begun."""
        failed = re.search(rb"^failed (.*)$", self._said, re.MULTILINE)
        if failed or not re.search(rb"^running$", self._said, re.MULTILINE):
            why = failed[1].decode(errors="replace") if failed else "its fork server ended"
            raise SandboxError(f"the sandbox failed: {why}", hint=OFF_HINT)

    def _number(self, pattern: bytes) -> int | None:
        found = re.search(pattern, self._said, re.MULTILINE)
        return int(found[1]) if found else None
