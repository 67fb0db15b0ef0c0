"""What a model finds in a change: file by file, then across files, each finding judged against the code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from miyabi_cli.fences import fenced
from miyabi_cli.markdown import shortened
from miyabi_cli.messages import Function
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import Finding, Skipped, SourceResult
from miyabi_cli.review.means import ReviewMeans
from miyabi_cli.review.model.across import read_across
from miyabi_cli.review.model.asking import asker_of, choosing_function, findings_function
from miyabi_cli.review.model.claims import findings_of
from miyabi_cli.review.model.judging import judged
from miyabi_cli.review.model.linking import Links, context_of, find_links
from miyabi_cli.review.model.shown import CHANGED_WIDTH, Part, halves, parts_of, visible
from miyabi_cli.review.model.work import TOO_LARGE, Work
from miyabi_cli.workspace.toolchains import is_test_path

PART_LETTERS, PART_LETTERS_SMALL = 24_000, 5_000
LETTERS_PER_TOKEN = 2  # at the least, so that a part fits the window in nearly all cases
CONTEXT_LETTERS = 3_000  # a small model is shown none: it takes it for the change
PURPOSE_LETTERS = 600
MOST_QUOTES, MOST_QUOTED_LETTERS = 60, 8_000
CUT = f"read by the model but for what stands behind {CHANGED_WIDTH:,} characters of a line"
DELETED = "not read by the model: nothing of a deleted file is left to speak of"
PROSE = (".md", ".rst", ".txt", ".adoc", ".csv", ".json", ".lock", ".svg", ".po")


async def find(change: Change, means: ReviewMeans) -> SourceResult:
    """Return what the model of `means.provider` finds, which has to be there; see `Source`.

    What could not be read, for want of time, money or a valid answer, is in `skipped`.
    """
    if means.provider is None:
        raise ValueError("a review by a model needs one")
    work = Work(asker_of(means.provider, means.settings), means.deadline)
    files = sorted((file for file in change.reviewed if file.status != "deleted" and file.hunks), key=_urgency)
    links = await find_links(change, means) if files and not work.asker.small else Links()
    review = _Review(change, means, work, links, len(files))
    result = await review.run(files)
    gone = tuple(Skipped(file.path, DELETED) for file in change.reviewed if file.status == "deleted")
    return replace(result, skipped=(*result.skipped, *gone))


class _Review:
    """One review by a model: what it needs of the change, and how far it has come."""

    def __init__(self, change: Change, means: ReviewMeans, work: Work, links: Links, files: int) -> None:
        self._change = change
        self._means = means
        self._work = work
        self._links = links
        self._files = files
        self._read = 0
        asker = work.asker
        wanted = PART_LETTERS_SMALL if asker.small else PART_LETTERS
        self._part_letters = max(500, min(wanted, asker.room * LETTERS_PER_TOKEN // 2))
        self._prompt = "small" if asker.small else "files"

    async def run(self, files: list[ChangedFile]) -> SourceResult:
        parts = {file.path: parts_of(file, self._part_letters) for file in files}
        reading = [self._read_file(held) for held in parts.values()]
        if not self._work.asker.small:
            reading.append(self._read_across([part for held in parts.values() for part in held]))
        found = await asyncio.gather(*reading)
        for file in files:
            if any(len(text) > CHANGED_WIDTH for text in file.added.values()):
                self._work.skipped.setdefault(file.path, CUT)
        return self._work.result(tuple(_once(finding for held in found for finding in held)))

    async def _read_file(self, parts: tuple[Part, ...]) -> list[Finding]:
        found = await asyncio.gather(*(self._read_part(part) for part in parts))
        self._read += 1
        self._means.tell(f"model: {self._read} of {self._files} files")
        return [finding for held in found for finding in held]

    async def _read_part(self, part: Part) -> list[Finding]:
        """Return a part's judged findings; one that does not fit the window is read in halves."""
        context = context_of(part, self._links, CONTEXT_LETTERS)
        answer = await self._work.ask(self._prompt, self._function(part), self._told(part, context))
        if answer.problem == TOO_LARGE and (smaller := halves(part)):
            return [finding for half in smaller for finding in await self._read_part(half)]
        if answer.problem:
            self._work.skipped.setdefault(part.file.path, f"not read by the model: {answer.problem}")
            return []
        claimed = findings_of(answer.arguments["findings"], part, self._work.dropped)
        return await self._judge(claimed, context)

    def _function(self, part: Part) -> Function:
        """Return the function of findings; a small model chooses among the lines, since it does not copy them well."""
        quotes = list(dict.fromkeys(line.text.strip() for line in part.lines if line.kind == "+" and line.text.strip()))
        letters = sum(map(len, quotes))
        if self._work.asker.small and 0 < len(quotes) <= MOST_QUOTES and letters <= MOST_QUOTED_LETTERS:
            return choosing_function(quotes)
        return findings_function()

    async def _read_across(self, parts: list[Part]) -> list[Finding]:
        told = await read_across(parts, self._links, self._work)
        found = await asyncio.gather(*(self._judge(claimed, text) for claimed, text in told))
        return [finding for held in found for finding in held]

    async def _judge(self, claimed: Iterable[Finding], context: str) -> list[Finding]:
        files = self._change.by_path
        looked_at = await asyncio.gather(*(judged(one, files[one.path], context, self._work) for one in claimed))
        return [finding for finding in looked_at if finding is not None]

    def _told(self, part: Part, context: str) -> str:
        file, purpose = part.file, ""
        if not self._work.asker.small:
            purpose = shortened(f"{self._change.title}\n\n{self._change.body}".strip(), PURPOSE_LETTERS)
        moved = f", before {visible(file.old_path)}" if file.old_path != file.path else ""
        texts = [
            f"File {visible(file.path)} ({file.status}{moved})",
            fenced(part.text),
            f"Elsewhere in the repository:\n{fenced(context)}" if context else "",
            f"What the author says of the whole change:\n{fenced(purpose)}" if purpose else "",
        ]
        return "\n\n".join(text for text in texts if text)


def _urgency(file: ChangedFile) -> tuple[bool, bool]:
    """Sort code before tests, and both before prose and data: what comes last is left out where a limit is reached."""
    return file.path.lower().endswith(PROSE), is_test_path(file.path)


def _once(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Return one finding a line and category: the pass across files may see what was seen in a file."""
    kept: dict[tuple[str, int, str], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.path, finding.line, finding.category), finding)
    return kept.values()
