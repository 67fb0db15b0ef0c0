"""One attempt: a worker in a worktree of its own, its patch, and what the checks say of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from miyabi_cli.codegen.continuing import begin_worktree
from miyabi_cli.codegen.earlier import INTERRUPTED, EarlierAttempt, by_tools
from miyabi_cli.codegen.judging import Judge, Judged
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.result import AttemptReport, Status
from miyabi_cli.codegen.setting_up import set_up
from miyabi_cli.codegen.workers import Worker, digest, open_worker, recalled_agent
from miyabi_cli.errors import BudgetReached, MiyabiError, ProviderError
from miyabi_cli.events import AttemptEnded, AttemptStarted, MessageAdded, ReplyReceived, WarningRaised
from miyabi_cli.fences import fenced
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.staging import Staged, stage
from miyabi_cli.workspace.workspaces import discard
from miyabi_cli.workspace.worktrees import Worktree, open_worktree

KEPT = "kept"  # the kind of a warning that holds until the run goes on
WISHES = "The checks pass. This is left to wish for in your change:"
POLISH = (
    "Do what of it is right: mend new findings, write the documentation, let a new test fail without the change. "
    "Change nothing else; where nothing is to be done, say so."
)
BASE_TESTS = (
    "Your change touches tests or their settings, so it is judged with those as they were before. With them it is not "
    "right yet:"
)
NUDGE = (
    "Nothing has changed in the working directory. If the task is not done, do it now with the tools. "
    "If it needs no change, say why."
)


@dataclass(slots=True)
class Attempt:
    """What an attempt came to; `staged` is None where nothing changed, `worktree` where it is gone."""

    number: int
    worktree: Worktree | None
    status: Status = "failed"
    reason: str = ""
    summary: str = ""
    staged: Staged | None = None
    judged: Judged | None = None
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    interrupted: bool = False

    def report(self) -> AttemptReport:
        """Return it as the result's JSON has it."""
        added = self.staged.lines_added if self.staged else 0
        removed = self.staged.lines_removed if self.staged else 0
        return AttemptReport(self.status, self.steps, added, removed, self.usage, round(self.seconds, 3))


async def make_attempt(plan: Plan, number: int, earlier: EarlierAttempt | None = None) -> Attempt:
    """Work on the task until the patch is verified or nothing more comes of it; go on with an `earlier` part.

    Raises what the provider, the sandbox or the repository raise; the worktree then stays for the caller to remove,
    marked where the attempt has come so far in it that it can go on.
    """
    started = time.monotonic()
    earlier = earlier or EarlierAttempt(number)
    bench = await _taken_up(plan, earlier) or await _begun(plan, number)
    attempt = Attempt(number, bench.worktree, usage=earlier.usage, interrupted=True)
    try:
        await _work(plan, attempt, bench)
        attempt.interrupted = False
    except ProviderError as error:
        attempt.usage += error.usage
        with contextlib.suppress(MiyabiError):  # why the run ends is the provider's failure
            await _keep_work(plan, bench.worktree)
        raise
    finally:
        attempt.steps = bench.worker.steps
        attempt.seconds = earlier.seconds + time.monotonic() - started
        if attempt.staged or (bench.worker.steps and by_tools(bench.worker.messages)):
            bench.worktree.leave()
        plan.voice.emit(_ended(attempt))
    return attempt


async def recover_attempt(plan: Plan, earlier: EarlierAttempt, ended: AttemptEnded) -> Attempt | None:
    """Return an attempt that came to its end before the run was stopped, judged anew; None where it is to be made anew.

    Where the worktree is gone, so is the patch: it is lost, and made anew if it was good. An attempt that a limit has
    ended goes on where there is a larger one now.
    """
    nothing_lost = earlier.by_tools or not (ended.lines_added or ended.lines_removed)
    if ended.status == "limit" and nothing_lost and not plan.allowance.reached(ended.steps):
        return None
    attempt = Attempt(earlier.number, None, "failed", ended.reason, ended.summary, steps=ended.steps)
    attempt.usage, attempt.seconds = earlier.usage, earlier.seconds
    attempt.worktree = await asyncio.to_thread(open_worktree, plan.workspace, _name(earlier.number))
    if attempt.worktree is not None:
        attempt.staged = await _stage(plan, attempt.worktree)
    elif ended.status in ("verified", "unverified"):
        if ended.status == "verified":
            return None
        plan.voice.warn("resume", f"the patch of attempt {earlier.number} is lost with its worktree")
    if attempt.staged is not None:
        attempt.judged = await Judge(plan, earlier.number).judge(attempt.staged)
        attempt.status, attempt.reason = attempt.judged.status, attempt.judged.reason
    if ended.status == "limit" and attempt.status != "verified":
        attempt.status, attempt.reason = "limit", ended.reason
    return attempt


@dataclass(frozen=True, slots=True)
class _Bench:
    """What an attempt is made with; `told` is what its worker was told between turns by an earlier process."""

    worktree: Worktree
    worker: Worker
    judge: Judge
    told: tuple[MessageAdded, ...] = ()


async def _begun(plan: Plan, number: int) -> _Bench:
    """Begin in a new worktree, in the place of one that a stopped process has left."""
    await asyncio.to_thread(discard, plan.workspace.folder / _name(number))
    worktree = await asyncio.to_thread(begin_worktree, plan, _name(number))
    plan.voice.emit(AttemptStarted(number, str(worktree.tree)))
    await set_up(plan, worktree)
    worker, opened = open_worker(plan, worktree, number)
    plan.voice.emit(opened)
    return _Bench(worktree, worker, Judge(plan, number))


async def _taken_up(plan: Plan, earlier: EarlierAttempt) -> _Bench | None:
    """Go on where an attempt was stopped; None where there is nothing to go on with, or it can't be."""
    if not earlier.steps:
        return None
    worktree = await asyncio.to_thread(open_worktree, plan.workspace, _name(earlier.number))
    if worktree is None:
        plan.voice.warn("resume", f"attempt {earlier.number} begins anew from the base: its worktree is gone")
        return None
    if not earlier.by_tools:
        plan.voice.warn("resume", f"attempt {earlier.number} begins anew: without tools there is no going on")
        return None
    agent = recalled_agent(plan, worktree, earlier)
    for event in agent.adapt():
        plan.voice.emit(event)
    told = [event for event in earlier.events if isinstance(event, MessageAdded)]
    between = tuple(event for event in told if event.lasting or event.message.content == NUDGE)
    return _Bench(worktree, agent, Judge(plan, earlier.number), between)


def _name(number: int) -> str:
    return f"attempt-{number}"


async def _keep_work(plan: Plan, worktree: Worktree) -> None:
    """Leave the patch so far in the run's directory: the provider has failed, and the worktree goes."""
    staged = await _stage(plan, worktree)
    if staged is not None:
        plan.voice.keep(staged.patch)
        plan.voice.warn(KEPT, "the patch so far is kept: miyabi runs show last")


async def _work(plan: Plan, attempt: Attempt, bench: _Bench) -> None:
    """Take turns until there is a patch that passes, or no more comes."""
    worker = bench.worker
    nudged = any(not message.lasting for message in bench.told)
    rounds = sum(message.lasting for message in bench.told)
    while True:
        await _turn(plan, attempt, worker)
        attempt.summary = worker.answer or attempt.summary
        attempt.staged = await _stage(plan, bench.worktree)
        if attempt.staged is None:
            attempt.judged = None  # what was judged before is not there any more
            if worker.ending == "answered" and not nudged:
                nudged = True
                _tell(plan, worker, NUDGE)
                continue
            attempt.status = "limit" if worker.ending == "limit" else "failed"
            attempt.reason = worker.reason or "nothing was changed"
            return
        attempt.judged = await bench.judge.judge(attempt.staged)
        attempt.status, attempt.reason = attempt.judged.status, attempt.judged.reason
        rounds += 1
        if attempt.judged.settled and not worker.keeps_work:
            break
        if worker.ending != "answered" or not attempt.judged.to_mend or rounds > worker.rounds:
            break
        _tell(plan, worker, _feedback(attempt.judged), lasting=True)
    if worker.ending == "limit" and attempt.status != "verified":
        attempt.status, attempt.reason = "limit", worker.reason
    elif attempt.status == "verified" and not any(one.message.content.startswith(WISHES) for one in bench.told):
        await _polish(plan, attempt, bench)


async def _polish(plan: Plan, attempt: Attempt, bench: _Bench) -> None:
    """Ask once for what is left to wish for in a verified patch; keep the new one where it is verified too."""
    worker, staged, first, summary = bench.worker, attempt.staged, attempt.judged, attempt.summary
    wishes = [concern for concern in first.concerns if concern.mendable] if first else []
    if not (staged and first and wishes and worker.ending == "answered" and worker.keeps_work and worker.rounds):
        return
    if plan.allowance.reached(worker.steps):
        return
    listed = "\n".join(f"- {f'{wish.path}: ' if wish.path else ''}{wish.message}" for wish in wishes)
    _tell(plan, worker, f"{WISHES}\n{fenced(listed)}\n{POLISH}", lasting=True)
    try:
        await _turn(plan, attempt, worker)
        polished = await _stage(plan, bench.worktree)
        judged = await bench.judge.judge(polished) if polished else None
    except ProviderError as error:
        plan.voice.warn("wishes", f"the patch is left as it was verified: {error.message}")
        attempt.usage += error.usage
        judged = None
    if judged and judged.status == "verified" and judged.failing <= first.failing:
        attempt.staged, attempt.judged = polished, judged
    else:
        await asyncio.to_thread(bench.worktree.put_back, staged.tree)
    attempt.summary = summary or attempt.summary


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
    except BudgetReached as error:
        attempt.usage += error.usage
        worker.ending, worker.reason = "limit", error.message
        if error.hint:
            plan.voice.warn("budget", f"to go on: {error.hint}")
    except TimeoutError:
        worker.ending, worker.reason = "limit", f"the time limit of {plan.allowance.bounds.seconds:g} s"


def _tell(plan: Plan, worker: Worker, text: str, *, lasting: bool = False) -> None:
    for event in worker.tell(text, lasting=lasting):
        plan.voice.emit(event)


async def _stage(plan: Plan, worktree: Worktree) -> Staged | None:
    """Take the worktree's changes; None where there are none, or none beyond those that it began with."""
    staged = await stage(worktree, plan.sandbox)
    for warning in staged.warnings:
        plan.voice.warn(warning.kind, warning.message, warning.path)
    return staged if staged.files and staged.tree != plan.start else None


def _feedback(judged: Judged) -> str:
    what = digest(judged.to_mend) or judged.reason
    if judged.by_base_tests:
        return f"{BASE_TESTS}\n{fenced(what)}\nMend the code, and leave those tests as they were."
    return f"The checks were run with your change, and it is not right yet:\n{fenced(what)}\nMend it."


def _ended(attempt: Attempt) -> AttemptEnded:
    report = attempt.report()
    return AttemptEnded(
        attempt.number,
        INTERRUPTED if attempt.interrupted else report.status,
        attempt.reason,
        attempt.summary,
        report.steps,
        report.lines_added,
        report.lines_removed,
        report.usage,
        report.seconds,
    )
