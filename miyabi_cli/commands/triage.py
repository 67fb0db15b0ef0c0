"""`miyabi triage`: issues classified, labelled and, if asked for, their labels put on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from miyabi_cli.commands import flags
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.errors import UsageError

MOST_JOBS = 1_000

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi triage 12 13
  miyabi triage --all-open --format jsonl --output rows.jsonl
  miyabi triage --file issues.csv --no-llm --format csv
  gh issue list --json number,title,body,labels | miyabi triage --file -
  miyabi triage 12 --apply
"""


def triage(
    context: typer.Context,
    numbers: Annotated[
        list[str] | None,
        typer.Argument(help="Issues of the repository's GitHub: numbers or addresses.", metavar="[NUMBER]..."),
    ] = None,
    # what is triaged
    file: Annotated[
        str | None,
        typer.Option(
            "--file", help="Issues as JSON, JSON Lines or CSV; it needs no repository. -: stdin.", metavar="FILE|-"
        ),
    ] = None,
    all_open: Annotated[bool, typer.Option("--all-open", help="Every open issue of the repository's GitHub.")] = False,
    repo: flags.Repo = None,
    # how it is judged
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The labels that may be given; default: the repository's on GitHub, else a scheme of 57.",
            metavar="FILE",
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            help="Labelled issues (with a column label); the most alike are shown to the model.", metavar="FILE"
        ),
    ] = None,
    no_llm: Annotated[bool, typer.Option("--no-llm", help="Ask no model: rules alone.")] = False,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    # limits
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=MOST_JOBS, help="Issues side by side.")] = 4,
    max_cost: flags.MaxCost = None,
    timeout: flags.Timeout = None,
    # what becomes of it
    apply: Annotated[
        bool, typer.Option("--apply", help="Put the labels on the issues: added, never taken away.")
    ] = False,
    config: flags.Config = None,
    format: Annotated[
        Literal["text", "json", "jsonl", "csv"],
        typer.Option("--format", "-f", help="text for people; json: a list of rows; jsonl: a row a line; csv."),
    ] = "text",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the rows here; with jsonl, go on with those that are there.", metavar="FILE"
        ),
    ] = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    color: flags.Color = "auto",
) -> None:
    """Triage issues: type, severity, priority, owner, duplicates, what is missing, and the labels that say so.

    Rows go to stdout in the order of completion, progress to stderr. Nothing is written to GitHub without --apply.
    Where no provider answers the rules do it, and each row says so. Exit codes: 0 a row for every issue, 2 usage, or
    an entry that is no issue, 3 the provider, 4 GitHub or the machine.
    """
    from miyabi_cli.commands.triaging import Asked, do_triage

    sources = [name for name, given in (("NUMBER", numbers), ("--file", file), ("--all-open", all_open)) if given]
    if len(sources) != 1:
        hint = "miyabi triage 12, miyabi triage --all-open, or miyabi triage --file issues.jsonl"
        raise UsageError(" and ".join(sources) + " exclude each other" if sources else "no issue is named", hint=hint)
    if apply and file:
        raise UsageError("--apply needs issues of GitHub", hint="name them by number, or use --all-open")
    chosen = {
        **flags.provider_flags(provider, model, endpoint),
        "llm.default_reasoning_effort": effort,
        "llm.timeout": timeout,
        "budget.per_run_usd": max_cost,
        "triage.labels": labels.absolute() if labels else None,
    }
    asked = Asked(
        numbers=tuple(numbers or ()),
        file=file,
        folder=repo or Path(),
        chosen=flags.nested(chosen),
        config=config,
        examples=examples,
        llm=not no_llm,
        jobs=jobs,
        apply=apply,
        format=format,
        output=output,
        cost_capped=max_cost is not None,
    )
    raise typer.Exit(run_async(do_triage(asked, context.obj, color=color, quiet=quiet, verbose=verbose)))
