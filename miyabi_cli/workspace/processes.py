"""One command as a child process: bounded in time, output and size, and gone before its result is returned."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.workspace.children import Child, OwnChild, make_expendable
from miyabi_cli.workspace.output import BoundedOutput
from miyabi_cli.workspace.quota import DiskQuota
from miyabi_cli.workspace.watch import Watch, descendants

TIMED_OUT, CANNOT_RUN, NOT_FOUND = 124, 126, 127  # exit codes as timeout(1) and a shell use them

_ENDLESS_OUTPUT = 256 << 20  # bytes after which a command is taken to never stop
_READ_SIZE = 1 << 16
_LOOK_EVERY = 0.05  # seconds between looks at what the command uses
_COUNT_EVERY = 20  # looks, after which its processes are counted whatever is seen
_ORPHAN_GRACE = 0.2  # seconds that an orphan may hold the pipe after the command's end

Start = Callable[[int], Awaitable[Child]]
"""Starts a command whose stdout and stderr are a descriptor, which is closed after it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use: `seconds` by the clock, `output_bytes` kept, `processes` (threads count), `memory_bytes`
    of all its processes together (None: what the sandbox's policy says), `file_bytes` of each file, `disk_bytes`
    written by the whole command."""

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
    quota: DiskQuota | None = None,
) -> Outcome:
    """Run a program as `OwnChild` does; see `run_child`. One that can't be started is an outcome too (127 or 126)."""

    async def start(output: int) -> Child:
        try:
            return OwnChild(argv, cwd, environment, output, pass_fds, first_inside)
        except (OSError, ValueError, IndexError) as error:
            raise _NotStarted(_not_started(argv, error, time.perf_counter() - begun)) from None

    begun = time.perf_counter()
    try:
        return await run_child(start, limits=limits, folders=folders, quota=quota)
    except _NotStarted as error:
        return error.outcome


def _make_family_expendable(pid: int) -> None:
    make_expendable(descendants(pid))


class _NotStarted(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.output)
        self.outcome = outcome


async def run_child(
    start: Start, *, limits: Limits, folders: Sequence[Path] = (), quota: DiskQuota | None = None
) -> Outcome:
    """Run a command, and return when all of it has ended.

    `folders` are those that it can write, watched for `limits.disk_bytes`, and for the `quota` of a run. On
    cancellation the child is killed and reaped before CancelledError goes on. Raises what `start` does.
    """
    begun = time.perf_counter()
    quota = quota or DiskQuota()
    quota.enter(folders)
    watch = Watch(folders, processes=limits.processes, disk_bytes=limits.disk_bytes, memory_bytes=limits.memory_bytes)
    read_end, write_end = os.pipe()
    try:
        child = await start(write_end)
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    run = _Run(child, read_end, limits, watch, quota)
    exit_code = await run.end()
    return run.outcome(exit_code, time.perf_counter() - begun)


def _not_started(argv: Sequence[str], error: Exception, seconds: float) -> Outcome:
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename or (argv[0] if argv else ""))
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        return Outcome(code, f"{name}: {error.strerror}\n", seconds)
    return Outcome(CANNOT_RUN, f"not a command: {error}\n", seconds)


class _Run:
    """A child that runs: reads its pipe, ends it when it outgrows a limit, and waits for all of it."""

    def __init__(self, child: Child, read_end: int, limits: Limits, watch: Watch, quota: DiskQuota) -> None:
        self._loop = asyncio.get_running_loop()
        self._child = child
        self._read_end = read_end
        self._watch = watch
        self._quota = quota
        self._output = BoundedOutput(limits.output_bytes)
        self._stopped: str | None = None
        self._looks = 0
        self._timed_out = False
        self._has_ended = False
        self._cancelled: asyncio.CancelledError | None = None
        self._drained: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(read_end, False)
        self._loop.add_reader(read_end, self._read)
        self._time_timer = self._loop.call_later(limits.seconds, self._time_out)
        self._look_timer = self._loop.call_later(_LOOK_EVERY, self._look)

    async def end(self) -> int:
        """Wait until the child and what it started have ended; return its exit code as a shell shows it."""
        try:
            exit_code = await self._child.end(self._outlast)
            self._has_ended = True
            if self._cancelled:
                raise self._cancelled
            if not self._drained.done():
                await asyncio.wait([self._drained], timeout=_ORPHAN_GRACE)
            taken = self._watch.taken()
            if self._quota.suspects(taken):  # in less time than there is between two looks
                await asyncio.to_thread(self._quota.verdict, taken)
        finally:
            self._close()
        return exit_code

    def outcome(self, exit_code: int, seconds: float) -> Outcome:
        """Return the result once `end` has returned."""
        text, omitted = self._output.text()
        if self._stopped:
            line_end = "" if not text or text.endswith("\n") else "\n"
            text += f"{line_end}[stopped: {self._stopped}]\n"
        code = TIMED_OUT if self._timed_out else exit_code
        return Outcome(code, text, seconds, self._timed_out, omitted)

    async def _outlast(self, ended: asyncio.Future[Any], timeout: float | None) -> None:  # noqa: ASYNC109
        """Wait for a future; a cancellation meanwhile kills the child, and is raised once all has ended."""
        while not ended.done():
            try:
                await asyncio.wait([ended], timeout=timeout)
                break
            except asyncio.CancelledError as error:
                self._cancelled = error
                self._child.kill()

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
        self._child.kill()

    def _stop(self, reason: str) -> None:
        if self._stopped is None:
            self._stopped = reason
            self._child.kill()

    def _look(self) -> None:
        self._looks += 1
        if self._looks == 1:  # what it had started before it was told itself; all that comes takes after its parent
            self._loop.run_in_executor(None, _make_family_expendable, self._child.pid)
        is_over = self._quota.suspects(self._watch.taken())
        is_suspicious = is_over or self._watch.suspicious()
        if is_suspicious and (reason := self._watch.too_many(self._child.first_inside())):
            self._stop(reason)
        elif is_suspicious or self._looks % _COUNT_EVERY == 0:
            verdict = self._loop.run_in_executor(None, self._verdict, is_suspicious, is_over)
            verdict.add_done_callback(self._judge)
        else:
            self._look_timer = self._loop.call_later(_LOOK_EVERY, self._look)

    def _verdict(self, is_suspicious: bool, is_over: bool) -> str | None:
        """Count, in a thread: what the command did too much of, or the run with it."""
        pid = self._child.pid
        reason = self._watch.verdict(pid) if is_suspicious else self._watch.verdict_of_processes(pid)
        return reason or (self._quota.verdict(self._watch.taken(), descendants(pid)) if is_over else None)

    def _judge(self, verdict: asyncio.Future[str | None]) -> None:
        if self._has_ended:
            return
        if reason := verdict.result():
            self._stop(reason)
        else:
            self._look_timer = self._loop.call_later(_LOOK_EVERY * 10, self._look)

    def _close(self) -> None:
        self._has_ended = True
        self._quota.leave(self._watch.taken())
        self._time_timer.cancel()
        self._look_timer.cancel()
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
