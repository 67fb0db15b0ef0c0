"""`miyabi codegen`: a task becomes a patch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import completion, flags
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.github import failure_in_summary, result_in_summary, take_up
from miyabi_cli.commands.means import means_of, open_shared
from miyabi_cli.commands.one_run import OneRun, exit_code
from miyabi_cli.commands.requests import Asked, asked, check_flags, played, read_task, resumed
from miyabi_cli.errors import MachineError
from miyabi_cli.events import Event
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.report.streams import ColorChoice, Streams
    from miyabi_cli.runs import Run

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi codegen 'fix the failing test in tests/test_dates.py'
  miyabi codegen 'add --json to export' --check 'pytest -q' --check 'ruff check'
  git diff | miyabi codegen - --apply --format json
  miyabi codegen --issue 12 --draft-pr
  miyabi codegen --from last 'keep the old name as an alias'
  miyabi codegen --tasks backlog.jsonl --jobs 4 --output results.jsonl
  miyabi codegen --resume last
"""


def codegen(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(help="What is to be done, in words; - reads it from stdin.")] = None,
    issue: Annotated[
        str | None, typer.Option(help="Take the task from an issue of the repository's GitHub.", metavar="N|URL")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", help="Do the tasks of a file, a JSON object a line; -: stdin.", metavar="FILE|-"),
    ] = None,
    # the repository
    repo: flags.Repo = None,
    base: Annotated[
        str,
        typer.Option(
            help="Work from this commit, branch or tag.",
            metavar="REV",
            autocompletion=completion.complete_revision,
        ),
    ] = "HEAD",
    include_uncommitted: Annotated[
        bool, typer.Option("--include-uncommitted", help="Take uncommitted changes along; else they are left out.")
    ] = False,
    # the model
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, max=256, help="Tries until one is verified; each in a worktree of its own.")
    ] = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Make them all and take the best, not the first that is verified.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=256, help="Attempts, or with --tasks tasks, at the same time.")
    ] = 1,
    # the checks
    check: Annotated[
        list[str] | None,
        typer.Option(help="A command that must exit 0; replaces the checks that were found. May be repeated."),
    ] = None,
    no_checks: Annotated[bool, typer.Option("--no-checks", help="Ask for no proof; the result is unverified.")] = False,
    tests: Annotated[
        bool, typer.Option("--tests/--no-tests", help="Ask for tests of the change; they must fail without it.")
    ] = True,
    docs: Annotated[bool, typer.Option("--docs/--no-docs", help="Ask for documentation of what is added.")] = False,
    # what becomes of the patch
    branch: Annotated[str | None, typer.Option(help="Commit on this new branch.", metavar="NAME")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change the working tree, if verified; make no branch.")
    ] = False,
    patch: Annotated[
        str | None, typer.Option(help="Write the patch to a file, or - for stdout; make no branch.", metavar="FILE|-")
    ] = None,
    draft_pr: Annotated[
        bool, typer.Option("--draft-pr", help="Push the branch and open a draft pull request, if verified.")
    ] = False,
    # limits
    max_steps: Annotated[int | None, typer.Option(min=1, help="Replies of the model in one attempt.")] = None,
    max_time: Annotated[float | None, typer.Option(min=0.001, help="Seconds for the whole run.")] = None,
    max_cost: flags.MaxCost = None,
    timeout: flags.Timeout = None,
    # how it runs
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Go on with a run that was stopped or met a limit: its id, or last; no TASK.",
            metavar="RUN",
            autocompletion=completion.complete_stopped_run,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Go on from a run's result, with TASK as feedback on it: its id, or last.",
            metavar="RUN",
            autocompletion=completion.complete_run,
        ),
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
    check_flags(values, given)
    if tasks is not None:
        from miyabi_cli.commands.tasks import run_tasks

        form = format if "format" in given else "jsonl"
        raise typer.Exit(run_tasks(tasks, {**values, "format": form}, given, context.obj))
    run = None
    if resume is None:
        values["task"] = read_task(task, issue)
    else:
        from miyabi_cli.runs import find_stopped

        run = find_stopped(resume)
        context.obj.run_id = run.run_id
        values, given = resumed(run, values, given, context)
    wanted = asked(values, given)
    show = _Show(format, output, wanted.patch, color, quiet, verbose)
    with failure_in_summary(wanted.request.name or f"issue {issue}", context.obj):
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
    from miyabi_cli.report.dry_run import write_preview
    from miyabi_cli.report.outputs import open_output
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.runs import new_run_id

    streams = begun.streams(show.output, color=show.color, quiet=show.quiet, verbose=show.verbose)
    report = open_output("patch" if show.patch == "-" else show.format, streams)
    progress = Progress(streams)
    run_id = stopped.run_id if stopped else None if dry_run else new_run_id()

    def told(event: Event, kept: dict[str, Any] | None) -> None:
        if kept is not None:
            report.event(kept)
        progress.show(event)

    def write_patch(patch: bytes) -> None:
        if show.patch not in (None, "-"):
            _write_patch(Path(show.patch), patch)

    with streams, contextlib.closing(progress):
        folder, on_github = asked.request.folder, asked.on_github
        opened = open_shared(folder, asked.chosen, asked.config, progress.show, begun, on_github=on_github)
        async with opened as shared:
            means = await means_of(shared, asked.request, run_id, shared.access.warn)
            request, destination = await take_up(asked, means, dry_run=dry_run)
            if run_id is None:
                write_preview(means.redactor.redact_data(await preview(request, means)), show.format, streams)
                return ExitCode.OK
            run = OneRun(request, means, destination, run_id, begun, told, write_patch)
            result = await run.do(resume=stopped is not None)
            progress.close()
            if show.patch == "-":
                _print_patch(result.patch_bytes, streams)
            data = result.data()
            report.result(means.redactor.redact_data(data) if show.format == "text" else data)
            result_in_summary(request.name, data, begun)
            return exit_code(result.status, request)


def play_again(run: Run, *, verbose: bool, color: ColorChoice) -> None:
    """Do a past run again with its recorded replies: tools and checks run anew, the patch goes to stdout.

    Raises UsageError where the run's log has no beginning, MachineError where it is damaged.
    """
    from miyabi_cli.runs import EVENTS

    request = played(run)
    chosen = {"llm": {"provider": "replay", "replay": {"file": str(run.directory / EVENTS)}}}
    show = _Show("text", None, "-", color, False, verbose)
    raise typer.Exit(run_async(_run(Asked(request, chosen, None, "-"), show, Begun())))


def _print_patch(patch: bytes, streams: Streams) -> None:
    """Write the patch byte for byte; but a terminal gets none of its escapes."""
    from miyabi_cli.report.display import safe_text

    for_the_eye = safe_text(patch.decode("utf-8", "replace")).encode("utf-8", "replace")
    streams.write_bytes(for_the_eye if streams.output.isatty() else patch)


def _write_patch(file: Path, patch: bytes) -> None:
    try:
        file.write_bytes(patch)
    except OSError as error:
        raise MachineError(f"can't write {file}: {error.strerror}") from None
