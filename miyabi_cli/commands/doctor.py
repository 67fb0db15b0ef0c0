"""`miyabi doctor`: what works here, and why not."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miyabi_cli.commands import flags

if TYPE_CHECKING:
    from miyabi_cli.doctor.providers import Means
    from miyabi_cli.doctor.report import Diagnosis
    from miyabi_cli.settings.schema import Settings

SECONDS = 60.0

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi doctor
  miyabi doctor -p vllm --endpoint http://gpu-box:8000
  miyabi doctor --no-probe --format json
"""


def doctor(
    context: typer.Context,
    repo: flags.Repo = None,
    config: flags.Config = None,
    provider: Annotated[
        flags.PROVIDERS | None, typer.Option("--provider", "-p", help="Look at this provider alone.")
    ] = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="Seconds for each question to a server; default: 60.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Ask the models for two short replies each, or for none.")
    ] = True,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the models anew: replies hold for a day.")] = False,
    format: flags.Format = "text",
    output: flags.Output = None,
    color: flags.Color = "auto",
    quiet: flags.Quiet = False,
) -> None:
    """Find out what works here, and why not: each provider, git, the sandbox, toolchains, and this repository's checks.

    Each model that can be had is asked for two short replies; on a paid server they cost a fraction of a cent, which is
    told before. The exit code is 0 if the provider that a run would take works, 3 if not, 4 if the machine is at fault.
    """
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.doctor.diagnosing import diagnose
    from miyabi_cli.report.doctor import write_json, write_text
    from miyabi_cli.settings.trust import repository_root

    root = repository_root(_folder(repo))
    chosen = flags.nested({**flags.provider_flags(provider, model, endpoint), "llm.timeout": timeout})
    settings = flags.resolve_settings(chosen, config, root)
    folder = root or _folder(repo)
    is_named = (provider or "auto") != "auto" or endpoint is not None
    with contextlib.ExitStack() as opened:
        streams = opened.enter_context(context.obj.streams(output, color=color, quiet=quiet))
        means = _means(settings, opened, context, root, asks=probe, is_fresh=refresh, quiet=quiet)
        diagnosing = diagnose(means, folder, os.environ, is_repository=root is not None, is_named=is_named)
        found: Diagnosis = context.obj.redactor.redact_data(run_async(diagnosing))
        if format == "json":
            write_json(found, streams.output)
        else:
            write_text(found, streams.output, colored=streams.colored(streams.output))
    raise typer.Exit(int(found.exit_code))


def _folder(repo: Path | None) -> Path:
    from miyabi_cli.errors import RepositoryError

    folder = (repo or Path()).absolute()
    if not folder.is_dir():
        raise RepositoryError(f"{folder} is not a folder", hint="name the repository's folder with --repo")
    return folder


def _means(
    settings: Settings,
    opened: contextlib.ExitStack,
    context: typer.Context,
    root: Path | None,
    *,
    asks: bool,
    is_fresh: bool,
    quiet: bool,
) -> Means:
    """Return what looking needs; requests are put to an account of this look, in a ledger that `opened` closes."""
    from miyabi_cli.doctor.providers import Means
    from miyabi_cli.ledger.store import FILE, Ledger
    from miyabi_cli.llm.metering import Account
    from miyabi_cli.places import data_dir
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.runs import new_run_id
    from miyabi_cli.settings.keys import secrets_in_settings

    redactor = context.obj.redactor = redactor_of(secrets_in_environment(os.environ), secrets_in_settings(settings))
    run_id, budget = new_run_id(), settings.budget

    def tell(what: str) -> None:
        if not quiet:
            typer.echo(plain_text(redactor.redact(what)), err=True)

    @functools.cache
    def ledger() -> Ledger:
        return opened.enter_context(contextlib.closing(Ledger(data_dir() / FILE)))

    def account(hear: Callable[[str], None]) -> Account:
        origin = (ledger(), "doctor", str(root or ""), run_id)
        return Account(*origin, budget.monthly_usd, budget.per_run_usd, tell=hear)

    seconds = settings.llm.timeout or SECONDS
    return Means(settings, tell, account, redactor, time.perf_counter, time.time, seconds, asks, is_fresh)
