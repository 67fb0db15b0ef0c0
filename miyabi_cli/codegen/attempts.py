"""One attempt: a worker in a worktree of its own, its patch, and what the checks say of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from miyabi_cli.codegen.judging import Judge, Judged
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.result import AttemptReport, Status
from miyabi_cli.codegen.setting_up import set_up
from miyabi_cli.codegen.workers import Worker, digest, open_worker
from miyabi_cli.errors import MiyabiError, ProviderError
from miyabi_cli.events import AttemptEnded, AttemptStarted, ReplyReceived, WarningRaised
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.staging import Staged, stage
from miyabi_cli.workspace.worktrees import Worktree, create_worktree

NUDGE = (
    "Nothing has changed in the working directory. If the task is not done, do it now with the tools. "
    "If it needs no change, say why."
)


@dataclass(slots=True)
class Attempt:
    """What an attempt came to; `staged` is None where nothing changed."""

    number: int
    worktree: Worktree
    status: Status = "failed"
    reason: str = ""
    summary: str = ""
    staged: Staged | None = None
    judged: Judged | None = None
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def report(self) -> AttemptReport:
        """Return it as the result's JSON has it."""
        added = self.staged.lines_added if self.staged else 0
        removed = self.staged.lines_removed if self.staged else 0
        return AttemptReport(self.status, self.steps, added, removed, self.usage, round(self.seconds, 3))


async def make_attempt(plan: Plan, number: int) -> Attempt:
    """Work on the task until the patch is verified or nothing more comes of it.

    Raises what the provider, the sandbox or the repository raise; the worktree then stays for the caller to remove.
    """
    started = time.monotonic()
    worktree = await asyncio.to_thread(create_worktree, plan.workspace, plan.base, f"attempt-{number}", plan.include)
    plan.voice.emit(AttemptStarted(number, str(worktree.tree)))
    await set_up(plan, worktree)
    worker, opened = open_worker(plan, worktree, number)
    plan.voice.emit(opened)
    attempt = Attempt(number, worktree)
    judge = Judge(plan, number)
    try:
        await _work(plan, attempt, worker, judge)
    except ProviderError:
        with contextlib.suppress(MiyabiError):  # why the run ends is the provider's failure
            await _keep_work(plan, worktree)
        raise
    finally:
        attempt.steps = worker.steps
        attempt.seconds = time.monotonic() - started
        plan.voice.emit(_ended(attempt))
    return attempt


async def _keep_work(plan: Plan, worktree: Worktree) -> None:
    """Leave the patch so far in the run's directory: the provider has failed, and the worktree goes."""
    staged = await _stage(plan, worktree)
    if staged is not None:
        plan.voice.keep(staged.patch)
        plan.voice.warn("kept", "the patch so far is kept: miyabi runs show last")


async def _work(plan: Plan, attempt: Attempt, worker: Worker, judge: Judge) -> None:
    """Take turns until there is a patch that passes, or no more comes."""
    nudged = False
    rounds = 0
    while True:
        await _turn(plan, attempt, worker)
        attempt.summary = worker.answer or attempt.summary
        attempt.staged = await _stage(plan, attempt.worktree)
        if attempt.staged is None:
            attempt.judged = None  # what was judged before is not there any more
            if worker.ending == "answered" and not nudged:
                nudged = True
                _tell(plan, worker, NUDGE)
                continue
            attempt.status = "limit" if worker.ending == "limit" else "failed"
            attempt.reason = worker.reason or "nothing was changed"
            return
        attempt.judged = await judge.judge(attempt.staged)
        attempt.status, attempt.reason = attempt.judged.status, attempt.judged.reason
        rounds += 1
        if attempt.judged.settled and not worker.keeps_work:
            break
        if worker.ending != "answered" or not attempt.judged.mendable or rounds > worker.rounds:
            break
        _tell(plan, worker, _feedback(attempt.judged), lasting=True)
    if worker.ending == "limit" and attempt.status != "verified":
        attempt.status, attempt.reason = "limit", worker.reason


async def _turn(plan: Plan, attempt: Attempt, worker: Worker) -> None:
    """Let the worker go on until it stops, or the run's time is over."""
    try:
        async with asyncio.timeout(plan.allowance.seconds_left()):
            async with contextlib.aclosing(worker.turn()) as events:
                async for event in events:
                    if isinstance(event, ReplyReceived):
                        attempt.usage += event.reply.usage
                    if isinstance(event, WarningRaised):
                        plan.voice.warn(event.kind, event.message, event.path)
                    else:
                        plan.voice.emit(event)
    except TimeoutError:
        worker.ending, worker.reason = "limit", f"the time limit of {plan.allowance.bounds.seconds:g} s"


def _tell(plan: Plan, worker: Worker, text: str, *, lasting: bool = False) -> None:
    for event in worker.tell(text, lasting=lasting):
        plan.voice.emit(event)


async def _stage(plan: Plan, worktree: Worktree) -> Staged | None:
    """Take the worktree's changes; None where there are none."""
    staged = await stage(worktree, plan.sandbox)
    for warning in staged.warnings:
        plan.voice.warn(warning.kind, warning.message, warning.path)
    return staged if staged.files else None


def _feedback(judged: Judged) -> str:
    what = digest(judged.runs) or judged.reason
    return f"The checks were run with your change, and it is not right yet:\n{what}\nMend it."


def _ended(attempt: Attempt) -> AttemptEnded:
    report = attempt.report()
    return AttemptEnded(
        attempt.number,
        report.status,
        attempt.reason,
        report.steps,
        report.lines_added,
        report.lines_removed,
        report.usage,
        report.seconds,
    )
