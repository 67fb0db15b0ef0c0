"""Opens all that a triage needs, does it, shows its rows, and puts the labels on the issues if that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from miyabi_cli.commands import flags
from miyabi_cli.commands.begun import Begun
from miyabi_cli.errors import MachineError, MiyabiError, ProviderError, UsageError
from miyabi_cli.events import WarningRaised
from miyabi_cli.exits import ExitCode
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.streams import ColorChoice, Streams

if TYPE_CHECKING:
    from miyabi_cli.commands.access import Access, Show
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.triage.applying import Applier
    from miyabi_cli.triage.issue import TriageIssue, Unreadable
    from miyabi_cli.triage.labels import Vocabulary
    from miyabi_cli.triage.likeness import Likeness
    from miyabi_cli.triage.row import Row
    from miyabi_cli.triage.triager import Triager

SHOWN_PROBLEMS = 3


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


@dataclass(slots=True)
class _Outcome:
    """What there is to say at the end."""

    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    failed_labels: MiyabiError | None = None
    without_model: str = ""

    def unreadable(self, entry: Unreadable) -> None:
        """Note an entry that is no issue."""
        self.problem_count += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(f"{entry.place}: {entry.problem}")


async def do_triage(asked: Asked, begun: Begun, *, color: ColorChoice, quiet: bool, verbose: bool) -> int:
    """Triage what is asked for; return the exit code.

    Raises UsageError at the end where entries of a file were no issues: all others have their rows by then.
    """
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.runs import new_run_id
    from miyabi_cli.triage.run import triage_all

    run_id = begun.run_id = new_run_id()
    outcome = _Outcome()
    async with contextlib.AsyncExitStack() as opened:
        streams, done = _streams(asked, begun, opened, color=color, quiet=quiet, verbose=verbose)
        progress = Progress(streams)
        opened.callback(progress.close)
        access, github = await _open(asked, begun, progress.show, opened)
        vocabulary = await _vocabulary(access.settings, github)
        copy, index = await _material(asked, github, opened)
        triager = await _triager(asked, access, vocabulary, index, run_id, opened)
        if triager.failure is not None:
            progress.show(WarningRaised("provider", "", f"{triager.failure.message}: rules triage the issues"))
        hub = github if asked.apply else None
        entries = _without(done, _entries(asked, copy, github))
        with _Rows(asked, access, streams, hub, outcome, progress.show, begun.result_begins) as rows:
            await triage_all(entries, triager, asked.jobs, rows.show, outcome.unreadable)
            return _end(outcome)


def _end(outcome: _Outcome) -> int:
    if outcome.problem_count:
        told = "; ".join(outcome.problems)
        more = outcome.problem_count - len(outcome.problems)
        raise UsageError(f"{told}{f'; and {more} more' if more else ''}", hint="all other issues have their rows")
    if outcome.failed_labels is not None:
        raise outcome.failed_labels
    return ExitCode.OK


def _streams(
    asked: Asked, begun: Begun, opened: contextlib.AsyncExitStack, *, color: ColorChoice, quiet: bool, verbose: bool
) -> tuple[Streams, Counter[int]]:
    """Return where rows and progress go, and the rows that an earlier process has written, by number."""
    if asked.output is not None and asked.file and _is_same(asked.output, asked.file):
        raise UsageError(f"--file and --output are both {asked.output}", hint="--output names a file of its own")
    if asked.output is None or asked.format != "jsonl":
        streams = begun.streams(asked.output, color=color, quiet=quiet, verbose=verbose)
        return opened.enter_context(streams), Counter()
    from miyabi_cli.commands.triage_results import open_rows

    file, done = open_rows(asked.output)
    opened.callback(file.close)
    return Streams(file, sys.stderr, color, quiet, verbose), done


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
        shared = open_shared(asked.folder, asked.chosen, asked.config, show, begun, on_github=True)
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


async def _material(
    asked: Asked, github: GitHub | None, opened: contextlib.AsyncExitStack
) -> tuple[IO[bytes] | None, Likeness | None]:
    """Return a copy of the file, and the issues that one may be a duplicate of: the file's or the repository's."""
    from miyabi_cli.triage.collecting import index_of_file, index_of_repository
    from miyabi_cli.triage.reading import copy_of

    if asked.file is not None:
        copy = opened.enter_context(await asyncio.to_thread(copy_of, asked.file, sys.stdin.buffer))
        return copy, opened.enter_context(await asyncio.to_thread(index_of_file, copy))
    if github is None:
        raise MachineError("there is no GitHub to read issues from")
    return None, opened.enter_context(await index_of_repository(github))


async def _triager(
    asked: Asked,
    access: Access,
    vocabulary: Vocabulary,
    index: Likeness | None,
    run_id: str,
    opened: contextlib.AsyncExitStack,
) -> Triager:
    from miyabi_cli.triage.collecting import index_of_examples
    from miyabi_cli.triage.rules import shipped_rules
    from miyabi_cli.triage.triager import Triager

    settings = access.settings
    triager = Triager(
        shipped_rules(), vocabulary, settings.triage.confidence, effort=settings.llm.default_reasoning_effort,
        index=index,
    )  # fmt: skip
    if asked.examples is not None:
        triager.examples = opened.enter_context(await asyncio.to_thread(index_of_examples, asked.examples, vocabulary))
    if asked.llm:
        try:
            triager.provider = await access.provider("triage", run_id, cost_capped=asked.cost_capped)
        except ProviderError as error:
            triager.failure = error
    return triager


async def _entries(
    asked: Asked, copy: IO[bytes] | None, github: GitHub | None
) -> AsyncIterator[TriageIssue | Unreadable]:
    from miyabi_cli.triage.collecting import named_issues, open_issues
    from miyabi_cli.triage.reading import read_issues

    if copy is not None:
        for entry in read_issues(copy):
            yield entry
    elif github is not None:
        async for entry in named_issues(github, asked.numbers) if asked.numbers else open_issues(github):
            yield entry


async def _without(
    done: Counter[int], entries: AsyncIterator[TriageIssue | Unreadable]
) -> AsyncIterator[TriageIssue | Unreadable]:
    """Yield the entries that have no row yet."""
    async for entry in entries:
        number = getattr(entry, "number", 0)
        if done[number] > 0:
            done[number] -= 1
        else:
            yield entry


class _Rows:
    """Shows each row as it comes, and puts its labels on the issue where that is asked for.

    The end of a `with` ends the output, but where an error has left it without a row: then that is the output.
    """

    def __init__(
        self,
        asked: Asked,
        access: Access,
        streams: Streams,
        github: GitHub | None,
        outcome: _Outcome,
        show: Show,
        begins: Callable[[], None],
    ) -> None:
        from miyabi_cli.report.triage import OUTPUTS
        from miyabi_cli.triage.applying import Applier

        self._applier = Applier(github) if github is not None else None
        self._output = OUTPUTS[asked.format](streams)
        self._access, self._outcome, self._tell = access, outcome, show
        self._console = None if streams.quiet else streams.console(streams.talk)
        self._escalates = asked.format != "text"  # which says so itself
        self._begins, self._is_begun = begins, False

    async def show(self, row: Row) -> None:
        """Show a row, then write its labels: a row is not lost where GitHub refuses."""
        from miyabi_cli.report.triage import escalation_of

        if not self._is_begun:
            self._is_begun = True
            self._begins()
        data = self._access.redactor.redact_data(row.data())
        self._output.row(data)
        if row.error and row.error["message"] != self._outcome.without_model:
            self._outcome.without_model = row.error["message"]
            self._warn(f"#{row.number}: {row.error['message']}: rules have triaged it")
        if self._escalates and (escalation := escalation_of(data)):
            self._say(escalation)
        if self._applier is not None:
            await self._apply(self._applier, row)

    async def _apply(self, applier: Applier, row: Row) -> None:
        try:
            change = await applier.add_missing(row)
        except MiyabiError as error:
            self._outcome.failed_labels = error
            self._warn(f"#{row.number}: {error.message}")
            return
        self._say(self._access.redactor.redact(str(change)))

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.print(plain_text(text), soft_wrap=True)

    def _warn(self, text: str) -> None:
        self._tell(WarningRaised("triage", "", self._access.redactor.redact(text)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_begun or kind is None:
            self._output.close()
