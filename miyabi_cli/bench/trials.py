"""One trial of a task: its repository, the agent's run on it, and what hidden tests and linters say of the result."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.bench.judging import Court, Judged
from miyabi_cli.bench.repositories import make_repository
from miyabi_cli.bench.tasks import BenchTask
from miyabi_cli.errors import MiyabiError
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.workspaces import open_workspace

MESSAGE_LIMIT = 300  # characters
HIDDEN_FAIL = ("hidden_tests", "hidden_tests_timeout")
# Errors of the model's own making: the task was tried, and is not solved. Of all others nothing can be told.
OWN_ERRORS = ("broken_reply", "request_too_large", "tools_refused")
UNASKED = "budget"  # what a run is ended by that a cap let ask nothing


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended a run that has no result; `exit_code` is what the run itself would have ended with."""

    kind: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Solved:
    """What a run came to: its result as schemas/codegen.json has it, or its failure; and its tool calls.

    `out_of_time`: its own time was over.
    """

    run_id: str | None
    result: Mapping[str, Any] | None
    failure: Failure | None = None
    usage: Usage = dataclasses.field(default_factory=Usage)
    tool_calls: int = 0
    valid_tool_calls: int = 0
    out_of_time: bool = False


Solve = Callable[[Repository, BenchTask, Path], Awaitable[Solved]]
"""Runs the agent on a task's repository; the folder is for its worktrees. No error of one run's leaves it."""

Review = Callable[[Path, str, str], Awaitable[float | None]]
"""Scores a change, 0 to 100: the repository's folder, the base and the commit; None where it can't."""


@dataclass(frozen=True, slots=True)
class Means:
    """What trials work with. `folder` is theirs alone; `sandbox` opens one for a repository."""

    folder: Path
    solve: Solve
    sandbox: Callable[[Path], Sandbox]
    environ: Mapping[str, str]
    review: Review | None = None


Row = dict[str, Any]


async def do_trial(task: BenchTask, trial: int, means: Means, started: Callable[[str], None]) -> Row:
    """Do one trial and return its row of the document; errors of its own are on the row."""
    began = time.monotonic()
    place = means.folder / f"{task.digest}-{trial}"
    row: Row = {"id": task.id, "trial": trial, "digest": task.digest, "language": task.language or None}
    try:
        await _clear(place)
        repository = await asyncio.to_thread(make_repository, task, place / _name(task))
        started(task.id if trial == 1 else f"{task.id} trial {trial}")
        solved = await means.solve(repository, task, place / "worktrees")
        row |= _run_row(solved)
        commit = solved.result["commit"] if solved.result else None
        if commit:
            row |= await _judged(task, repository, str(commit), place, means)
            if row["status"] == "limit" and row["failure"] in HIDDEN_FAIL:
                row["failure"] = "limit"
        else:
            row |= _nothing(solved)
    except MiyabiError as error:
        row |= _error_row(Failure(error.kind, error.message, 4))
    finally:
        with contextlib.suppress(MiyabiError):
            await _clear(place)
    return {**row, "seconds": row.get("seconds", round(time.monotonic() - began, 3))}


@contextlib.asynccontextmanager
async def open_court(repository: Repository, place: Path, means: Means) -> AsyncIterator[Court]:
    """Open the workspace and the sandbox in which a task's tests are run, for the block."""
    workspace = await asyncio.to_thread(open_workspace, repository, "judging", place / "judging")
    try:
        sandbox = means.sandbox(repository.root)
        yield Court(repository, workspace, sandbox, means.environ)
    finally:
        await asyncio.to_thread(workspace.close)


async def _judged(task: BenchTask, repository: Repository, commit: str, place: Path, means: Means) -> Row:
    async with open_court(repository, place, means) as court:
        judged = await court.judge(task, commit)
        lint_clean = await court.lint_clean(commit)
    score = await means.review(repository.root, repository.head, commit) if means.review else None
    return _judgement(judged) | {"lint_clean": lint_clean, "review_score": score}


def _judgement(judged: Judged) -> Row:
    counts = {status: sum(one == status for one in judged.tests.values()) for status in ("pass", "fail")}
    row: Row = {"passed": judged.passed, "failure": None, "tests": {"passed": counts["pass"], "failed": counts["fail"]}}
    if judged.problem:
        message = f"{judged.problem}: {judged.output}" if judged.output else judged.problem
        return row | {"passed": None, "failure": "no_test_ran", "message": message[:MESSAGE_LIMIT]}
    if not judged.passed:
        row["failure"] = HIDDEN_FAIL[judged.timed_out]
    return row


def _run_row(solved: Solved) -> Row:
    """Return what the row says of the run, whether it has a result or not."""
    calls = {"tool_calls": solved.tool_calls, "valid_tool_calls": solved.valid_tool_calls}
    if solved.result is None:
        failure = solved.failure or Failure("bug", "the run has no result", 70)
        return {**_error_row(failure), "run_id": solved.run_id, "usage": dataclasses.asdict(solved.usage), **calls}
    result = solved.result
    attempts = result["attempts"]
    return {
        "run_id": solved.run_id,
        "status": result["status"],
        "passed": False,
        "failure": None,
        "lint_clean": None,
        "review_score": None,
        "attempts": len(attempts),
        "steps": sum(attempt["steps"] for attempt in attempts),
        **calls,
        "lines_added": result["lines_added"],
        "lines_removed": result["lines_removed"],
        "usage": result["usage"],
        "seconds": result["seconds"],
        "provider": result["provider"],
        "model": result["model"],
        "effort": result["effort"],
    }


def _nothing(solved: Solved) -> Row:
    """Return why a run without a patch has not passed."""
    if solved.result is None:
        return {}
    if solved.result["status"] != "limit":
        return {"passed": False, "failure": "nothing_changed"}
    was_asked = solved.out_of_time or solved.result["usage"]["requests"]
    return {"passed": False, "failure": "limit" if was_asked else UNASKED}


def _error_row(failure: Failure) -> Row:
    passed = False if failure.kind in OWN_ERRORS else None
    nothing = {"lint_clean": None, "review_score": None, "attempts": None, "steps": None}
    message = " ".join(failure.message.split())[:MESSAGE_LIMIT]
    told = {"failure": failure.kind, "message": message, "exit_code": failure.exit_code}
    return {
        "run_id": None,
        "status": "error",
        "passed": passed,
        "usage": dataclasses.asdict(Usage()),
        **nothing,
        **told,
    }


def _name(task: BenchTask) -> str:
    """Return what the folder of the task's repository is called: an agent may see it."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in task.id.lower()).strip("-")
    return plain[-40:].strip("-") or "task"


async def _clear(place: Path) -> None:
    await asyncio.to_thread(remove_tree, place)
