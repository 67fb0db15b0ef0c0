"""A started command as its run sees it, and the two ways to end one that is our own child: its group, its namespace.

Children are started from the event loop's own thread, since bubblewrap's --die-with-parent follows the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from miyabi_cli.workspace.watch import descendants, is_running

_TEARDOWN = 5.0  # seconds that the kernel may take to end a pid namespace

Outlast = Callable[[asyncio.Future[Any], float | None], Awaitable[None]]
"""Waits for a future, so many seconds at the most, whatever is cancelled meanwhile."""


class Child(Protocol):
    """A command that was started."""

    @property
    def pid(self) -> int:
        """The process that the command's are below; 0 while it is not known."""
        ...

    def first_inside(self) -> int | None:
        """Return the first process of the command's own pid namespace, where it has one."""
        ...

    def kill(self) -> None:
        """End all of it; `end` tells when it has gone."""
        ...

    async def end(self, outlast: Outlast) -> int:
        """Return the exit code as a shell shows it once all of the command has ended."""
        ...


class OwnChild:
    """A child of this process that leads a session. `first_inside` says the first process of its pid namespace, if
    there is one: it is killed first and waited for, since it ends after all others in it."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        output: int,
        pass_fds: Sequence[int] = (),
        first_inside: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Start it, with stdin from /dev/null. Raises OSError, ValueError or IndexError where it can't be started."""
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        make_expendable([self._process.pid])
        self.first_inside = first_inside
        self._left_group: list[int] = []

    @property
    def pid(self) -> int:
        """The child's."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the namespace, or else the group and what left it."""
        inside = self.first_inside()
        if inside is None:
            self._left_group = descendants(self.pid)
            self._kill_group()  # first, so that no shell lives to report its children's deaths
        for pid in self._left_group if inside is None else [inside]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._kill_group()

    async def end(self, outlast: Outlast) -> int:
        """Wait for the child, its group, and its namespace or what was killed of it."""
        with _exit_of(self._process) as exited:
            await outlast(exited, None)
        self._kill_group()  # what it left in the background; not reaped yet, so the group's id is still its own
        status = self._process.wait()
        await self._end_inside(outlast)
        await self._wait_for_killed()
        return 128 - status if status < 0 else status

    async def _end_inside(self, outlast: Outlast) -> None:
        pid = self.first_inside()
        if pid is None:
            return
        with contextlib.suppress(OSError), _pidfd_of(pid) as exited:
            await outlast(exited, _TEARDOWN)
        with contextlib.suppress(ChildProcessError):  # it is ours to reap where miyabi is a container's first process
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (it returns at once)

    async def _wait_for_killed(self) -> None:
        """Wait for those killed whose parent is not this process: they are dying, but it is not told."""
        for milliseconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            if not self._has_group() and not any(map(is_running, self._left_group)):
                return
            await asyncio.sleep(milliseconds / 1000)

    def _has_group(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except OSError:
            return False
        return True

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def make_expendable(pids: Iterable[int]) -> None:
    """Where memory runs out, let the kernel take a command before miyabi and the user's other programs."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("500")  # of 1000; proc_pid_oom_score_adj(5)


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
