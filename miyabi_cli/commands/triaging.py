"""Opens all that a triage needs, does it, shows its rows, and puts the labels on the issues if that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from miyabi_cli.commands import flags
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.triage_results import Written, open_rows
from miyabi_cli.commands.triage_rows import Outcome, Rows
from miyabi_cli.errors import ProviderError, UsageError
from miyabi_cli.events import WarningRaised
from miyabi_cli.report.streams import ColorChoice, Streams

if TYPE_CHECKING:
    from miyabi_cli.commands.access import Access, Show
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.triage.issue import TriageIssue, Unreadable
    from miyabi_cli.triage.labels import Vocabulary
    from miyabi_cli.triage.likeness import Likeness
    from miyabi_cli.triage.triager import Triager


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for: `numbers` of issues, a `file` of them, or without either all that are open."""

    numbers: tuple[str, ...]
    file: str | None
    folder: Path
    chosen: dict[str, Any]
    config: Path | None
    examples: Path | None
    llm: bool
    jobs: int
    apply: bool
    format: str
    output: Path | None
    cost_capped: bool


async def do_triage(asked: Asked, begun: Begun, *, color: ColorChoice, quiet: bool, verbose: bool) -> int:
    """Triage what is asked for; return the exit code.

    Raises UsageError at the end where entries of a file were no issues: all others have their rows by then.
    """
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.runs import new_run_id
    from miyabi_cli.triage.applying import Applier
    from miyabi_cli.triage.run import triage_all

    run_id = begun.run_id = new_run_id()
    outcome = Outcome()
    async with contextlib.AsyncExitStack() as opened:
        streams, written = _streams(asked, begun, opened, color=color, quiet=quiet, verbose=verbose)
        progress = Progress(streams)
        opened.callback(progress.close)
        access, github = await _open(asked, begun, progress.show, opened)
        copy, index = await _material(asked.file, opened)
        applier = Applier(github) if asked.apply and github is not None else None
        redactor, begins = access.redactor, begun.result_begins
        with Rows(asked.format, streams, redactor, applier, outcome, progress.show, begins) as rows:
            left = _left(_entries(asked, copy, github), written, rows, outcome)
            if (first := await anext(left, None)) is not None:  # nothing more is asked for where there is none
                triager = await _triager(asked, access, github, index, run_id, opened)
                if triager.failure is not None:
                    progress.show(WarningRaised("provider", "", f"{triager.failure.message}: rules triage the issues"))
                await triage_all(_chained(first, left), triager, asked.jobs, rows.show)
            return outcome.end()


def _streams(
    asked: Asked, begun: Begun, opened: contextlib.AsyncExitStack, *, color: ColorChoice, quiet: bool, verbose: bool
) -> tuple[Streams, Written]:
    """Return where rows and progress go, and the rows that an earlier process has written."""
    if asked.output is not None and asked.file and _is_same(asked.output, asked.file):
        raise UsageError(f"--file and --output are both {asked.output}", hint="--output names a file of its own")
    if asked.output is None or asked.format != "jsonl":
        streams = begun.streams(asked.output, color=color, quiet=quiet, verbose=verbose)
        return opened.enter_context(streams), Written()
    file, written = open_rows(asked.output)
    opened.callback(file.close)
    return Streams(file, sys.stderr, color, quiet, verbose), written


def _is_same(output: Path, source: str) -> bool:
    return output.exists() and Path(source).exists() and output.samefile(source)


async def _open(
    asked: Asked, begun: Begun, show: Show, opened: contextlib.AsyncExitStack
) -> tuple[Access, GitHub | None]:
    """Return settings and servers, and GitHub where issues of it are asked for; a file needs no repository."""
    from miyabi_cli.commands.access import open_access
    from miyabi_cli.commands.means import open_shared
    from miyabi_cli.settings.trust import repository_root

    if asked.file is None:
        shared = open_shared(asked.folder, asked.chosen, asked.config, show, begun, on_github=True, unborn=True)
        found = await opened.enter_async_context(shared)
        return found.access, found.github
    root = await asyncio.to_thread(repository_root, asked.folder)
    settings = flags.resolve_settings(asked.chosen, asked.config, root)
    return await opened.enter_async_context(open_access(settings, show, begun)), None


async def _vocabulary(settings: Settings, github: GitHub | None) -> Vocabulary:
    """Return the labels that may be given: a file's, else the repository's if it has any, else the scheme's."""
    from miyabi_cli.github.issues import list_labels
    from miyabi_cli.triage.labels import read_vocabulary, vocabulary_of

    if settings.triage.labels is None and github is not None:
        found = [label async for label in list_labels(github)]
        if found:
            return vocabulary_of(found)
    return await asyncio.to_thread(read_vocabulary, settings.triage.labels)


async def _material(file: str | None, opened: contextlib.AsyncExitStack) -> tuple[IO[bytes] | None, Likeness | None]:
    """Return a copy of the file, and its issues, of which one may be a duplicate."""
    from miyabi_cli.triage.collecting import index_of_file
    from miyabi_cli.triage.reading import copy_of

    if file is None:
        return None, None
    copy = opened.enter_context(await asyncio.to_thread(copy_of, file, sys.stdin.buffer))
    return copy, opened.enter_context(await asyncio.to_thread(index_of_file, copy))


async def _triager(
    asked: Asked,
    access: Access,
    github: GitHub | None,
    index: Likeness | None,
    run_id: str,
    opened: contextlib.AsyncExitStack,
) -> Triager:
    from miyabi_cli.triage.collecting import index_of_examples, index_of_repository
    from miyabi_cli.triage.rules import shipped_rules
    from miyabi_cli.triage.triager import Triager

    settings = access.settings
    vocabulary = await _vocabulary(settings, github)
    effort = settings.llm.default_reasoning_effort
    triager = Triager(shipped_rules(), vocabulary, settings.triage.confidence, effort=effort)
    if asked.examples is not None:
        triager.examples = opened.enter_context(await asyncio.to_thread(index_of_examples, asked.examples, vocabulary))
    triager.index = index
    if github is not None:
        triager.index = opened.enter_context(await index_of_repository(github))
    if asked.llm:
        try:
            triager.provider = await access.provider("triage", run_id, cost_capped=asked.cost_capped)
        except ProviderError as error:
            triager.failure = error
    return triager


async def _entries(
    asked: Asked, copy: IO[bytes] | None, github: GitHub | None
) -> AsyncIterator[TriageIssue | Unreadable]:
    """Yield what is asked for. Raises UsageError for what names no issue before anything is asked of GitHub."""
    from miyabi_cli.github.issues import issue_number
    from miyabi_cli.triage.collecting import named_issues, open_issues
    from miyabi_cli.triage.reading import read_issues

    if copy is not None:
        for entry in read_issues(copy):
            yield entry
    elif github is not None:
        numbers = [issue_number(name, github.place) for name in asked.numbers]
        async for entry in named_issues(github, numbers) if numbers else open_issues(github):
            yield entry


async def _left(
    entries: AsyncIterator[TriageIssue | Unreadable], written: Written, rows: Rows, outcome: Outcome
) -> AsyncIterator[TriageIssue]:
    """Yield the issues that have no row yet; the labels of the others' rows are put on where that is asked for."""
    from miyabi_cli.triage.issue import Unreadable

    async for entry in entries:
        if isinstance(entry, Unreadable):
            outcome.unreadable(entry)
        elif written.take(entry.number):
            await rows.apply(entry.number, written.labels[entry.number])
        else:
            yield entry


async def _chained(first: TriageIssue, left: AsyncIterator[TriageIssue]) -> AsyncIterator[TriageIssue]:
    yield first
    async for issue in left:
        yield issue
