"""`miyabi codegen`: a task becomes a patch."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import flags
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.requests import Asked, asked, resumed
from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.events import TRANSIENT, Event, RunEnded
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.codegen.result import CodegenResult
    from miyabi_cli.codegen.run import Means
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.report.streams import ColorChoice, Streams
    from miyabi_cli.runs import Run

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi codegen 'fix the failing test in tests/test_dates.py'
  miyabi codegen 'add --json to export' --check 'pytest -q' --check 'ruff check'
  git diff | miyabi codegen - --apply --format json
  miyabi codegen --resume last
"""


def codegen(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(help="What is to be done, in words; - reads it from stdin.")] = None,
    # the repository
    repo: flags.Repo = None,
    base: Annotated[str, typer.Option(help="Work from this commit, branch or tag.", metavar="REV")] = "HEAD",
    include_uncommitted: Annotated[
        bool, typer.Option("--include-uncommitted", help="Take uncommitted changes along; else they are left out.")
    ] = False,
    # the model
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, max=64, help="Tries until one is verified; each in a worktree of its own.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Attempts at the same time.")] = 1,
    # the checks
    check: Annotated[
        list[str] | None,
        typer.Option(help="A command that must exit 0; replaces the checks that were found. May be repeated."),
    ] = None,
    no_checks: Annotated[bool, typer.Option("--no-checks", help="Ask for no proof; the result is unverified.")] = False,
    # what becomes of the patch
    branch: Annotated[str | None, typer.Option(help="Commit on this new branch.", metavar="NAME")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the working tree, if verified; make no branch.")
    ] = False,
    patch: Annotated[
        str | None, typer.Option(help="Write the patch to a file, or - for stdout; make no branch.", metavar="FILE|-")
    ] = None,
    # limits
    max_steps: Annotated[int | None, typer.Option(min=1, help="Replies of the model in one attempt.")] = None,
    max_time: Annotated[float | None, typer.Option(min=0.001, help="Seconds for the whole run.")] = None,
    max_cost: flags.MaxCost = None,
    timeout: flags.Timeout = None,
    # how it runs
    resume: Annotated[
        str | None,
        typer.Option("--resume", help="Go on with a run that was stopped: its id, or last; no TASK.", metavar="RUN"),
    ] = None,
    sandbox: Annotated[
        Literal["auto", "off"] | None, typer.Option(help="off: commands run with your rights and your network.")
    ] = None,
    keep_worktree: Annotated[bool, typer.Option("--keep-worktree", help="Leave the worktree for a look.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show context, checks, prompt size and cost bound; ask no model.")
    ] = False,
    config: flags.Config = None,
    format: Annotated[Literal["text", "json", "jsonl"], flags.FORMAT] = "text",
    output: flags.Output = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    color: flags.Color = "auto",
) -> None:
    """Turn a task into a patch, made in an isolated worktree and verified by the repository's own checks.

    By default the result is one commit on a new branch miyabi/..., and your working tree stays as it is. The result
    goes to stdout, progress to stderr. Exit codes: 0 verified, 1 not verified or nothing changed, 2 usage, 3 the
    provider, 4 the repository or the machine, 5 a limit was reached.
    """
    values = {name: value for name, value in locals().items() if name in context.params}
    given = [name for name in values if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    run = None
    if resume is None:
        values["task"] = flags.read_task(task)
    else:
        from miyabi_cli.runs import find_stopped

        run = find_stopped(resume)
        values, given = resumed(run, values, given)
    wanted = asked(values, given)
    show = _Show(format, output, wanted.patch, color, quiet, verbose)
    raise typer.Exit(run_async(_run(wanted, show, context.obj, dry_run=dry_run, stopped=run)))


@dataclass(frozen=True, slots=True)
class _Show:
    """How the result is shown."""

    format: str
    output: Path | None
    patch: str | None
    color: ColorChoice
    quiet: bool
    verbose: bool


async def _run(asked: Asked, show: _Show, begun: Begun, *, dry_run: bool = False, stopped: Run | None = None) -> int:
    """Open all that a run needs, do it or go on with a stopped one, show the result; return the exit code."""
    from miyabi_cli.codegen.dry_run import preview
    from miyabi_cli.codegen.earlier import read_earlier
    from miyabi_cli.codegen.run import run_codegen
    from miyabi_cli.report.dry_run import write_preview
    from miyabi_cli.report.outputs import open_output
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.runs import PATCH, RESULT, new_run_id, open_log, read_log

    streams = open_streams(show.output, color=show.color, quiet=show.quiet, verbose=show.verbose)
    report = open_output("patch" if show.patch == "-" else show.format, streams)
    progress = Progress(streams)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(progress.close)
        request = asked.request
        async with open_means(request, asked.chosen, asked.config, progress, begun) as means:
            redactor = means.redactor
            if dry_run:
                write_preview(redactor.redact_data(await preview(request, means)), show.format, streams)
                return ExitCode.OK
            run_id = stopped.run_id if stopped else new_run_id()
            log = cleanup.enter_context(open_log(run_id, redactor.redact, resume=stopped is not None))
            begun.run_id = run_id
            earlier = read_earlier(run_id, read_log(log.directory, strict=True)) if stopped else None

            def emit(event: Event) -> None:
                if not isinstance(event, TRANSIENT):
                    report.event(log.write(event))
                progress.show(event)

            keep = functools.partial(log.keep, PATCH)
            result = await run_codegen(request, means, run_id=run_id, emit=emit, keep=keep, earlier=earlier)
            data = result.data()
            log.keep(RESULT, json.dumps(data, indent=2).encode())
            ended = log.write(RunEnded(redactor.redact_data(data)))
            report.event({**ended, "result": data})
            progress.close()
            if show.patch is not None:
                _write_patch(show.patch, result.patch_bytes, streams)
            report.result(redactor.redact_data(data) if show.format == "text" else data)
            return exit_code(result, request)


def play_again(run: Run, *, verbose: bool, color: ColorChoice) -> None:
    """Do a past run again with its recorded replies: tools and checks run anew, the patch goes to stdout.

    Raises UsageError where the run's log has no beginning.
    """
    from miyabi_cli.codegen.request import CodegenRequest, Delivery
    from miyabi_cli.runs import EVENTS, read_log

    first = next((event for event in read_log(run.directory) if event["type"] == "run_started"), None)
    if first is None:
        raise UsageError(f"run {run.run_id} has no events to play", hint="miyabi runs list shows the others")
    options = first["options"]
    request = CodegenRequest(
        task=first["task"],
        base=first["base"],
        requested_checks=tuple(options["checks"]),
        checks_wanted=options["checks_wanted"],
        attempts=options["attempts"],
        delivery=Delivery("patch"),
        folder=Path(first["repository"]),
    )
    chosen = {"llm": {"provider": "replay", "replay": {"file": str(run.directory / EVENTS)}}}
    show = _Show("text", None, "-", color, False, verbose)
    raise typer.Exit(run_async(_run(Asked(request, chosen, None, "-"), show, Begun())))


@contextlib.asynccontextmanager
async def open_means(
    request: CodegenRequest, chosen: dict[str, Any], config: Path | None, progress: Progress, begun: Begun
) -> AsyncIterator[Means]:
    """Open repository, settings, sandbox and provider for a run, and close them after it.

    `begun` learns the secrets before anything is asked of a server.
    """
    from miyabi_cli.codegen.run import Means
    from miyabi_cli.events import ProgressMade, WarningRaised
    from miyabi_cli.llm.table import open_provider
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.settings.keys import secrets_in_settings
    from miyabi_cli.workspace.policy import Policy
    from miyabi_cli.workspace.repository import open_repository, secrets_in_configuration
    from miyabi_cli.workspace.sandbox import open_sandbox

    repository = await asyncio.to_thread(open_repository, request.folder)
    settings = flags.resolve_settings(chosen, config, repository.root)
    configured = await asyncio.to_thread(secrets_in_configuration, repository)
    environment = secrets_in_environment(os.environ)
    begun.redactor = redactor_of(environment, secrets_in_settings(settings), configured)
    sandbox = open_sandbox(
        settings.sandbox.mode,
        repository=repository.root,
        environ=os.environ,
        policy=Policy(settings.sandbox.read, settings.sandbox.write, settings.sandbox.network),
    )
    provider = await open_provider(
        settings,
        lambda what: progress.show(ProgressMade(begun.redactor.redact(what))),
        lambda what: progress.show(WarningRaised("provider", "", begun.redactor.redact(what))),
    )
    provider.redactor = begun.redactor
    try:
        yield Means(settings, repository, provider, sandbox, os.environ, begun.redactor)
    finally:
        await provider.close()


def exit_code(result: CodegenResult, request: CodegenRequest) -> ExitCode:
    """Return what a result means to the caller."""
    from miyabi_cli.codegen.delivery import succeeded

    if succeeded(result.status, request):
        return ExitCode.OK
    return ExitCode.LIMIT if result.status == "limit" else ExitCode.NOT_GOOD_ENOUGH


def _write_patch(name: str, patch: bytes, streams: Streams) -> None:
    """Write the patch byte for byte; but a terminal gets none of its escapes."""
    from miyabi_cli.report.display import safe_text

    if name == "-":
        for_the_eye = safe_text(patch.decode("utf-8", "replace")).encode("utf-8", "replace")
        streams.write_bytes(for_the_eye if streams.output.isatty() else patch)
        return
    try:
        Path(name).write_bytes(patch)
    except OSError as error:
        raise MachineError(f"can't write {name}: {error.strerror}") from None
