"""Running a command's coroutine: one event loop, and signals that end it in order."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal has ended the command in order; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its value.

    SIGINT, SIGTERM and SIGHUP cancel it, so that each `finally` on its way runs, children are ended and worktrees
    removed, and then raise Interrupted. A second signal ends the process at once, with 128 plus its number.
    """
    import asyncio  # not for `--help`

    received: list[int] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        async def supervised() -> T:
            task = asyncio.ensure_future(main)

            def stop(number: int) -> None:
                if received:
                    os._exit(128 + number)
                received.append(number)
                task.cancel()

            for number in SIGNALS:
                # A background job of a shell without job control, or nohup, ignores the signal: that is kept.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    loop.add_signal_handler(number, stop, int(number))
            try:
                return await task
            finally:
                for number in SIGNALS:
                    with contextlib.suppress(ValueError, RuntimeError):
                        loop.remove_signal_handler(number)

        try:
            return runner.run(supervised())
        except asyncio.CancelledError:
            if not received:
                raise
            raise Interrupted(received[0]) from None
