"""The base's checks: run once a commit, and then known."""

from __future__ import annotations

from collections.abc import Mapping

from miyabi_cli.codegen.judging import checks_worktree, run_and_tell
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.events import CheckEnded
from miyabi_cli.locks import locked
from miyabi_cli.places import cache_dir
from miyabi_cli.workspace.check_cache import CheckCache, check_key
from miyabi_cli.workspace.check_records import CheckRun


async def base_runs(plan: Plan, tree: str, environ: Mapping[str, str]) -> tuple[CheckRun, ...]:
    """Return what the plan's checks give on the base, whose tree has the id `tree`.

    A run that begins at the same time as another on the same base, also one of another process, waits for its results.
    """
    if not plan.checks:
        return ()
    cache = CheckCache(cache_dir("checks"))
    key = check_key(
        tree,
        plan.checks,
        sandbox_kind=plan.sandbox.kind,
        repository=plan.repository.root,
        environ=environ,
        extra=(*plan.include, *plan.setup),
    )
    waited: list[bool] = []
    async with locked(cache_dir("checks") / f"{key}.lock", waiting=lambda: waited.append(True)):
        known = cache.get(key)
        if known is None and not waited:
            return await _run_and_keep(plan, cache, key)
    if known is None:  # what the first run has found can't be kept, a time-out say, and nobody waits in line for that
        return await _run_and_keep(plan, cache, key)
    for run in known:
        plan.voice.emit(CheckEnded(0, "before", run.name, run.status, round(run.seconds, 3), run.output, cached=True))
    return known


async def _run_and_keep(plan: Plan, cache: CheckCache, key: str) -> tuple[CheckRun, ...]:
    runs = await run_and_tell(plan, await checks_worktree(plan, 0), 0, "before")
    cache.put(key, runs)
    return runs
