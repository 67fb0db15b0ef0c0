"""Finds issues that are like one: BM25 by SQLite's full-text index, which lies on the disk and not in memory."""

from __future__ import annotations

import hashlib
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
MOST_WORDS = 400  # of an issue that are counted
WORDS_AT_ONCE = 200
MOST_COMMON = 200  # issues that have a word that is looked for: a search stays as quick in a large index
CANDIDATES = 4  # rows that are looked at for each that is wanted
TITLE_WEIGHT = 3.0
MOST_ALIKE = 0.99  # a score that is not of the very same text
_WORD = re.compile(r"[^\W_]{2,40}")


@dataclass(frozen=True, slots=True)
class Like:
    """An issue that is like another. `score` is 0 to 1: what share of its rare words it has."""

    number: int
    title: str
    body: str
    label: str
    score: float


def _digest(issue: TriageIssue) -> bytes:
    text = " ".join(f"{issue.title}\n{issue.body}".casefold().split())
    return hashlib.sha256(text.encode()).digest()


class Likeness:
    """An index of issues; close it. Raises MachineError where this Python's SQLite has no FTS5."""

    def __init__(self) -> None:
        # "": a database of this connection's own, in a temporary file that goes with it
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.count = 0
        self._counted = 0  # issues, when their words were counted
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE issues USING fts5(title, body, number UNINDEXED, label UNINDEXED)"
            )
            self._database.execute("CREATE VIRTUAL TABLE words USING fts5vocab(issues, row)")
            self._database.execute("CREATE TABLE counts (term TEXT PRIMARY KEY, doc INTEGER) WITHOUT ROWID")
            self._database.execute(
                "CREATE TABLE copies (digest BLOB, place INTEGER, PRIMARY KEY (digest, place)) WITHOUT ROWID"
            )
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
        added = self._database.execute("INSERT INTO issues (title, body, number, label) VALUES (?, ?, ?, ?)", row)
        self._database.execute("INSERT INTO copies VALUES (?, ?)", (_digest(issue), added.lastrowid))
        self.count += 1

    def find(self, issue: TriageIssue, most: int, *, least: float = 0.0) -> list[Like]:
        """Return the issues that are most like one, the most alike first; not itself, by its number."""
        copies = [Like(*row, 1.0) for row in self._copies(issue, most + 1)]
        found = [*copies, *self._alike(issue, most)]
        first = {like.number: like for like in reversed(found) if like.number != issue.number and like.score >= least}
        return sorted(first.values(), key=lambda like: (-like.score, found.index(like)))[:most]

    def _copies(self, issue: TriageIssue, most: int) -> list[tuple[int, str, str, str]]:
        """Return the first issues of the very same text: where they are many, their words are none that are rare."""
        query = "SELECT place FROM copies WHERE digest = ? ORDER BY place LIMIT ?"
        rows = f"SELECT number, title, body, label FROM issues WHERE rowid IN ({query}) ORDER BY rowid"  # noqa: S608
        return self._database.execute(rows, (_digest(issue), most)).fetchall()

    def _alike(self, issue: TriageIssue, most: int) -> Iterator[Like]:
        """Yield issues that have rare words of one, itself among them."""
        weights = self._weights(issue)
        if not weights:
            return
        rows = self._database.execute(
            f"SELECT number, title, body, label FROM issues WHERE issues MATCH ? "  # noqa: S608 (a constant)
            f"ORDER BY bm25(issues, {TITLE_WEIGHT}, 1.0), rowid LIMIT ?",
            (" OR ".join(f'"{word}"' for word in weights), CANDIDATES * most),
        ).fetchall()
        whole = sum(weights.values())
        for number, title, body, label in rows:
            there = set(_WORD.findall(f"{title} {body}".lower()))
            score = sum(weight for word, weight in weights.items() if word in there) / whole
            yield Like(number, title, body, label, min(round(score, 4), MOST_ALIKE))

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
        if self._counted != self.count:
            self._count_words()
        for first in range(0, len(words[:MOST_WORDS]), WORDS_AT_ONCE):
            some = words[first : first + WORDS_AT_ONCE]
            marks = ",".join("?" * len(some))
            yield from self._database.execute(f"SELECT term, doc FROM counts WHERE term IN ({marks})", some)  # noqa: S608

    def _count_words(self) -> None:
        """Count each word once for all: to ask the full-text index for one takes longer than the search itself."""
        self._database.execute("INSERT INTO issues (issues) VALUES ('optimize')")
        self._database.execute("DELETE FROM counts")
        self._database.execute("INSERT INTO counts SELECT term, doc FROM words")
        self._counted = self.count
