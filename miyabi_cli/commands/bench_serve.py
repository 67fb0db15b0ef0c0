"""`miyabi bench serve`: a model's server under load."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miyabi_cli.commands import flags
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.bench_output import Html, Outlets, Output, open_outlets
from miyabi_cli.errors import ProviderError
from miyabi_cli.exits import ExitCode, exit_code_of

if TYPE_CHECKING:
    from miyabi_cli.bench.document import Document
    from miyabi_cli.bench.load.planning import Wanted
    from miyabi_cli.report.streams import Streams
    from miyabi_cli.settings.schema import Settings

INPUT_TOKENS, OUTPUT_TOKENS = 512, 128
LONGEST = 7 * 24 * 3600.0  # seconds of a level

# \b: the lines stay as they are.
EPILOG = """\b
Examples:
  miyabi bench serve -p vllm --concurrency 1,10,50 --requests 200 -o vllm.json
  miyabi bench serve --endpoint http://gpu-box:8000 -m my-model --rate 5 --duration 60
  miyabi bench serve -p groq --slo groq --requests 30 --max-cost 0.10
"""


def serve(
    context: typer.Context,
    concurrency: Annotated[
        str | None,
        typer.Option("--concurrency", metavar="N,N…", help="Closed loop: so many requests in parallel; a level each."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R,R…", help="Open loop: so many requests a second, at random; a level each."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", min=1, help="Requests of each level; default: ten for each in parallel.")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=0.1, max=LONGEST, metavar="S", help="Seconds in which a level's are begun."),
    ] = None,
    input_tokens: Annotated[int, typer.Option("--input-tokens", min=1, help="Tokens of each prompt.")] = INPUT_TOKENS,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", min=1, help="Of each answer, at most.")
    ] = OUTPUT_TOKENS,
    shared_prefix: Annotated[
        int, typer.Option("--shared-prefix", min=0, metavar="TOKENS", help="More tokens that all prompts begin with.")
    ] = 0,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts from a file: JSONL, or lines of text.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE", help="Token counts, and arrivals too, of Azure's CSV or Mooncake's JSONL."
        ),
    ] = None,
    trace_speed: Annotated[
        float,
        typer.Option("--trace-speed", min=0.001, max=1000, metavar="X", help="Play the arrivals X times as fast."),
    ] = 1.0,
    warmup: Annotated[int, typer.Option("--warmup", min=0, metavar="N", help="Requests that are not measured.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of prompts and arrivals.")] = 0,
    slo: Annotated[
        str | None,
        typer.Option("--slo", metavar="NAME|FILE", help="groq, vllm, ollama, codegen, review, triage or a YAML file."),
    ] = None,
    ignore_eos: Annotated[
        bool | None,
        typer.Option("--ignore-eos/--no-ignore-eos", help="Answers of the full length; default: of vLLM alone."),
    ] = None,
    repo: flags.Repo = None,
    config: flags.Config = None,
    provider: flags.ProviderName = None,
    model: flags.ModelName = None,
    endpoint: flags.Endpoint = None,
    effort: flags.EffortName = None,
    timeout: flags.Timeout = None,
    max_cost: flags.MaxCost = None,
    format: flags.Format = "text",
    output: Output = None,
    html: Html = None,
    color: flags.Color = "auto",
    quiet: flags.Quiet = False,
) -> None:
    """Put load on a model's server, and measure what it gives: first token, between tokens, whole requests, errors.

    A closed loop keeps so many requests in parallel; an open loop sends them at times that were fixed before, and
    measures from those, so that a server that stalls can't hide it. The exit code is 1 where --slo is not kept, 3 where
    the server can't be reached or answers nothing, 5 at a budget; what was measured until then is written.
    """
    from miyabi_cli.bench.load.objectives import find_objectives
    from miyabi_cli.bench.load.planning import Wanted
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.settings.trust import repository_root

    objectives = None if slo is None else find_objectives(slo)
    wanted = Wanted(
        concurrency,
        rate,
        requests,
        duration,
        input_tokens,
        output_tokens,
        shared_prefix,
        prompts,
        trace,
        trace_speed,
        warmup,
        seed,
        objectives,
    )
    keys = {"llm.default_reasoning_effort": effort, "llm.timeout": timeout, "budget.per_run_usd": max_cost}
    chosen = flags.nested({**flags.provider_flags(provider, model, endpoint), **keys})
    root = repository_root((repo or Path()).absolute())
    settings = flags.resolve_settings(chosen, config, root)
    bench = _Bench(settings, root, wanted, ignore_eos, cost_capped=max_cost is not None)
    outlets = open_outlets(output, html, format, color, inputs=(prompts, trace, slo))
    streams = open_streams(None, color=color, quiet=quiet, verbose=False)
    raise typer.Exit(int(_measured(bench, context.obj, streams, outlets)))


@dataclass(slots=True)
class _Bench:
    """What is asked for, and what has come of it so far; `stopped`: what ended it before its end."""

    settings: Settings
    root: Path | None
    wanted: Wanted
    ignore_eos: bool | None
    cost_capped: bool
    environment: dict[str, Any] = field(default_factory=dict)
    protocol: str = ""
    whole: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    stopped: ProviderError | None = None


def _measured(bench: _Bench, begun: Begun, streams: Streams, outlets: Outlets) -> ExitCode:
    """Measure and write the document, also of what was interrupted; return the exit code."""
    from miyabi_cli.bench.comparing import level_of
    from miyabi_cli.bench.load.verdict import judge
    from miyabi_cli.commands.asynchronous import Interrupted, run_async
    from miyabi_cli.report.bench import late_levels
    from miyabi_cli.report.display import plain_text

    interrupted: Interrupted | None = None
    try:
        run_async(_run(bench, begun, streams))
    except Interrupted as error:
        if not bench.results:
            raise
        interrupted = error
    verdict = judge(bench.wanted.slo, bench.results)
    summary = {**verdict.data(), "complete": interrupted is None and bench.stopped is None}
    outlets.deliver(_document(bench, summary), begun.redactor)
    for note in (*verdict.notes, *late_levels(bench.results)):
        print(f"warning: {note}", file=streams.talk)
    if interrupted is not None:
        print("interrupted: what was measured until then is written", file=streams.talk)
        return ExitCode(128 + interrupted.number)
    if bench.stopped is not None:
        print(f"error: {bench.stopped.message}\nhint: {bench.stopped.hint}", file=streams.talk)
        return exit_code_of(bench.stopped)
    if silent := [result for result in bench.results if not result["completed"]]:
        details = {kind: words for result in silent for kind, words in result["error_details"].items()}
        reasons = "; ".join(plain_text(f"{kind}: {words}" if words else kind) for kind, words in details.items())
        where = "" if len(silent) == len(bench.results) else f" at {', '.join(map(level_of, silent))}"
        print(f"error: no request was answered{where}: {reasons}", file=streams.talk)
        return ExitCode.PROVIDER
    return ExitCode.OK if verdict.passed else ExitCode.NOT_GOOD_ENOUGH


async def _run(bench: _Bench, begun: Begun, streams: Streams) -> None:
    """Open the server, and measure every level into `bench.results`."""
    from miyabi_cli.bench.environment import describe_environment
    from miyabi_cli.bench.load.drafts import Style
    from miyabi_cli.bench.load.opening import COMMAND, open_load
    from miyabi_cli.bench.load.planning import plan_of
    from miyabi_cli.commands.access import open_access
    from miyabi_cli.events import Event, ProgressMade, WarningRaised
    from miyabi_cli.llm.metering import Account
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.runs import new_run_id

    def tell(what: str) -> None:
        if not streams.quiet:
            print(plain_text(begun.redactor.redact(what)), file=streams.talk, flush=True)

    def show(event: Event) -> None:
        if isinstance(event, (ProgressMade, WarningRaised)):
            tell(event.what if isinstance(event, ProgressMade) else event.message)

    settings, wanted = bench.settings, bench.wanted
    plan, wishes = plan_of(wanted)
    style = Style(settings.llm.default_reasoning_effort, settings.llm.default_temperature, None, bench.ignore_eos)
    async with open_access(settings, show, begun) as access:
        budget = settings.budget
        caps = (budget.monthly_usd, budget.per_run_usd)
        account = Account(access.ledger, COMMAND, "", new_run_id(), *caps, named=bench.cost_capped, tell=tell)
        async with open_load(settings, account, begun.redactor, wishes, style, wanted.slo, tell) as opened:
            bench.environment = await describe_environment(
                settings,
                provider=opened.provider,
                model=opened.model,
                flags=sys.argv[1:],
                seeds=[wanted.seed],
                repository=bench.root,
                environ=os.environ,
                server_version=opened.server_version,
            )
            load = opened.load
            load.results = bench.results
            try:
                await load.run(plan)
            finally:
                bench.protocol, bench.whole, bench.stopped = opened.protocol, load.style.whole is True, load.stopped


def _document(bench: _Bench, summary: dict[str, Any]) -> Document:
    from miyabi_cli.bench.document import Document

    wanted, slo = bench.wanted, bench.wanted.slo
    settings = {
        "concurrency": wanted.concurrency,
        "rate": wanted.rate,
        "requests": wanted.requests,
        "duration": wanted.seconds,
        "input_tokens": None if wanted.prompts or wanted.trace else wanted.input_tokens,
        "output_tokens": None if wanted.trace else wanted.output_tokens,
        "shared_prefix": wanted.shared_prefix,
        "prompts": wanted.prompts.name if wanted.prompts else None,
        "trace": wanted.trace.name if wanted.trace else None,
        "trace_speed": wanted.trace_speed if wanted.trace else None,
        "warmup": wanted.warmup,
        "seed": wanted.seed,
        "slo": slo.data() if slo else None,
        "protocol": bench.protocol,
        "ignore_eos": bench.whole,
    }
    return Document("serve", bench.environment, settings, bench.results, summary)
