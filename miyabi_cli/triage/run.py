"""Many issues side by side, each row given on as soon as it is there; a few in memory at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.row import Row
from miyabi_cli.triage.triager import Triager

Show = Callable[[Row], Awaitable[None]]


async def triage_all(
    issues: AsyncIterator[TriageIssue],
    triager: Triager,
    jobs: int,
    show: Show,
) -> None:
    """Triage issues, `jobs` at a time; `show` is given each row in the order of completion.

    What `show` raises ends it all: a result that can't be written down need not be asked for.
    """
    reading = asyncio.Lock()

    async def work() -> None:
        while True:
            async with reading:  # an asynchronous generator takes one caller at a time
                issue = await anext(issues, None)
            if issue is None:
                return
            await show(await triager.triage(issue))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
