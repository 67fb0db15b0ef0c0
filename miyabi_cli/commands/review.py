"""`miyabi review`: linters and a model look at a change, and one score says what they found."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from miyabi_cli.commands import completion, flags
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.errors import MachineError, UsageError

MAXIMUM_DIFF = 256 << 20  # bytes
FORMATS = ("text", "json", "sarif", "github", "markdown")

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi review
  miyabi review --staged --no-llm
  miyabi review --base main --format sarif --output review.sarif
  miyabi review main...feature --fail-on error
  git diff | miyabi review --diff -
  miyabi review --write-baseline accepted.json
"""


def review(
    context: typer.Context,
    range: Annotated[
        str | None,
        typer.Argument(
            help="A..B, A...B, or a revision from which to the working tree; default: what is not committed.",
            autocompletion=completion.complete_revision,
            show_default=False,
        ),
    ] = None,
    # what is reviewed
    staged: Annotated[bool, typer.Option("--staged", help="The index, which the next commit is made of.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="HEAD, since it parted from this branch.",
            metavar="REF",
            autocompletion=completion.complete_revision,
        ),
    ] = None,
    commit: Annotated[
        str | None,
        typer.Option(
            help="One commit, against its first parent.", metavar="SHA", autocompletion=completion.complete_revision
        ),
    ] = None,
    diff: Annotated[
        str | None, typer.Option(help="A unified diff; it needs no repository. -: stdin.", metavar="FILE|-")
    ] = None,
    pr: Annotated[
        int | None, typer.Option(min=1, help="A pull request of the repository's GitHub.", metavar="N")
    ] = None,
    repo: flags.Repo = None,
    # who looks at it
    no_llm: Annotated[bool, typer.Option("--no-llm", help="Ask no model: linters and secrets alone.")] = False,
    no_linters: Annotated[bool, typer.Option("--no-linters", help="Run no linter of the repository's.")] = False,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    # what passes
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=100, help="Lowest score that passes; default 80.", metavar="SCORE")
    ] = None,
    fail_on: Annotated[
        Literal["error", "warning", "note"] | None,
        typer.Option(help="Fail where a finding is as severe as this, whatever the score."),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Say nothing of the findings that this file accepts.", metavar="FILE")
    ] = None,
    write_baseline: Annotated[
        Path | None, typer.Option(help="Write a baseline that accepts all that is found now.", metavar="FILE")
    ] = None,
    # limits
    max_time: Annotated[float | None, typer.Option(min=0.001, help="Seconds for the whole review.")] = None,
    max_cost: flags.MaxCost = None,
    timeout: flags.Timeout = None,
    # how it runs
    sandbox: Annotated[
        Literal["auto", "off"] | None, typer.Option(help="off: linters run with your rights and your network.")
    ] = None,
    # what becomes of it
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Offer patches that apply, and leave the checks as good as they were.")
    ] = False,
    post: Annotated[
        bool, typer.Option("--post", help="With --pr: post it as a review, in the place of an earlier one.")
    ] = False,
    config: flags.Config = None,
    format: Annotated[
        Literal["text", "json", "sarif", "github", "markdown"],
        typer.Option(
            "--format", "-f", help="text and markdown for people; json, sarif; github: annotations of Actions."
        ),
    ] = "text",
    also: Annotated[
        list[str] | None,
        typer.Option(help="Write the result in this form, too, such as sarif=review.sarif.", metavar="FORMAT=FILE"),
    ] = None,
    output: flags.Output = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    color: flags.Color = "auto",
) -> None:
    """Review a change: linters, secrets and a model, merged into one list of findings and one score.

    By default it is what is not committed yet, with untracked files. The result goes to stdout, progress to stderr.
    Exit codes: 0 passed its gate, 1 findings or score past the gate or a review that is not complete, 2 usage, 3 no
    provider answers, 4 the repository or the machine, 5 a limit was reached.
    """
    from miyabi_cli.commands.reviewing import Asked, do_review
    from miyabi_cli.review.selecting import Selection, checked_selection

    if post and pr is None:
        raise UsageError("--post needs a pull request", hint="name it with --pr")
    if baseline and write_baseline:
        raise UsageError("--baseline and --write-baseline exclude each other", hint="write a whole one anew")
    if suggest and no_llm:
        raise UsageError("--suggest and --no-llm exclude each other")
    also_to = also_written(also or ())
    written = tuple(file for file in (output, write_baseline, *(file for _, file in also_to)) if file)
    check_folders(written)
    asked = Asked(
        selection=checked_selection(Selection(range, staged, base, commit, read_diff(diff), pr)),
        folder=repo or Path(),
        chosen=flags.nested(
            {
                **flags.provider_flags(provider, model, endpoint),
                "llm.default_reasoning_effort": effort,
                "llm.timeout": timeout,
                "limits.seconds": max_time,
                "budget.per_run_usd": max_cost,
                "sandbox.mode": sandbox,
                "review.fail_under": fail_under,
            }
        ),
        config=config,
        llm=not no_llm,
        linters=not no_linters,
        fail_on=fail_on,
        baseline=baseline,
        write_baseline=write_baseline,
        suggest=suggest,
        post=post,
        also=also_to,
        written=written,
        cost_capped=max_cost is not None,
    )
    with context.obj.streams(output, color=color, quiet=quiet, verbose=verbose) as streams:
        raise typer.Exit(run_async(do_review(asked, format, streams, context.obj)))


def read_diff(name: str | None) -> bytes | None:
    """Return the diff of a file, or of stdin for `-`. Raises MachineError, and UsageError for one that is too large."""
    if name is None:
        return None
    try:
        with contextlib.ExitStack() as opened:
            file = sys.stdin.buffer if name == "-" else opened.enter_context(Path(name).open("rb"))
            data = file.read(MAXIMUM_DIFF + 1)
    except OSError as error:
        raise MachineError(f"can't read {name}: {error.strerror}") from None
    if len(data) > MAXIMUM_DIFF:
        raise UsageError(f"the diff is larger than {MAXIMUM_DIFF >> 20} MB", hint="review it in parts")
    return data


def check_folders(files: Iterable[Path]) -> None:
    """Raise MachineError for a file without a folder: a review is too dear to be lost at its end."""
    for file in files:
        if not file.absolute().parent.is_dir():
            raise MachineError(f"can't write {file}: there is no folder {file.parent}")


def also_written(given: Iterable[str]) -> tuple[tuple[str, Path], ...]:
    """Return forms and files of `FORMAT=FILE`. Raises UsageError."""
    pairs = [text.partition("=") for text in given]
    for form, _, file in pairs:
        if form not in FORMATS or not file:
            raise UsageError(f"not FORMAT=FILE: {form}={file}", hint=f"a format is {', '.join(FORMATS)}")
    return tuple((form, Path(file)) for form, _, file in pairs)
