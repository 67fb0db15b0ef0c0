"""`review`: the sources look at a change side by side, and what they find becomes one result with one score."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from miyabi_cli.errors import BudgetReached, ProviderError
from miyabi_cli.messages import Usage
from miyabi_cli.redaction import Redactor, redactor_of
from miyabi_cli.review.baseline import without_accepted
from miyabi_cli.review.change import Change
from miyabi_cli.review.findings import AddedSecret, Dropped, Finding, Skipped, SourceResult
from miyabi_cli.review.hiding import EVERYWHERE, Hider, hider_of
from miyabi_cli.review.means import ReviewMeans, Source
from miyabi_cli.review.merging import merge
from miyabi_cli.review.reading import UNREAD
from miyabi_cli.review.result import Gate, ReviewResult, SourceReport, SourceStatus
from miyabi_cli.review.scoring import Deduction, band_of, deductions, score_of
from miyabi_cli.workspace.check_records import Severity

SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
MODEL, SECRETS = "model", "secrets"
_GRACE = 10.0  # seconds beyond the deadline in which a source may still end by itself


@dataclass(frozen=True, slots=True)
class ReviewPlan:
    """What a review is to do. `sources` by name; `accepted` are the fingerprints of a baseline.

    `explained`: the model of the means puts the score into words; `suggested`: it is asked for patches, too.
    """

    run_id: str
    sources: Mapping[str, Source]
    gate: Gate
    accepted: frozenset[str] = frozenset()
    explained: bool = False
    suggested: bool = False


async def run_review(change: Change, means: ReviewMeans, plan: ReviewPlan) -> ReviewResult:
    """Review a change. Every failure of a source is in the result; what raises is a cancellation or a bug."""
    started = time.monotonic()
    if not change.files:
        return _empty(change, plan, means)
    by_source, hider = await _ask(change, means, plan)
    results = by_source.values()
    found = [finding for result in results for finding in result.findings]
    merged, duplicates = merge(hider.change(change), found)
    kept, accepted = without_accepted(merged, plan.accepted)
    breakdown = deductions(kept, means.settings.review.weights)
    dropped = _summed(one for group in (*(result.dropped for result in results), duplicates, accepted) for one in group)
    skipped = (
        *(Skipped(file.path, file.skipped) for file in change.files if file.skipped),
        *(Skipped("", note) for note in change.notes),
        *(one for result in results for one in result.skipped),
    )
    result = _result(change, plan, means, by_source, kept, breakdown)
    result = dataclasses.replace(result, dropped=dropped, skipped=tuple(dict.fromkeys(skipped)))
    if plan.suggested and kept:
        result = await _suggested(result, hider.change(change), means)
    if plan.explained and kept and MODEL in by_source and by_source[MODEL].error is None:
        result = await _explained(result, means)
    return dataclasses.replace(result, seconds=round(time.monotonic() - started, 3))


async def _ask(change: Change, means: ReviewMeans, plan: ReviewPlan) -> tuple[dict[str, SourceResult], Hider]:
    """Ask all sources at once, but the model only of lines whose secrets are known, and taken out."""
    tasks = {
        name: asyncio.create_task(_bounded(name, plan.sources[name], change, means))
        for name in plan.sources
        if name != MODEL
    }
    try:
        secrets = (await tasks[SECRETS]).secrets if SECRETS in tasks else ()
        hider = hider_of(secrets)
        if MODEL in plan.sources:
            _keep_from_model(secrets, means)
            tasks[MODEL] = asyncio.create_task(_bounded(MODEL, plan.sources[MODEL], hider.change(change), means))
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return {name: hider.result(tasks[name].result()) for name in plan.sources}, hider


def _keep_from_model(secrets: Sequence[AddedSecret], means: ReviewMeans) -> None:
    """Let the provider send none of these: what is searched for in the repository's files may hold them, too."""
    if means.provider is not None and secrets:
        added = redactor_of(("added", secret.value) for secret in secrets[:EVERYWHERE])
        means.provider.redactor = Redactor((*means.provider.redactor.forms, *added.forms))


async def _bounded(name: str, source: Source, change: Change, means: ReviewMeans) -> SourceResult:
    """Ask a source, and give it up some time after the deadline; what it had is lost then."""
    if means.deadline is None:
        return await source(change, means)
    try:
        async with asyncio.timeout(max(0.0, means.deadline - time.monotonic()) + _GRACE):
            return await source(change, means)
    except TimeoutError:
        skipped = (Skipped("", f"{name}: the time limit"),)
        return SourceResult(skipped=skipped, complete=False, limit=True, ran=False)


def _result(
    change: Change,
    plan: ReviewPlan,
    means: ReviewMeans,
    by_source: Mapping[str, SourceResult],
    kept: tuple[Finding, ...],
    breakdown: tuple[Deduction, ...],
) -> ReviewResult:
    score = score_of(breakdown)
    reasons = (*(file.skipped for file in change.files), *change.notes)
    unread = [reason for reason in reasons if reason.startswith(UNREAD)]
    complete = not unread and all(result.complete for result in by_source.values())
    failures = tuple(_failures(plan.gate, score, kept))
    error = next((result.error for result in by_source.values() if result.error), None)
    provider = means.provider
    return ReviewResult(
        run_id=plan.run_id,
        change=change.what,
        base=change.base_tree,
        head=change.head_tree,
        score=score,
        band=band_of(score),
        passed=complete and not failures,
        complete=complete,
        breakdown=breakdown,
        summary=_summary(change, kept, complete=complete),
        findings=kept,
        dropped=(),
        skipped=(),
        sources=tuple(_report(name, result) for name, result in by_source.items()),
        failures=failures,
        gate=plan.gate,
        files=len(change.files),
        lines_added=sum(len(file.added) for file in change.files),
        lines_removed=sum(1 for file in change.files for _ in file.removed),
        usage=sum((result.usage for result in by_source.values()), Usage()),
        provider=provider.name if provider else None,
        model=provider.model_name if provider else None,
        error=error,
        secrets=tuple(secret for result in by_source.values() for secret in result.secrets),
        limit=isinstance(error, BudgetReached) or any(result.limit for result in by_source.values()),
    )


def _empty(change: Change, plan: ReviewPlan, means: ReviewMeans) -> ReviewResult:
    result = _result(change, plan, means, {}, (), ())
    notes = tuple(Skipped("", note) for note in change.notes)
    return dataclasses.replace(result, summary=f"nothing to review: no change in {change.what}", skipped=notes)


def _failures(gate: Gate, score: int, findings: Sequence[Finding]) -> Iterable[str]:
    """Yield in words what does not hold the gate."""
    if score < gate.fail_under:
        yield f"the score {score} is below {gate.fail_under:g}"
    if gate.fail_on:
        least = SEVERITIES.index(gate.fail_on)
        if count := sum(SEVERITIES.index(finding.severity) >= least for finding in findings):
            plural = "" if count == 1 else "s"
            yield f"{count} finding{plural} of severity {gate.fail_on} or above"


def _summary(change: Change, findings: Sequence[Finding], *, complete: bool) -> str:
    """Return one line on what was found; a review that is not complete never reads as if all were well."""
    if not change.reviewed:
        told = f"nothing to look at: all {len(change.files)} changed files are left out"
    elif findings:
        counts = Counter(finding.severity for finding in findings)
        told = ", ".join(
            f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
            for severity in reversed(SEVERITIES)
            if counts[severity]
        )
        told += f" in {len({finding.path for finding in findings})} of {len(change.files)} changed files"
    else:
        told = "no findings"
    return told if complete else f"{told}; the review is not complete"


def _report(name: str, result: SourceResult) -> SourceReport:
    """Return what became of a source; what it says of itself is no single file's."""
    told = [skipped.reason for skipped in result.skipped if not skipped.path]
    status: SourceStatus = "ran"
    if result.error is not None:
        status = "failed"
        told.insert(0, result.error.message)
    elif not result.ran:
        status = "skipped" if result.complete else "failed"
    elif not result.complete or told:
        status = "partial"
    return SourceReport(name, status, "; ".join(dict.fromkeys(told))[:500])


def _summed(dropped: Iterable[Dropped]) -> tuple[Dropped, ...]:
    counts: Counter[str] = Counter()
    for one in dropped:
        counts[one.reason] += one.count
    return tuple(Dropped(reason, count) for reason, count in sorted(counts.items()) if count)


async def _suggested(result: ReviewResult, change: Change, means: ReviewMeans) -> ReviewResult:
    """Let the model write patches; where it can't, the findings stay as they are, and it is said why."""
    from miyabi_cli.review.suggesting import suggest

    means.tell("model: suggestions")
    made = await suggest(change, result.findings, means)
    return dataclasses.replace(
        result,
        findings=made.findings,
        dropped=_summed((*result.dropped, *made.dropped)),
        skipped=(*result.skipped, *made.skipped),
        usage=result.usage + made.usage,
    )


async def _explained(result: ReviewResult, means: ReviewMeans) -> ReviewResult:
    """Put the score into the model's words, below the line that says it in numbers."""
    from miyabi_cli.review.model.summary import explain

    means.tell("model: the score in words")
    reasons = [(deduction.reason, deduction.points) for deduction in result.breakdown]
    explained = await explain(result.score, reasons, result.findings, means)
    summary = f"{result.summary}\n\n{explained.text}" if explained.text else result.summary
    return dataclasses.replace(result, summary=summary, usage=result.usage + explained.usage)


async def without_provider(error: ProviderError) -> SourceResult:
    """Return what a model's source gives where no provider answers."""
    return SourceResult(complete=False, error=error, skipped=(Skipped("", f"model: {error.message}"),))
