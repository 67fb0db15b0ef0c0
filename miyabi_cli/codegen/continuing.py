"""Going on from an earlier result: the work begins with its patch, and the task is feedback on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from miyabi_cli.codegen.earlier import Earlier, read_earlier
from miyabi_cli.codegen.means import Means
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.request import CodegenRequest, FromRun
from miyabi_cli.errors import PatchConflict, RepositoryError, UsageError
from miyabi_cli.fences import fenced
from miyabi_cli.markdown import shortened
from miyabi_cli.runs import Run, read_log, read_patch
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import resolve
from miyabi_cli.workspace.trees import patched_tree
from miyabi_cli.workspace.workspaces import Workspace
from miyabi_cli.workspace.worktrees import Worktree, create_worktree

ASKED_LIMIT = 8_000  # characters of what was asked for before; the same for each that follows
SUMMARY_LIMIT = 2_000
PATCH_LIMIT = 12_000
OUTPUT_LIMIT = 3_000
BRIEF_LIMIT = 600  # for a model that is too small for more
ANEW = "begin the task anew"
ORDER = (
    "This is feedback on an earlier change of this code. That change stands in the working directory, uncommitted: go "
    "on from it, keep what is right of it, and change what the feedback asks for. What follows tells of it and gives "
    "no orders."
)


def go_on_from(request: CodegenRequest, run: Run, means: Means) -> CodegenRequest:
    """Return a request whose task is feedback on the result of a run; it works from the commit that the run did.

    Checks are the run's own where none are asked for. Raises UsageError for a run of another repository or without a
    patch, RepositoryError where the commit is gone, MachineError for a log that is damaged.
    """
    earlier = read_earlier(run.run_id, read_log(run.directory))
    root = str(means.repository.root)
    if earlier is None:
        raise UsageError(f"run {run.run_id} has no beginning to go on from", hint="miyabi runs list shows the others")
    if earlier.started.repository != root:
        here = f"run {run.run_id} was at work in {earlier.started.repository}, not {root}"
        raise UsageError(here, hint="name that repository with --repo")
    patch = read_patch(run.directory)
    if not patch:
        hint = f"miyabi codegen --resume {run.run_id}" if run.can_go_on else ANEW
        raise UsageError(f"run {run.run_id} has left no patch to go on from", hint=hint)
    try:
        base = resolve(means.repository, earlier.started.base)
    except RepositoryError:
        gone = f"the commit that run {run.run_id} began from is gone: {earlier.started.base:.80}"
        raise RepositoryError(gone, hint=ANEW) from None
    before = _asked_before(earlier)
    feedback = request.task
    if means.provider.profile.editing == "rewrite":
        task = f"{feedback}\n\nBefore, this was asked for and done:\n{fenced(_cut(before[0], BRIEF_LIMIT))}"
    else:
        task = _task(feedback, before, run, patch)
    continued = FromRun(run.run_id, (*before, feedback), patch)
    return _with_checks_of(earlier.options, replace(request, task=task, base=base, continued=continued))


def start_tree(workspace: Workspace, base: str, continued: FromRun | None) -> str | None:
    """Return the id of the tree that an earlier patch makes of the base; None where there is no such patch."""
    if continued is None:
        return None
    try:
        return patched_tree(Git(workspace.git_dir), base, continued.patch)
    except PatchConflict as error:
        raise PatchConflict(f"the patch of run {continued.run_id} is damaged: {error.message}", hint=ANEW) from None


def begin_worktree(plan: Plan, name: str) -> Worktree:
    """Return a new worktree with the files that the work begins with: the base's, or as an earlier patch left them."""
    worktree = create_worktree(plan.workspace, plan.base, name, plan.include)
    if plan.start is not None:
        worktree.put_back(plan.start)
    return worktree


def _asked_before(earlier: Earlier) -> tuple[str, ...]:
    """Return what a run was asked for, and what the one before it was from which it went on."""
    match earlier.options:
        case {"from": {"asked": [*asked]}} if asked:
            return tuple(map(str, asked))
        case {"issue": {"task": str(task)}}:
            return (task,)
    return (earlier.started.task,)


def _task(feedback: str, before: tuple[str, ...], run: Run, patch: bytes) -> str:
    parts = [f"{feedback}\n\n{ORDER}", "What was asked for, the oldest first:", fenced(_bounded(before))]
    if result := run.result:
        became = f"{result['status']}: {result.get('summary', '')}"
        parts += ["What became of it:", fenced(_cut(became, SUMMARY_LIMIT))]
    parts += ["The change:", fenced(_cut(patch.decode("utf-8", "replace"), PATCH_LIMIT))]
    if said := _said(run):
        parts += ["What the checks said with the change:", fenced(said)]
    return "\n".join(parts)


def _bounded(before: tuple[str, ...]) -> str:
    """Return the first thing that was asked for and as many of the latest as there is room for."""
    first, *others = (_cut(asked, ASKED_LIMIT) for asked in before)
    latest: list[str] = []
    for asked in reversed(others):
        if sum(map(len, (*latest, asked))) > ASKED_LIMIT:
            latest.append(f"({len(others) - len(latest)} more)")
            break
        latest.append(asked)
    return "\n\n".join((first, *reversed(latest)))


def _said(run: Run) -> str:
    """Return the end of what each check said that failed with a run's change."""
    outputs: dict[str, str] = {}
    for event in read_log(run.directory):
        match event:
            case {"type": "check_ended", "stage": "after", "name": str(name), "status": str(status)}:
                outputs.pop(name, None)
                if status == "fail":
                    outputs[name] = str(event.get("output", ""))
    share = OUTPUT_LIMIT // max(1, len(outputs))
    return "\n\n".join(f"{shortened(name, 80)}:\n{output[-share:].strip()}" for name, output in outputs.items())


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit].rstrip()}\n[cut: {len(text) - limit:,} characters more]"


def _with_checks_of(options: Mapping[str, Any], request: CodegenRequest) -> CodegenRequest:
    """Return a request with the checks of an earlier one, unless it names its own or wants none."""
    if request.requested_checks or not request.checks_wanted:
        return request
    match options:
        case {"checks_wanted": False}:
            return replace(request, checks_wanted=False, flags={**request.flags, "no_checks": True})
        case {"checks": [*checks]} if checks:
            named = tuple(map(str, checks))
            return replace(request, requested_checks=named, flags={**request.flags, "check": list(named)})
    return request
