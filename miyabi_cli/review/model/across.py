"""The pass across files: what changed definitions and their uses in other files no longer agree upon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from miyabi_cli.fences import fenced
from miyabi_cli.review.findings import Finding
from miyabi_cli.review.model.asking import findings_function
from miyabi_cli.review.model.claims import findings_of
from miyabi_cli.review.model.linking import Links, Use, changed_names, shown_uses
from miyabi_cli.review.model.shown import Part, numbered, visible
from miyabi_cli.review.model.work import Work

LETTERS = 16_000  # of one request
MOST_REQUESTS = 6
USES_OF_ONE = 6
LETTERS_OF_ONE = 1_200
LINES_BEHIND = 6  # of a definition, behind the line that comes or goes
UNREAD = "the pass across files: "


@dataclass(frozen=True, slots=True)
class _Link:
    """A changed definition, and where other files use it."""

    part: Part
    name: str
    uses: str


@dataclass(frozen=True, slots=True)
class _Told:
    """A link, and its part of a request."""

    link: _Link
    text: str


async def read_across(parts: Sequence[Part], links: Links, work: Work) -> list[tuple[list[Finding], str]]:
    """Return what shows only across files, each time with the text that tells it.

    Nothing is asked where no changed definition is used elsewhere.
    """
    batches = list(_batches(_links(parts, links)))
    if left := sum(len(batch) for batch in batches[MOST_REQUESTS:]):
        work.skipped.setdefault("", f"{UNREAD}{left} changed definitions are more than it looks at")
    return await asyncio.gather(*(_ask(batch, parts, work) for batch in batches[:MOST_REQUESTS]))


async def _ask(batch: Sequence[_Told], parts: Sequence[Part], work: Work) -> tuple[list[Finding], str]:
    chosen, text = [told.link for told in batch], "\n\n".join(told.text for told in batch)
    by_path = {link.part.file.path: link.part.file for link in chosen}
    answer = await work.ask("across", findings_function(list(by_path)), fenced(text))
    if answer.problem:
        work.skipped.setdefault("", f"{UNREAD}{answer.problem}")
        return [], ""
    found: list[Finding] = []
    for path, file in by_path.items():
        hunks = tuple(hunk for part in parts if part.file is file for hunk in part.hunks)
        claims = [claim for claim in answer.arguments["findings"] if claim["path"] == path]
        found += findings_of(claims, Part(file, hunks), work.dropped)
    return found, text


def _links(parts: Sequence[Part], links: Links) -> Iterator[_Link]:
    for part in parts:
        for name in changed_names(part):
            if uses := links.uses(name, besides=part.file.path, most=USES_OF_ONE):
                yield _Link(part, name, shown_uses(_widened(uses, links), LETTERS_OF_ONE))


def _widened(uses: Sequence[Use], links: Links) -> Iterator[Use]:
    """Yield uses with the line below each: arguments go on there."""
    for use in uses:
        yield use
        lines = links.texts[use.path]
        if use.number < len(lines):
            yield Use(use.path, use.number + 1, lines[use.number])


def _batches(found: Iterable[_Link]) -> Iterator[list[_Told]]:
    """Yield links as many at a time as one request has room for."""
    batch: list[_Told] = []
    for link in found:
        lines = "\n".join(_lines_of(link))
        told = _Told(link, f"{link.name} in {visible(link.part.file.path)}\n{lines}\nused in\n{link.uses}")
        if batch and sum(len(one.text) for one in batch) + len(told.text) > LETTERS:
            yield batch
            batch = []
        batch.append(told)
    if batch:
        yield batch


def _lines_of(link: _Link) -> Iterator[str]:
    """Yield the changed lines of a definition: those with its name, and some behind each."""
    for _, lines in link.part.hunks:
        left = 0
        for line in lines:
            if line.kind != " " and link.name in line.text:
                left = LINES_BEHIND
            if left:
                yield numbered(None if line.kind == "-" else line.number, line.kind, line.text)
                left -= 1
