"""One command as a child process: bounded in time, output and size, and gone before its result is returned.

Children are started from the event loop's own thread, since bubblewrap's --die-with-parent follows the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.workspace.output import BoundedOutput
from miyabi_cli.workspace.watch import Watch, descendants, is_running

TIMED_OUT, CANNOT_RUN, NOT_FOUND = 124, 126, 127  # exit codes as timeout(1) and a shell use them

_ENDLESS_OUTPUT = 256 << 20  # bytes after which a command is taken to never stop
_READ_SIZE = 1 << 16
_LOOK_EVERY = 0.05  # seconds between looks at what the command uses
_ORPHAN_GRACE = 0.2  # seconds that an orphan may hold the pipe after the command's end
_TEARDOWN = 5.0  # seconds that the kernel may take to end a pid namespace


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use: `seconds` by the clock, `output_bytes` kept, `processes` (threads count), memory as
    address space of each process, `file_bytes` of each file, `disk_bytes` written by the whole command."""

    seconds: float = 600.0
    output_bytes: int = 100_000
    processes: int = 512
    memory_bytes: int | None = None
    file_bytes: int = 1 << 30
    disk_bytes: int = 8 << 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: `exit_code` as a shell shows it (128+N for signal N, 124 on time-out, 127 not found);
    `output` is stdout and stderr as they came, its middle left out (`omitted_bytes`) where it was too long."""

    exit_code: int
    output: str
    seconds: float
    timed_out: bool = False
    omitted_bytes: int = 0


async def run_process(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    pass_fds: Sequence[int] = (),
    first_inside: Callable[[], int | None] = lambda: None,
    folders: Sequence[Path] = (),
    ends_itself: bool = False,
) -> Outcome:
    """Run a command in a session of its own with stdin from /dev/null, and return when all of it has ended.

    `first_inside` says the pid of the first process
    of the child's pid namespace, if there is one: it is killed first and waited for. `folders` are those that the
    command can write, watched for `limits.disk_bytes`. `ends_itself`: on SIGTERM the child kills all below it, and then
    ends.
    A command that can't be started is an outcome too (127 or 126). On cancellation the child is killed and reaped
    before CancelledError goes on.
    """
    begun = time.perf_counter()
    watch = Watch(folders, processes=limits.processes, disk_bytes=limits.disk_bytes)
    read_end, write_end = os.pipe()
    try:
        child = _start(argv, cwd, environment, write_end, pass_fds)
    except (OSError, ValueError, IndexError) as error:
        os.close(read_end)
        return _not_started(argv, error, time.perf_counter() - begun)
    finally:
        os.close(write_end)
    run = _Run(child, read_end, limits, watch, first_inside, ends_itself)
    exit_code = await run.end()
    return run.outcome(exit_code, time.perf_counter() - begun)


def _start(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], write_end: int, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=write_end,
        stderr=write_end,
        cwd=cwd,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def _not_started(argv: Sequence[str], error: Exception, seconds: float) -> Outcome:
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename or (argv[0] if argv else ""))
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        return Outcome(code, f"{name}: {error.strerror}\n", seconds)
    return Outcome(CANNOT_RUN, f"not a command: {error}\n", seconds)


class _Run:
    """A child that runs: reads its pipe, ends it when it outgrows a limit, and waits for all of it."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        read_end: int,
        limits: Limits,
        watch: Watch,
        first_inside: Callable[[], int | None],
        ends_itself: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._child = child
        self._read_end = read_end
        self._watch = watch
        self._first_inside = first_inside
        self._ends_itself = ends_itself
        self._output = BoundedOutput(limits.output_bytes)
        self._stopped: str | None = None
        self._timed_out = False
        self._left_group: list[int] = []
        self._drained: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(read_end, False)
        self._loop.add_reader(read_end, self._read)
        self._time_timer = self._loop.call_later(limits.seconds, self._time_out)
        self._look_timer = self._loop.call_later(_LOOK_EVERY, self._look)

    async def end(self) -> int:
        """Wait until the child and what it started have ended; return its exit code as a shell shows it."""
        try:
            with _exit_of(self._child) as exited:
                cancelled = await self._wait(exited)
            self._kill_group()  # what it left in the background; not reaped yet, so the group's id is still its own
            status = self._child.wait()
            cancelled = await self._wait_inside() or cancelled
            await self._wait_for_killed()
            if cancelled:
                raise cancelled
            if not self._drained.done():
                await asyncio.wait([self._drained], timeout=_ORPHAN_GRACE)
        finally:
            self._close()
        return 128 - status if status < 0 else status

    def outcome(self, exit_code: int, seconds: float) -> Outcome:
        """Return the result once `end` has returned."""
        text, omitted = self._output.text()
        if self._stopped:
            line_end = "" if not text or text.endswith("\n") else "\n"
            text += f"{line_end}[stopped: {self._stopped}]\n"
        code = TIMED_OUT if self._timed_out else exit_code
        return Outcome(code, text, seconds, self._timed_out, omitted)

    async def _wait(self, ended: asyncio.Future[Any], timeout: float | None = None) -> asyncio.CancelledError | None:  # noqa: ASYNC109
        """Wait for a future; a cancellation meanwhile kills the child, and is returned once the future is done."""
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.wait([ended], timeout=timeout)
                break
            except asyncio.CancelledError as error:
                cancelled = error
                self._kill()
        return cancelled

    async def _wait_inside(self) -> asyncio.CancelledError | None:
        """Wait for the end of the pid namespace: its first process ends after all others in it."""
        pid = self._first_inside()
        if pid is None:
            return None
        cancelled = None
        with contextlib.suppress(OSError), _pidfd_of(pid) as exited:
            cancelled = await self._wait(exited, _TEARDOWN)
        with contextlib.suppress(ChildProcessError):  # it is ours to reap where miyabi is a container's first process
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (it returns at once)
        return cancelled

    def _read(self) -> None:
        try:
            data = os.read(self._read_end, _READ_SIZE)
        except BlockingIOError:
            return
        self._output.feed(data)
        if not data:
            self._loop.remove_reader(self._read_end)
            self._drained.set_result(None)
        elif self._output.total > _ENDLESS_OUTPUT:
            self._stop("endless output")

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _stop(self, reason: str) -> None:
        if self._stopped is None:
            self._stopped = reason
            self._kill()

    def _look(self) -> None:
        if not self._watch.suspicious():
            self._look_timer = self._loop.call_later(_LOOK_EVERY, self._look)
        elif reason := self._watch.too_many(self._first_inside()):
            self._stop(reason)
        else:
            verdict = self._loop.run_in_executor(None, self._watch.verdict, self._child.pid)
            verdict.add_done_callback(self._judge)

    def _judge(self, verdict: asyncio.Future[str | None]) -> None:
        if self._child.returncode is not None:
            return
        if reason := verdict.result():
            self._stop(reason)
        else:
            self._look_timer = self._loop.call_later(_LOOK_EVERY * 10, self._look)

    def _kill(self) -> None:
        if self._ends_itself:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGTERM)
            return
        inside = self._first_inside()
        if inside is None:
            self._left_group = descendants(self._child.pid)
            self._kill_group()  # first, so that no shell lives to report its children's deaths
        for pid in self._left_group if inside is None else [inside]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._kill_group()

    async def _wait_for_killed(self) -> None:
        """Wait for those killed whose parent is not this process: they are dying, but it is not told."""
        for milliseconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            if not self._has_group() and not any(map(is_running, self._left_group)):
                return
            await asyncio.sleep(milliseconds / 1000)

    def _has_group(self) -> bool:
        try:
            os.killpg(self._child.pid, 0)
        except OSError:
            return False
        return True

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _close(self) -> None:
        self._time_timer.cancel()
        self._look_timer.cancel()
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)


@contextlib.contextmanager
def _exit_of(child: subprocess.Popen[bytes]) -> Iterator[asyncio.Future[Any]]:
    """Give a future that is done when the child has ended; by pidfd it is not reaped yet, elsewhere a thread waits."""
    with contextlib.ExitStack() as stack:
        try:
            exited = stack.enter_context(_pidfd_of(child.pid))
        except (OSError, AttributeError):
            exited = asyncio.get_running_loop().run_in_executor(None, child.wait)
        yield exited


@contextlib.contextmanager
def _pidfd_of(pid: int) -> Iterator[asyncio.Future[Any]]:
    """Give a future that is done when that process has ended. Raises OSError when there is none."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    exited: asyncio.Future[Any] = loop.create_future()
    loop.add_reader(descriptor, _finish, exited)
    try:
        yield exited
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _finish(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
