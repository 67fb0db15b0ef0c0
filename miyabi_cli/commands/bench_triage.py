"""`miyabi bench triage`: how well rules, and a model, tell what labelled issues are; each by what it has not seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from miyabi_cli.commands import bench_output, flags
from miyabi_cli.commands.access import open_access
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.bench_endings import error_of_trials
from miyabi_cli.errors import BudgetReached, UsageError
from miyabi_cli.events import Event
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.bench.triage_measures import Guess
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.triage.issue import TriageIssue
    from miyabi_cli.triage.likeness import Likeness
    from miyabi_cli.triage.row import IssueType
    from miyabi_cli.triage.rules import Rules

FEWEST_REPOSITORIES = 2

EPILOG = """\b
Data: JSON Lines or CSV with the columns repo, label, title and body; docs/triage.md describes them.

\b
Examples:
  miyabi bench triage --data issues.csv --no-llm --output rules.json
  miyabi bench triage --data issues.csv --examples --limit 60 --provider ollama
"""


def triage(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Labelled issues of two repositories at least.", metavar="FILE")],
    limit: Annotated[int | None, typer.Option(min=1, help="So many issues, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the issues of --limit.")] = 1,
    examples: Annotated[
        bool, typer.Option("--examples", help="Show the model the other issues that are most alike, with their labels.")
    ] = False,
    no_llm: Annotated[bool, typer.Option("--no-llm", help="Measure the rules alone.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=1000, help="Issues at the same time.")] = 1,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
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
    """Triage issues of which the type is known. The rules are fitted anew for each repository, by the others alone.

    With --examples no issue is its own example. What the model failed on is in no figure. Exit codes: 0 done,
    2 usage, 3 the provider failed on some issues, 4 the machine, 5 a cap on cost.
    """
    values = {name: value for name, value in locals().items() if name in context.params}
    raise typer.Exit(run_async(_run(values, sys.argv[1:], context.obj)))


async def _run(values: Mapping[str, Any], arguments: Sequence[str], begun: Begun) -> int:
    from miyabi_cli.bench.document import Document
    from miyabi_cli.bench.environment import describe_environment
    from miyabi_cli.bench.triage_measures import row_of, summarise
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.report.trials import TrialProgress
    from miyabi_cli.runs import new_run_id

    outlets = bench_output.open_outlets(
        values["output"], values["html"], values["format"], values["color"], inputs=[values["data"]]
    )
    issues = await asyncio.to_thread(read_labelled, values["data"])
    drawn = _drawn(issues, values["limit"], values["seed"])
    settings = flags.resolve_settings(flags.nested(_chosen(values)), values["config"], None)
    streams = open_streams(None, color=values["color"], quiet=values["quiet"], verbose=False)
    progress = TrialProgress(streams)

    def show(event: Event) -> None:
        progress.show("", event)

    classes = sorted({issue.truth for issue in issues})
    async with contextlib.AsyncExitStack() as opened:
        access = await opened.enter_async_context(open_access(settings, show, begun))
        provider = None
        if not values["no_llm"]:
            provider = await access.provider("bench", new_run_id(), cost_capped=values["max_cost"] is not None)
        index = opened.enter_context(_index(issues)) if values["examples"] else None
        bench = _Folds(issues, classes, provider, index, values["jobs"])
        guesses = [guess async for guess in bench.guesses(drawn)]
        named = {"provider": provider.name if provider else None, "model": provider.model_name if provider else None}
        about = await describe_environment(
            settings,
            **named,
            flags=arguments,
            seeds=[values["seed"]],
            repository=None,
            environ=os.environ,
        )
        asked = {name: values[name] for name in ("limit", "seed", "examples", "no_llm", "jobs")}
        document = Document("triage", about, asked, list(map(row_of, guesses)), summarise(guesses, classes))
        outlets.deliver(document, access.redactor)
        begun.result_begins()
        reason = access.redactor.redact(bench.reason)
    streams.talk.write(error_of_trials(document, reason, "miyabi doctor says what the server lacks"))
    return _exit_code({guess.failure for guess in guesses} - {""})


def _exit_code(failures: set[str]) -> int:
    """Return the exit code of a benchmark of which the model has failed on some issues, by the errors' kinds."""
    if not failures:
        return ExitCode.OK
    return ExitCode.LIMIT if BudgetReached.kind in failures else ExitCode.PROVIDER


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **flags.provider_flags(values["provider"], values["model"], values["endpoint"]),
        "llm.default_reasoning_effort": values["effort"],
        "llm.timeout": values["timeout"],
        "budget.per_run_usd": values["max_cost"],
    }


def read_labelled(path: Path) -> list[TriageIssue]:
    """Return the labelled issues of a file, numbered by their places in it. Raises UsageError, MachineError."""
    from dataclasses import replace

    from miyabi_cli.triage.issue import TriageIssue
    from miyabi_cli.triage.reading import copy_of, read_issues
    from miyabi_cli.triage.row import TYPES

    found: list[TriageIssue] = []
    with copy_of(str(path)) as copy:
        for place, entry in enumerate(read_issues(copy), 1):
            if not isinstance(entry, TriageIssue):
                raise UsageError(f"{path}: {entry.place}: {entry.problem}")
            if entry.truth not in TYPES:
                raise UsageError(f"{path}: issue {place} has no label", hint=f"label is one of {', '.join(TYPES)}")
            found.append(replace(entry, number=place))
    if len({issue.repository for issue in found}) < FEWEST_REPOSITORIES:
        hint = "the column repo says of which repository an issue is"
        raise UsageError(f"{path} has issues of fewer than {FEWEST_REPOSITORIES} repositories", hint=hint)
    return found


def _drawn(issues: Sequence[TriageIssue], limit: int | None, seed: int) -> Sequence[TriageIssue]:
    if limit is None or limit >= len(issues):
        return issues
    return random.Random(seed).sample(list(issues), limit)  # noqa: S311 (a sample, and no secret)


def _index(issues: Sequence[TriageIssue]) -> Likeness:
    from miyabi_cli.triage.likeness import Likeness

    index = Likeness()
    for issue in issues:
        index.add(issue)
    return index


class _Folds:
    """Guesses at issues, those of a repository by rules that were fitted to the others."""

    def __init__(
        self,
        issues: Sequence[TriageIssue],
        classes: Sequence[str],
        provider: Provider | None,
        examples: Likeness | None,
        jobs: int,
    ) -> None:
        self._issues, self._classes = issues, cast("Sequence[IssueType]", classes)
        self._provider, self._examples, self._jobs = provider, examples, jobs
        self.reason = ""  # why the first failure came to be

    async def guesses(self, drawn: Sequence[TriageIssue]) -> AsyncIterator[Guess]:
        """Yield a guess at each issue."""
        from miyabi_cli.triage.labels import read_vocabulary
        from miyabi_cli.triage.triager import Triager

        places = asyncio.Semaphore(self._jobs)
        for repository in sorted({issue.repository for issue in drawn}):
            rules = await asyncio.to_thread(self._fitted, repository)
            triager = Triager(
                rules, read_vocabulary(None), 0.0, self._provider, examples=self._examples, among=self._classes
            )

            async def one(issue: TriageIssue, triager: Triager = triager) -> Guess:
                async with places:
                    return await self._guess(issue, triager)

            own = [one(issue) for issue in drawn if issue.repository == repository]
            for guess in await asyncio.gather(*own):
                yield guess

    def _fitted(self, repository: str) -> Rules:
        """Return rules that were fitted to all repositories but one."""
        from miyabi_cli.triage.learning import fit, labelled
        from miyabi_cli.triage.rules import rules_of, shipped_phrases

        others = [
            labelled(issue.repository, issue.truth, issue.title, issue.body)
            for issue in self._issues
            if issue.repository != repository
        ]
        return rules_of(fit(others), shipped_phrases())

    async def _guess(self, issue: TriageIssue, triager: Any) -> Guess:
        from miyabi_cli.bench.triage_measures import Guess

        started = time.perf_counter()
        row = await triager.triage(issue)
        seconds = time.perf_counter() - started
        if row.error is not None:
            self.reason = self.reason or row.error["message"]
        return Guess(
            f"{issue.repository}#{issue.number}",
            issue.repository,
            issue.truth,
            row.type,
            row.confidence,
            row.source,
            seconds,
            row.usage,
            row.error["kind"] if row.error else "",
        )
