"""Finds issues that are like one: BM25 by SQLite's full-text index, which lies on the disk and not in memory."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from miyabi_cli.errors import MachineError
from miyabi_cli.triage.features import TITLE_LETTERS, prose_of
from miyabi_cli.triage.issue import TriageIssue

MOST_TERMS = 12  # of a body: its rarest words
MOST_TITLE_TERMS = 20
MOST_COMMON = 200  # issues that have a word that is looked for: a search stays as quick in a large index
CANDIDATES = 4  # rows that are looked at for each that is wanted
TITLE_WEIGHT = 3.0
_WORD = re.compile(r"[^\W_]{2,40}")


@dataclass(frozen=True, slots=True)
class Like:
    """An issue that is like another. `score` is 0 to 1: what share of its rare words it has."""

    number: int
    title: str
    body: str
    label: str
    score: float


class Likeness:
    """An index of issues; close it. Raises MachineError where this Python's SQLite has no FTS5."""

    def __init__(self) -> None:
        # "": a database of this connection's own, in a temporary file that goes with it
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.count = 0
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE issues USING fts5(title, body, number UNINDEXED, label UNINDEXED)"
            )
            self._database.execute("CREATE VIRTUAL TABLE words USING fts5vocab(issues, row)")
            self._database.execute("BEGIN")
        except sqlite3.OperationalError as error:
            self._database.close()
            raise MachineError(f"SQLite has no full-text index here: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, issue: TriageIssue) -> None:
        """Take an issue into the index."""
        row = (issue.title[:TITLE_LETTERS], prose_of(issue.body), issue.number, issue.truth)
        self._database.execute("INSERT INTO issues (title, body, number, label) VALUES (?, ?, ?, ?)", row)
        self.count += 1

    def find(self, issue: TriageIssue, most: int, *, least: float = 0.0) -> list[Like]:
        """Return the issues that are most like one, the most alike first; not itself, by its number."""
        weights = self._weights(issue)
        if not weights:
            return []
        rows = self._database.execute(
            f"SELECT number, title, body, label FROM issues WHERE issues MATCH ? "  # noqa: S608 (a constant)
            f"ORDER BY bm25(issues, {TITLE_WEIGHT}, 1.0), rowid LIMIT ?",
            (" OR ".join(f'"{word}"' for word in weights), CANDIDATES * most),
        ).fetchall()
        whole = sum(weights.values())
        found = []
        for number, title, body, label in rows:
            there = set(_WORD.findall(f"{title} {body}".lower()))
            score = sum(weight for word, weight in weights.items() if word in there) / whole
            if number != issue.number and score >= least:
                found.append(Like(number, title, body, label, round(score, 4)))
        return sorted(found, key=lambda like: -like.score)[:most]

    def _weights(self, issue: TriageIssue) -> dict[str, float]:
        """Return the words that are looked for, those of the title and the rarest of the body, and how much each says.

        That is BM25's weight of a rare word (IDF, in the form that is never negative), and more for a title's.
        """
        title = dict.fromkeys(_WORD.findall(issue.title[:TITLE_LETTERS].lower()))
        body = [word for word in dict.fromkeys(_WORD.findall(prose_of(issue.body).lower())) if word not in title]
        counts = dict(self._counts([*title, *body]))
        common = max(20, min(MOST_COMMON, self.count // 10))
        chosen = [word for word in title if counts.get(word, 0) <= common][:MOST_TITLE_TERMS]
        rare = sorted((word for word in body if 0 < counts.get(word, 0) <= common), key=lambda word: counts[word])
        weights = {word: TITLE_WEIGHT * self._rarity(counts.get(word, 0)) for word in chosen}
        return weights | {word: self._rarity(counts[word]) for word in rare[:MOST_TERMS]}

    def _rarity(self, count: int) -> float:
        return math.log(1 + (self.count - count + 0.5) / (count + 0.5))

    def _counts(self, words: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield how many issues of the index have each word."""
        for word in words[:400]:
            row = self._database.execute("SELECT doc FROM words WHERE term = ?", (word,)).fetchone()
            if row:
                yield word, row[0]
