"""`codegen`: a task becomes a patch. From the base's checks to the best attempt and its delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from miyabi_cli import __version__
from miyabi_cli.agent.allowance import Allowance, Bounds
from miyabi_cli.agent.context import Task, folder_at_hand
from miyabi_cli.codegen.attempts import KEPT
from miyabi_cli.codegen.base import base_runs
from miyabi_cli.codegen.continuing import start_tree
from miyabi_cli.codegen.delivery import deliver
from miyabi_cli.codegen.earlier import Earlier
from miyabi_cli.codegen.judging import checks_worktree
from miyabi_cli.codegen.means import Means
from miyabi_cli.codegen.plan import Emit, Plan, Voice
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.codegen.result import CodegenResult
from miyabi_cli.codegen.resuming import base_again, going_on
from miyabi_cli.codegen.tries import make_attempts
from miyabi_cli.errors import UsageError
from miyabi_cli.events import RunResumed, RunStarted
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Effort, Sampling
from miyabi_cli.redaction import Redactor
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.checks import plan_checks
from miyabi_cli.workspace.delivery import check_branch
from miyabi_cli.workspace.repository import Repository, resolve, uncommitted
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.snapshots import snapshot_uncommitted
from miyabi_cli.workspace.staging import tree_of
from miyabi_cli.workspace.workspaces import Workspace, open_workspace

DEFAULT_EFFORT: Effort = "high"


async def run_codegen(
    request: CodegenRequest,
    means: Means,
    *,
    run_id: str,
    emit: Emit,
    keep: Callable[[bytes], None],
    conclude: Callable[[CodegenResult], None],
    earlier: Earlier | None = None,
) -> CodegenResult:
    """Do one task; tell `emit` all that happens. The repository gets what was asked for, and nothing before the end.

    No event and no text of the result holds a known secret. The patch alone stays as it is, with a warning.

    `keep` is given the patch before it is delivered, so that it is not lost where that fails; `conclude` is given the
    result while the worktrees are still there, so that a run which is killed after has its result. Raises MiyabiError
    where provider, repository, sandbox or machine fail; every other end is a result. A run that fails or is cancelled
    leaves the worktrees with which it can go on, and so does one that a limit has ended.

    With `earlier` it goes on with such a run: of the request, task and base are then the run's own.
    """
    started = time.monotonic() - (earlier.seconds if earlier else 0.0)
    redactor = means.redactor
    request = replace(request, task=redactor.redact(request.task), issue=redactor.redact_data(request.issue))
    told = [warning for warning in earlier.warnings if warning.kind != KEPT] if earlier else []
    voice = Voice(lambda event: emit(redactor.redact_data(event)), keep, told)
    workspace = await asyncio.to_thread(open_workspace, means.repository, run_id, means.settings.worktree.path)
    stopped = True
    try:
        plan = await open_plan(request, means, workspace, voice, earlier)
        tries = await make_attempts(plan, request)
        best = tries.best
        if best.staged:
            keep(best.staged.patch)
            _warn_of_secrets(best.staged.patch, redactor, voice)
        best.summary = redactor.redact(best.summary)
        delivered = await deliver(plan, request, best, tries.limit)
        if tries.limit:
            voice.warn(KEPT, f"the work so far is kept: {going_on(run_id, tries.limit)}")
        result = replace(
            redactor.redact_data(delivered),
            patch=delivered.patch,
            run_id=run_id,
            attempts=tuple(attempt.report() for attempt in tries.attempts),
            usage=plan.allowance.usage,
            warnings=redactor.redact_data(tuple(voice.warnings)),
            seconds=round(time.monotonic() - started, 3),
        )
        conclude(result)
        stopped = bool(tries.limit)
        return result
    finally:
        await asyncio.to_thread(workspace.close, stopped=stopped)


async def open_plan(
    request: CodegenRequest, means: Means, workspace: Workspace, voice: Voice, earlier: Earlier | None = None
) -> Plan:
    """Find the base, the checks and what they give on it; all that comes before the first question to the model."""
    settings, repository, provider = means.settings, means.repository, means.provider
    profile = provider.profile
    effort = settings.llm.default_reasoning_effort or DEFAULT_EFFORT
    if earlier:
        base = await asyncio.to_thread(base_again, workspace, earlier)
    else:
        if request.delivery.branch:
            await asyncio.to_thread(check_branch, repository, request.delivery.branch)
        base = await asyncio.to_thread(_base, request, repository, workspace)
    start = await asyncio.to_thread(start_tree, workspace, base, request.continued)
    _tell_start(request, means, voice, base, effort if profile.thinks else None, resumed=earlier is not None)
    if not earlier and not request.include_uncommitted:
        await asyncio.to_thread(_warn_of_uncommitted, repository, voice)
    plan = Plan(
        task=Task(request.task, task_id=workspace.run_id, acceptance=request.wishes.criteria),
        folder=folder_at_hand(repository.root, request.folder),
        repository=repository,
        workspace=workspace,
        base=base,
        provider=provider,
        sampling=Sampling(settings.llm.default_temperature, _max_tokens(settings, provider, effort), effort),
        sandbox=means.sandbox,
        checks=(),
        base_runs=(),
        allowance=_allowance(settings, means.sandbox, earlier),
        voice=voice,
        output_bytes=settings.limits.output_bytes,
        include=tuple(settings.worktree.include),
        setup=tuple(settings.worktree.setup),
        earlier=earlier,
        wishes=request.wishes,
        start=start,
        asked="\n".join(request.continued.asked) if request.continued else request.task,
    )
    return await _with_checks(plan, request, means) if request.checks_wanted else plan


async def _with_checks(plan: Plan, request: CodegenRequest, means: Means) -> Plan:
    """Return the plan with the checks of the base's files, and what they give on them."""
    worktree = await checks_worktree(plan, 0)
    found = await asyncio.to_thread(
        plan_checks,
        worktree.tree,
        repository=plan.repository.root,
        environ=means.environ,
        configured=_configured(request, means.settings),
    )
    for note in found.notes:
        plan.voice.warn("checks", note)
    if not found.checks:
        plan.voice.warn("checks", "no check was found, so the result can't be verified; name one with --check")
    plan = replace(plan, checks=found.checks)
    tree = await asyncio.to_thread(tree_of, plan.workspace, plan.base)
    return replace(plan, base_runs=await base_runs(plan, tree, means.environ))


def _warn_of_secrets(patch: bytes, redactor: Redactor, voice: Voice) -> None:
    """Warn of known secrets in a patch, which is given as it is: with other bytes in their place it would be wrong."""
    if names := redactor.names_in(patch.decode("utf-8", "replace")):
        voice.warn("secret", f"the patch holds the value of {', '.join(names)}: look at it before anybody else does")


def _base(request: CodegenRequest, repository: Repository, workspace: Workspace) -> str:
    """Return the commit to work from: the one that was named or, with them, a snapshot of uncommitted changes."""
    if not request.include_uncommitted:
        return resolve(repository, request.base)
    if request.base != "HEAD":
        raise UsageError("--include-uncommitted works from HEAD", hint="leave --base out")
    return snapshot_uncommitted(workspace)


def _warn_of_uncommitted(repository: Repository, voice: Voice) -> None:
    if left_out := uncommitted(repository):
        names = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        voice.warn("uncommitted", f"uncommitted changes are left out ({names}); --include-uncommitted takes them along")


def _tell_start(
    request: CodegenRequest, means: Means, voice: Voice, base: str, effort: Effort | None, *, resumed: bool
) -> None:
    provider, sandbox = means.provider, means.sandbox
    options = request.options()
    if resumed:
        voice.emit(RunResumed(__version__, provider.name, provider.model_name, effort, sandbox.kind, options))
    else:
        root = str(means.repository.root)
        start = (__version__, request.name, root, base, provider.name, provider.model_name, effort, sandbox.kind)
        voice.emit(RunStarted(*start, options))
    for warning in sandbox.warnings:
        voice.warn("sandbox", warning)
    means.warn.hand_over(voice.warn)


def _allowance(settings: Settings, sandbox: Sandbox, earlier: Earlier | None) -> Allowance:
    limits = settings.limits
    allowance = Allowance(Bounds(limits.steps, limits.seconds, limits.tokens, settings.budget.per_run_usd))
    allowance.disk = sandbox.quota.reached
    if earlier:
        allowance.spend(earlier.usage)
        allowance.started -= earlier.seconds
    return allowance


def _max_tokens(settings: Settings, provider: Provider, effort: Effort) -> int:
    """Return the tokens of one reply: the answer's, and for a model that thinks those of its thought."""
    most = settings.llm.default_max_tokens + provider.profile.thought_tokens(effort)
    return min(most, provider.max_tokens // 2)


def _configured(request: CodegenRequest, settings: Settings) -> tuple[Check, ...]:
    """Return the checks of --check, else those of the settings: either replaces what would be found."""
    if request.requested_checks:
        return tuple(Check(command, command, requested=True) for command in request.requested_checks)
    return tuple(Check(check.name, check.command, check.timeout) for check in settings.checks)
