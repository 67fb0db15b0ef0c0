"""Where issues come from: GitHub or a file; and the indexes of those that an issue may be like."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import IO

from miyabi_cli.errors import GitHubError, UsageError
from miyabi_cli.github.answers import BUSY
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.issues import Issue, get_issue, list_issues
from miyabi_cli.triage.issue import TriageIssue, Unreadable, issue_from
from miyabi_cli.triage.labels import TYPES, Vocabulary, text_of
from miyabi_cli.triage.likeness import Likeness
from miyabi_cli.triage.reading import copy_of, read_issues

MOST_OF_REPOSITORY = 2_000  # issues, the newest, that one may be a duplicate of
MOST_IN_A_ROW = 3  # issues that GitHub fails to give


async def named_issues(github: GitHub, numbers: Iterable[int]) -> AsyncIterator[TriageIssue | Unreadable]:
    """Yield the issues of these numbers; one that is not there, or that GitHub fails to give, is yielded as that.

    Raises GitHubError where GitHub refuses, can't be reached, or has failed to give several in a row.
    """
    in_a_row = 0
    for number in dict.fromkeys(numbers):
        try:
            yield triage_issue(await get_issue(github, number))
            in_a_row = 0
        except UsageError as error:
            yield Unreadable(f"#{number}", error.message)
        except GitHubError as error:
            in_a_row += 1
            if error.status not in BUSY or in_a_row >= MOST_IN_A_ROW:
                raise
            yield Unreadable(f"#{number}", error.message, error)


async def open_issues(github: GitHub) -> AsyncIterator[TriageIssue | Unreadable]:
    """Yield all open issues of a repository."""
    async for issue in list_issues(github):
        yield triage_issue(issue)


def triage_issue(issue: Issue) -> TriageIssue:
    """Return an issue of GitHub's as triage takes it, bounded and clean."""
    data = {"number": issue.number, "title": issue.title, "body": issue.body, "labels": issue.labels}
    found = issue_from(data, f"#{issue.number}", issue.number)
    return found if isinstance(found, TriageIssue) else TriageIssue(issue.number, issue.title, "", issue.labels)


def index_of_file(copy: IO[bytes]) -> Likeness:
    """Return an index of a file's issues; close it."""
    index = Likeness()
    with _closed_on_failure(index):
        for entry in read_issues(copy):
            if isinstance(entry, TriageIssue):
                index.add(entry)
    return index


async def index_of_repository(github: GitHub) -> Likeness:
    """Return an index of a repository's newest issues, open and closed; close it."""
    index = Likeness()
    with _closed_on_failure(index):
        async for issue in list_issues(github, state="all"):
            index.add(triage_issue(issue))
            if index.count >= MOST_OF_REPOSITORY:
                break
    return index


def index_of_examples(path: Path, vocabulary: Vocabulary) -> Likeness:
    """Return an index of labelled issues; close it. An issue's type is its `label` or `type`, else one of its labels.

    Raises MachineError for a file that can't be read, UsageError for one without a labelled issue.
    """
    index = Likeness()
    with _closed_on_failure(index), copy_of(str(path)) as copy:
        for entry in read_issues(copy):
            if isinstance(entry, TriageIssue) and (label := _type_of(entry, vocabulary)):
                index.add(TriageIssue(-index.count - 1, entry.title, entry.body, truth=label))
        if not index.count:
            hint = f"each needs a label, one of {', '.join(TYPES)}"
            raise UsageError(f"there is no labelled issue in {path}", hint=hint)
    return index


def _type_of(issue: TriageIssue, vocabulary: Vocabulary) -> str:
    """Return the type that people have given an issue, "" for none."""
    meanings = {name: what for what in TYPES if (name := vocabulary.meaning(what))}
    for label in (issue.truth, *issue.labels):
        text = text_of(label)
        if text in TYPES:
            return text
        if (name := vocabulary.find(label)) in meanings:
            return meanings[str(name)]
        if text in _OTHER_NAMES:
            return _OTHER_NAMES[text]
    return ""


_OTHER_NAMES = {"enhancement": "feature", "documentation": "docs", "tests": "test"}


@contextlib.contextmanager
def _closed_on_failure(index: Likeness) -> Iterator[None]:
    with contextlib.ExitStack() as opened:
        opened.enter_context(index)
        yield
        opened.pop_all()
