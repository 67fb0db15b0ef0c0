"""Puts labels on issues of GitHub: only what the repository has, and beside what people have put there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from miyabi_cli.github.client import GitHub
from miyabi_cli.github.issues import Label, add_labels, get_issue, list_labels
from miyabi_cli.triage.labels import PRIORITIES, SEVERITIES, TYPES, Vocabulary, vocabulary_of

_GROUPS = (TYPES, SEVERITIES, PRIORITIES)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one issue's labels: `decided` are those that stand against what a person has put there."""

    number: int
    added: tuple[str, ...]
    kept: tuple[str, ...]
    unknown: tuple[str, ...]
    decided: tuple[str, ...]

    def __str__(self) -> str:
        """Return the difference on one line."""
        signs = [f"+{name}" for name in self.added] + [f" {name}" for name in self.kept]
        told = ", ".join(sign.strip() for sign in signs) if self.added else "nothing to add"
        notes = [f"{name}: a person has decided" for name in self.decided]
        notes += [f"{name}: not a label of the repository" for name in self.unknown]
        return f"#{self.number}: {'; '.join([told, *notes])}"


class Applier:
    """Adds labels of one repository, whose list is read once."""

    def __init__(self, github: GitHub) -> None:
        self._github = github
        self._known: Vocabulary | None = None
        self._reading = asyncio.Lock()

    async def add_missing(self, number: int, labels: Sequence[str]) -> Change:
        """Put labels on an issue as it is now. Raises GitHubError; nothing is ever taken away.

        Where a person has said of an issue what type, severity or priority it has, that stands. Labels that triage does
        not give are none of the repository's here, wherever they come from.
        """
        known = await self._vocabulary()
        there = (await get_issue(self._github, number)).labels
        wanted = {name: known.find(name) for name in labels}
        unknown = tuple(name for name, own in wanted.items() if own is None)
        new = [own for own in wanted.values() if own is not None and own not in there]
        decided = tuple(name for name in new if _stands_against(name, there))
        added = tuple(name for name in new if name not in decided)
        if added:
            await add_labels(self._github, number, added)
        return Change(number, added, there, unknown, decided)

    async def _vocabulary(self) -> Vocabulary:
        async with self._reading:
            if self._known is None:
                self._known = vocabulary_of([label async for label in list_labels(self._github)])
        return self._known


def _stands_against(name: str, there: tuple[str, ...]) -> bool:
    """Say whether a label says what another one, which is there, says otherwise; one that waits is no news then."""
    mine, theirs = _meanings((name,)), _meanings(there)
    if "pending" in mine:
        return bool(theirs & set(TYPES))
    return any(mine & set(group) and theirs & set(group) for group in _GROUPS)


def _meanings(names: tuple[str, ...]) -> set[str]:
    return set(vocabulary_of(Label(name) for name in names).meanings)
