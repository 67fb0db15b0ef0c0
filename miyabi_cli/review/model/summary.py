"""The score in a model's words, with steps to mend; it changes no score, and its failure is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from miyabi_cli.errors import ProviderError
from miyabi_cli.fences import fenced
from miyabi_cli.messages import Function, Usage
from miyabi_cli.review.findings import Finding
from miyabi_cli.review.means import ReviewMeans
from miyabi_cli.review.model.asking import asker_of
from miyabi_cli.review.model.shown import named, visible

LONGEST_SECONDS = 60.0
TOLD = 20  # findings
_STEP = {"type": "string", "maxLength": 200}
EXPLAIN = Function(
    "explain_score",
    "Explain the score, and say what to mend first.",
    {
        "type": "object",
        "properties": {
            "summary": {"type": "string", "maxLength": 600},
            "steps": {"type": "array", "maxItems": 5, "items": _STEP},
        },
        "required": ["summary", "steps"],
        "additionalProperties": False,
    },
)


@dataclass(frozen=True, slots=True)
class Explained:
    """A text of some lines, "" where the model gave none, and what it cost."""

    text: str = ""
    usage: Usage = field(default_factory=Usage)


async def explain(
    score: int, reasons: Sequence[tuple[str, int]], findings: Sequence[Finding], means: ReviewMeans
) -> Explained:
    """Return a score explained by the model of `means`, and steps to mend what was found.

    `reasons` are the score's breakdown: words, and points below 0. It raises nothing: without an answer in time there
    is no text.
    """
    if means.provider is None or not findings:
        return Explained()
    asker = asker_of(means.provider, means.settings)
    seconds = LONGEST_SECONDS if means.deadline is None else min(LONGEST_SECONDS, means.deadline - time.monotonic())
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            called = await asker.ask("summary", EXPLAIN, _told(score, reasons, findings))
    except TimeoutError:
        return Explained()
    except ProviderError as error:
        return Explained(usage=error.usage)
    steps = [_line(step) for step in called.arguments["steps"]]
    listed = [f"{number}. {step}" for number, step in enumerate(filter(None, steps), start=1)]
    return Explained("\n".join([_line(called.arguments["summary"]), *listed]).strip(), called.usage)


def _told(score: int, reasons: Sequence[tuple[str, int]], findings: Sequence[Finding]) -> str:
    points = "\n".join(f"{points} {reason}" for reason, points in reasons[:TOLD])
    listed = "\n".join(
        f"{visible(found.path)}:{found.line} {found.severity} {found.category}: {visible(found.message)}"
        for found in findings[:TOLD]
    )
    more = f"\n… and {len(findings) - TOLD} more" if len(findings) > TOLD else ""
    return f"Score {score} of 100.\n\n{fenced(points)}\n\nFindings:\n{fenced(listed + more)}"


def _line(text: str) -> str:
    return named(" ".join(text.split()))
