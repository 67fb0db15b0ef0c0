"""What becomes of the best attempt: a commit on a branch, a change of the working tree, or the patch alone."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence

from miyabi_cli.codegen.attempts import Attempt
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.codegen.result import CheckReport, CodegenResult, Status
from miyabi_cli.markdown import unlinked
from miyabi_cli.workspace.check_records import CheckRun
from miyabi_cli.workspace.delivery import (
    PREFIX,
    apply_to_working_tree,
    commit_on_branch,
    find_commit,
    is_applied,
    is_untouched,
    unique_branch,
)
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import identity
from miyabi_cli.workspace.staging import Staged
from miyabi_cli.workspace.trees import patch_between

SUBJECT_LIMIT = 72


async def deliver(plan: Plan, request: CodegenRequest, best: Attempt, limit: str = "") -> CodegenResult:
    """Give the user the patch of an attempt; return the result without the run's totals.

    `limit` says which one has ended the run before anything better came.
    """
    staged, judged = best.staged, best.judged
    for remark in judged.remarks if judged else ():
        plan.voice.warn("check", remark)
    for concern in judged.concerns if judged else ():
        plan.voice.warn(concern.kind, concern.message, concern.path)
    branch = commit = None
    if staged and request.delivery.kind == "branch":
        branch, commit = await asyncio.to_thread(_commit, plan, request, best, staged)
    if staged and request.delivery.kind == "apply":
        await _apply(plan, request, best, staged)
    worktree = None
    if request.keep_worktree and best.worktree is not None:
        best.worktree.keep()
        worktree = str(best.worktree.tree)
    return CodegenResult(
        run_id=plan.workspace.run_id,
        status="limit" if limit else best.status,
        summary=_summary(best, limit),
        base=plan.base,
        provider=plan.provider.name,
        model=plan.provider.model_name,
        effort=plan.sampling.effort if plan.profile.thinks else None,
        branch=branch,
        commit=commit,
        patch=staged.patch.decode("utf-8", "surrogateescape") if staged else "",
        files_created=_paths(staged, "created"),
        files_modified=_paths(staged, "modified"),
        files_deleted=_paths(staged, "deleted"),
        lines_added=staged.lines_added if staged else 0,
        lines_removed=staged.lines_removed if staged else 0,
        tests_added=judged.tests_added if judged else 0,
        checks=judged.reports if judged else _base_reports(plan.base_runs),
        worktree=worktree,
    )


def succeeded(status: Status, request: CodegenRequest) -> bool:
    """Say whether a run did what was asked: verified, or changed where no proof was asked for."""
    return status == "verified" or (status == "unverified" and not request.checks_wanted)


def _commit(plan: Plan, request: CodegenRequest, best: Attempt, staged: Staged) -> tuple[str, str]:
    author = identity(plan.repository)
    if not author.configured:
        plan.voice.warn("identity", f"git knows no user name, so the commit is by {author.name} <{author.email}>")
    mark = plan.workspace.run_id.rpartition("-")[2]
    if plan.earlier:
        given = request.delivery.branch
        names = (given,) if given else (f"{PREFIX}/*{mark}*", f"{PREFIX}-*{mark}*")
        if made := find_commit(plan.repository, staged.tree, plan.base, names):
            return made  # the process before has made it, and was stopped then
    message = commit_message(request.name, _summary(best), plan.provider.model_name)
    name, replaced = _branch(plan, request, mark)
    commit = commit_on_branch(
        plan.workspace, staged, base=plan.base, branch=name, message=message, author=author, replaced=replaced
    )
    return name, commit


def _branch(plan: Plan, request: CodegenRequest, mark: str) -> tuple[str, str | None]:
    """Return the branch to make or, where a limit had ended the run before, the one to change, with its commit."""
    given, made = request.delivery.branch, plan.earlier.delivered if plan.earlier else None
    if made and given in (None, made[0]) and is_untouched(plan.repository, *made):
        return made
    return given or unique_branch(plan.repository, request.name, mark), None


async def _apply(plan: Plan, request: CodegenRequest, best: Attempt, staged: Staged) -> None:
    if not succeeded(best.status, request):
        plan.voice.warn("apply", "the working tree was not changed: the patch is not verified")
        return
    if plan.earlier is not None and await asyncio.to_thread(is_applied, plan.repository, staged.patch):
        return  # the process before has done it, and was stopped then
    patch = await asyncio.to_thread(_missing, plan, request, staged)
    await asyncio.to_thread(apply_to_working_tree, plan.repository, patch)


def _missing(plan: Plan, request: CodegenRequest, staged: Staged) -> bytes:
    """Return what the working tree lacks of a patch: where the earlier one that it goes on from is there, the rest."""
    if plan.start and request.continued and is_applied(plan.repository, request.continued.patch):
        return patch_between(Git(plan.workspace.git_dir), plan.start, staged.tree)
    return staged.patch


def commit_message(task: str, summary: str, model: str) -> str:
    """Return a subject of at most 72 characters, the summary, and a trailer as git reads them.

    Nothing of it moves a terminal's cursor or hides text: git shows a message as it is. And what the model says pings
    nobody and closes no issue where it is pushed to GitHub.
    """
    subject = textwrap.shorten(_printable(task).partition("\n")[0], SUBJECT_LIMIT, placeholder="...")
    body = "\n\n".join(textwrap.fill(part, 76) for part in unlinked(_printable(summary)).split("\n\n") if part.strip())
    plain_model = " ".join(model.split())
    return "\n\n".join(part for part in (subject, body, f"Assisted-by: miyabi ({plain_model})") if part) + "\n"


def _printable(text: str) -> str:
    """Return text without control, bidi and invisible characters; newlines stay, other white space is one space."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else " " if letter.isspace() else "" for letter in text.strip()
    )


def _summary(best: Attempt, limit: str = "") -> str:
    reason = "; ".join(dict.fromkeys(part for part in (best.reason, limit) if part))
    if best.staged is None:
        return reason or "nothing was changed"
    said = best.summary.strip() or "changed " + ", ".join(change.path for change in best.staged.files[:5])
    return f"{said} ({reason})" if reason else said


def _paths(staged: Staged | None, status: str) -> tuple[str, ...]:
    return tuple(change.path for change in staged.files if change.status == status) if staged else ()


def _base_reports(runs: Sequence[CheckRun]) -> tuple[CheckReport, ...]:
    """Return the base's results alone, where there is no patch to run the checks on."""
    return tuple(CheckReport(run.name, run.command, run.status, run.status, round(run.seconds, 3)) for run in runs)
