"""As many attempts as it takes, side by side, and the best of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from miyabi_cli.codegen.attempts import Attempt, make_attempt, recover_attempt
from miyabi_cli.codegen.delivery import succeeded
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.codegen.request import CodegenRequest


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts that came to an end, at least one, and the best of them.

    `limit` says which limit was reached where the best is not as good as was asked; a larger one may give a better.
    """

    attempts: tuple[Attempt, ...]
    best: Attempt
    limit: str = ""


async def make_attempts(plan: Plan, request: CodegenRequest) -> Tries:
    """Make attempts, `jobs` at a time, until one is good enough, all are made, or a limit of the run is reached."""
    attempts = await _ended(plan, request)
    best = min(attempts, key=_rank)
    limit = ""
    if not succeeded(best.status, request):
        limit = next((attempt.reason for attempt in attempts if attempt.status == "limit"), "")
        if not limit and len(attempts) < request.tries(plan.profile):
            limit = plan.allowance.reached(0) or ""
    return Tries(tuple(attempts), best, limit)


async def _ended(plan: Plan, request: CodegenRequest) -> list[Attempt]:
    """Make attempts, `jobs` at a time, until one is good enough; return those that came to an end."""
    wanted = request.tries(plan.profile)
    earlier = plan.earlier.attempts if plan.earlier else {}
    ended = await _recovered(plan)
    if not request.all_attempts and any(_is_good(plan, request, attempt) for attempt in ended):
        return ended
    made = {attempt.number for attempt in ended}
    numbers = iter([number for number in range(1, wanted + 1) if number not in made])
    failure: Exception | None = None

    async def work() -> None:
        for number in numbers:
            if plan.allowance.reached(0) and ended:
                return
            attempt = await make_attempt(plan, number, earlier.get(number))
            ended.append(attempt)
            if not request.all_attempts and _is_good(plan, request, attempt):
                raise _Found

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(request.jobs, wanted)):
                group.create_task(work())
    except* _Found:
        pass
    except* Exception as failed:
        failure = failed.exceptions[0]
    # What fails in another attempt does not matter any more once one is good enough. It is raised only here, since
    # Python before 3.11.4 wraps what is raised in `except*` in a group.
    if failure and not any(_is_good(plan, request, attempt) for attempt in ended):
        raise failure
    return sorted(ended, key=lambda attempt: attempt.number)


async def _recovered(plan: Plan) -> list[Attempt]:
    """Return the attempts that came to an end before the run was stopped."""
    earlier = plan.earlier.attempts if plan.earlier else {}
    found = [await recover_attempt(plan, one, one.ended) for _, one in sorted(earlier.items()) if one.ended]
    return [attempt for attempt in found if attempt is not None]


def _is_good(plan: Plan, request: CodegenRequest, attempt: Attempt) -> bool:
    """Say whether an attempt needs no other.

    A small model's first try often changes something that neither breaks nor mends: it goes on until a test is fixed.
    """
    if not request.checks_wanted:
        return attempt.staged is not None
    if plan.profile.editing == "rewrite":
        return attempt.judged is not None and attempt.judged.settled
    return attempt.status == "verified"


class _Found(Exception):
    """One attempt is good enough: the others are cancelled."""


def _rank(attempt: Attempt) -> tuple[int, int, int, int]:
    """Order attempts, the best first: verified, changed, fewest broken and failing tests, smallest diff."""
    staged, judged = attempt.staged, attempt.judged
    failing = sum(status == "fail" for run in judged.runs for status in run.tests.values()) if judged else 0
    size = staged.lines_added + staged.lines_removed if staged else 0
    broken = judged.broken + failing if judged else 0
    return (attempt.status != "verified", 0 if staged else 1, broken, size)
