"""`miyabi bench review`: what a model's reviews find of what good reviewers said, and what they say in vain."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import bench_output, flags
from miyabi_cli.commands.access import open_access
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.bench_endings import error_of_trials
from miyabi_cli.errors import (
    MiyabiError,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
)
from miyabi_cli.events import Event
from miyabi_cli.exits import ExitCode, exit_code_of

if TYPE_CHECKING:
    from miyabi_cli.bench.document import Document
    from miyabi_cli.bench.journal import Journal
    from miyabi_cli.bench.review_measures import Pair, ReviewCase, Reviewed
    from miyabi_cli.commands.access import Access
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.report.trials import TrialProgress
    from miyabi_cli.review.change import Change
    from miyabi_cli.review.findings import SourceResult

# A provider that fails so for some cases in a row would do so for all, each of them after it has been asked again.
NOT_THERE = (ProviderUnreachable, ProviderRefused, ProviderOverloaded)
MOST_IN_A_ROW = 3

EPILOG = """\b
Data: JSON lines, each with a diff and the comments of good reviewers, or with a correct and a buggy version of a
file; docs/bench.md describes them.

\b
Examples:
  miyabi bench review --data pull-requests.jsonl --output review.json
  miyabi bench review --data planted.jsonl --limit 20 --provider ollama --html review.html
"""


def review(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Changes, and what good reviewers say of them: JSONL.", metavar="FILE")],
    limit: Annotated[int | None, typer.Option(min=1, help="So many cases, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cases of --limit.")] = 1,
    near: Annotated[
        int, typer.Option(min=0, max=1000, help="Lines between a finding and a comment on the same thing.")
    ] = 3,
    compared: Annotated[
        bool,
        typer.Option(
            "--compared", help="Let the model say whether a finding speaks of the same as the comment near it."
        ),
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Cases at the same time.")] = 1,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    max_time: Annotated[float | None, typer.Option(min=0.001, help="Seconds of one case.")] = None,
    max_cost: flags.MaxCost = None,
    timeout: flags.Timeout = None,
    config: flags.Config = None,
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", "-f", help="text for people, json for programs.")
    ] = "text",
    output: bench_output.Output = None,
    html: bench_output.Html = None,
    quiet: flags.Quiet = False,
    color: flags.Color = "auto",
) -> None:
    """Review changes of which is known what good reviewers say, and report what was found and what was said in vain.

    Only the model is measured: linters need the whole repository. With --output each result is kept beside the report,
    so that the same command goes on where it was stopped. Exit codes: 0 done, 2 usage, 3 the provider, 4 the
    machine, 5 a limit of time or cost.
    """
    values = {name: value for name, value in locals().items() if name in context.params}
    raise typer.Exit(run_async(_run(values, sys.argv[1:], context.obj)))


async def _run(values: Mapping[str, Any], arguments: Sequence[str], begun: Begun) -> int:
    from miyabi_cli.bench.review_measures import read_cases
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.report.trials import TrialProgress
    from miyabi_cli.runs import new_run_id

    outlets = bench_output.open_outlets(
        values["output"], values["html"], values["format"], values["color"], inputs=[values["data"]]
    )
    cases = _drawn(await asyncio.to_thread(read_cases, values["data"]), values["limit"], values["seed"])
    settings = flags.resolve_settings(flags.nested(_chosen(values)), values["config"], None)
    streams = open_streams(None, color=values["color"], quiet=values["quiet"], verbose=False)
    progress = TrialProgress(streams)
    progress.total = len(cases)

    def show(event: Event) -> None:
        progress.show("", event)

    async with open_access(settings, show, begun) as access:
        capped = values["max_cost"] is not None
        provider = await access.provider("bench", new_run_id(), cost_capped=capped)
        bench = _Bench(values, access, provider, progress)
        with _journal(values["output"], bench.digest) as journal:
            rows = await bench.measure(cases, journal)
            document = await bench.document(rows, arguments)
            outlets.deliver(document, access.redactor)
        reason = access.redactor.redact(bench.errors[0].message) if bench.errors else ""
        streams.talk.write(error_of_trials(document, reason))
        if journal and bench.exit_code == ExitCode.OK:
            journal.path.unlink(missing_ok=True)  # the report has all of it
    return bench.exit_code


@contextlib.contextmanager
def _journal(output: Path | None, digest: str) -> Iterator[Journal | None]:
    """Open the journal beside the report, so that the same command goes on where it was stopped."""
    from miyabi_cli.bench.journal import Journal

    if output is None or (output.exists() and not output.is_file()):
        yield None
        return
    with Journal(output.with_name(f"{output.name}.journal"), digest) as journal:
        yield journal


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **flags.provider_flags(values["provider"], values["model"], values["endpoint"]),
        "llm.default_reasoning_effort": values["effort"],
        "llm.timeout": values["timeout"],
        "limits.seconds": values["max_time"],
        "budget.per_run_usd": values["max_cost"],
    }


def _drawn(cases: Sequence[ReviewCase], limit: int | None, seed: int) -> Sequence[ReviewCase]:
    if limit is None or limit >= len(cases):
        return cases
    return random.Random(seed).sample(list(cases), limit)  # noqa: S311 - a sample, and no secret


@dataclass(slots=True)
class _Bench:
    """A benchmark under way.

    `errors` are those that ended a case, `in_a_row` the last of them that would end any; `limited`: a limit ended one.
    """

    values: Mapping[str, Any]
    access: Access
    provider: Provider
    progress: TrialProgress
    errors: list[MiyabiError] = field(default_factory=list)
    in_a_row: int = 0
    limited: bool = False

    @property
    def digest(self) -> str:
        """Tells whether earlier results are of the same question."""
        effort = self.access.settings.llm.default_reasoning_effort
        asked = [self.provider.name, self.provider.model_name, effort, self.values["near"], self.values["compared"]]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    async def measure(self, cases: Sequence[ReviewCase], journal: Journal | None) -> list[dict[str, Any]]:
        """Review the cases that the journal does not have; return the rows of all, in their order."""
        places = asyncio.Semaphore(self.values["jobs"])
        kept = [row for row in journal.rows if self._is_told(row)] if journal else []
        known = {(row["id"], row["digest"]): row for row in kept}
        done = 0

        async def one(case: ReviewCase) -> dict[str, Any]:
            nonlocal done
            if (row := known.get((case.id, case.digest))) is None:
                async with places:
                    self.progress.started(case.id)
                    row = await self._row(case)
                if journal and row["passed"] is not None:
                    journal.write(row)
            self.limited = self.limited or "limit" in (row["status"], row["failure"])
            done += 1
            self.progress.ended(row, done)
            return row

        return list(await asyncio.gather(*map(one, cases)))

    def _is_told(self, row: Mapping[str, Any]) -> bool:
        """Say whether an earlier result still tells what a review gives in the time that a case has now."""
        return bool(row["status"] != "limit" or row["seconds"] >= self.access.settings.limits.seconds)

    async def _row(self, case: ReviewCase) -> dict[str, Any]:
        from miyabi_cli.bench.review_measures import measure

        reviewed, unlike = await self._compared(case, await self._review(case))
        return measure(case, reviewed, self.values["near"], unlike)

    async def _compared(self, case: ReviewCase, reviewed: Reviewed) -> tuple[Reviewed, frozenset[Pair]]:
        """Return what is near each other and not the same, where that was asked for, with its cost in the usage."""
        if not self.values["compared"] or reviewed.failure:
            return reviewed, frozenset()
        from miyabi_cli.bench.similarity import unlike_pairs

        try:
            unlike, usage = await unlike_pairs(case, reviewed, self.values["near"], self.provider)
        except ProviderError as error:
            self.errors.append(error)
            return replace(reviewed, failure=error.kind, usage=reviewed.usage + error.usage), frozenset()
        return replace(reviewed, usage=reviewed.usage + usage), unlike

    async def _review(self, case: ReviewCase) -> Reviewed:
        from miyabi_cli.bench.review_measures import Comment, Reviewed
        from miyabi_cli.review.means import ReviewMeans
        from miyabi_cli.review.model.source import find

        if self.in_a_row >= MOST_IN_A_ROW:
            return Reviewed(complete=False, failure=self.errors[-1].kind)
        settings, started = self.access.settings, time.monotonic()
        deadline = started + settings.limits.seconds
        means = ReviewMeans(settings, os.environ, provider=self.provider, deadline=deadline)
        result: SourceResult = await find(_change_of(case), means)
        if result.error is not None:
            self.errors.append(result.error)
        self.in_a_row = self.in_a_row + 1 if isinstance(result.error, NOT_THERE) else 0
        out_of_time = result.limit and time.monotonic() >= deadline
        failure = result.error.kind if result.error else "limit" if result.limit and not out_of_time else ""
        return Reviewed(
            tuple(Comment(one.path, one.line, one.end_line, one.message) for one in result.findings),
            result.complete,
            sum(one.count for one in result.dropped),
            result.usage,
            time.monotonic() - started,
            failure,
            out_of_time,
        )

    async def document(self, rows: Sequence[Mapping[str, Any]], arguments: Sequence[str]) -> Document:
        from miyabi_cli.bench.document import Document
        from miyabi_cli.bench.environment import describe_environment
        from miyabi_cli.bench.review_measures import summarise

        environment = await describe_environment(
            self.access.settings,
            provider=self.provider.name,
            model=self.provider.model_name,
            flags=arguments,
            seeds=[self.values["seed"]],
            repository=None,
            environ=os.environ,
        )
        settings = {
            "data": self.values["data"].name,
            "near": self.values["near"],
            "compared": self.values["compared"],
            "limit": self.values["limit"],
            "effort": self.access.settings.llm.default_reasoning_effort,
        }
        return Document("review", environment, settings, rows, summarise(rows))

    @property
    def exit_code(self) -> int:
        """A case of which nothing could be told makes the benchmark no good one."""
        if self.errors:
            return int(exit_code_of(self.errors[0]))
        return int(ExitCode.LIMIT if self.limited else ExitCode.OK)


def _change_of(case: ReviewCase) -> Change:
    """Return a case as a change without its repository, with the files' texts as far as they are known."""
    from miyabi_cli.review.selecting import change_of_diff

    change = change_of_diff(case.diff)
    files = tuple(replace(file, text=case.texts.get(file.path)) for file in change.files)
    return replace(change, files=files)
