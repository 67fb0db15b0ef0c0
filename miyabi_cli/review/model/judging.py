"""The second pass: each finding is held against the code, by a request that sees nothing of how it was found."""

from __future__ import annotations

from dataclasses import replace

from miyabi_cli.fences import fenced
from miyabi_cli.review.change import ChangedFile
from miyabi_cli.review.findings import Finding
from miyabi_cli.review.model.asking import JUDGE
from miyabi_cli.review.model.shown import excerpt, numbered, visible
from miyabi_cli.review.model.work import Work

AROUND = 20  # lines of the file on both sides of the finding
UNSURE = 0.6  # of the confidence that is left where the judge can't tell
UNJUDGED = 0.5  # where it was not asked to its end
REJECTED = "a second look at the code found it wrong"


async def judged(finding: Finding, file: ChangedFile, context: str, work: Work) -> Finding | None:
    """Return a finding with the confidence that a second look leaves it; None, and counted, where that rejects it."""
    answer = await work.ask("judging", JUDGE, _question(finding, file, context))
    if answer.problem:
        return replace(finding, confidence=round(finding.confidence * UNJUDGED, 2))
    match answer.arguments["verdict"]:
        case "real":
            return finding
        case "unsure":
            return replace(finding, confidence=round(finding.confidence * UNSURE, 2))
        case _:
            work.dropped[REJECTED] += 1
            return None


def _question(finding: Finding, file: ChangedFile, context: str) -> str:
    removed = "\n".join(numbered(None, "-", visible(text)) for text in _removed_near(finding, file))
    parts = [
        f"File {visible(file.path)} after the change, lines marked + are new:",
        fenced(excerpt(file, finding.line, finding.end_line, AROUND)),
        f"Lines that the change took away near there:\n{fenced(removed)}" if removed else "",
        f"Elsewhere in the repository:\n{fenced(context)}" if context else "",
        f"The claim, of line {finding.line}:",
        fenced(f"{finding.quote}\n\n{finding.message}"),
    ]
    return "\n\n".join(part for part in parts if part)


def _removed_near(finding: Finding, file: ChangedFile) -> list[str]:
    """Return the lines that go in the hunk of a finding, as far as they stand near it."""
    for hunk in file.hunks:
        at = next((at for at, line in enumerate(hunk.lines) if line.new == finding.line), None)
        if at is not None:
            near = hunk.lines[max(0, at - AROUND) : at + AROUND]
            return [line.text for line in near if line.kind == "-"]
    return []
