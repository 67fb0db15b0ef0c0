"""Flags that several commands share, and reading them into nested settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import completion
from miyabi_cli.commands.questions import ask_for_trust
from miyabi_cli.errors import UsageError
from miyabi_cli.messages import Effort
from miyabi_cli.report.streams import ColorChoice

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Settings

PROVIDERS = Literal["auto", "vllm", "ollama", "groq", "openai", "embedded", "replay"]

Repo = Annotated[
    Path | None, typer.Option("--repo", "-C", help="The repository, or a folder in it; default: here.", metavar="DIR")
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings instead of the repository's .miyabi.yml.", metavar="FILE")
]
ProviderName = Annotated[PROVIDERS | None, typer.Option("--provider", "-p", help="Who serves the model.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="The model's name, as its server knows it.", autocompletion=completion.complete_model
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", help="The server's address, with or without /v1; any chat completions server."),
]
EffortName = Annotated[Effort | None, typer.Option("--effort", help="How hard to think.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait for a first and for each next token.")
]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0.0, help="USD for this run.", metavar="USD")]
FORMAT = typer.Option("--format", "-f", help="text for people; json: one object; jsonl: an event a line.")
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the result here instead of stdout.", metavar="FILE")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show thoughts and the output of tools.")]
Format = Annotated[Literal["text", "json"], typer.Option("--format", "-f", help="text for people, json for programs.")]
Color = Annotated[ColorChoice, typer.Option("--color", help="Colours; NO_COLOR is obeyed.")]


def nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings from dotted keys; a flag that was not given (None) is left out."""
    settings: dict[str, Any] = {}
    for dotted, value in flags.items():
        if value is None:
            continue
        *sections, key = dotted.split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return settings


def provider_flags(provider: str | None, model: str | None, endpoint: str | None) -> dict[str, Any]:
    """Return the dotted keys that --provider, --model and --endpoint mean.

    An endpoint without a provider is any chat completions server. A model without a provider is kept until the
    provider is known.
    """
    if endpoint and provider in (None, "auto"):
        provider = "openai"
    if endpoint and provider in ("embedded", "replay"):
        raise UsageError(f"--endpoint means nothing to the provider {provider}", hint="use --provider openai")
    chosen: dict[str, Any] = {"llm.provider": provider}
    if provider in (None, "auto"):
        chosen["llm.model"] = model
        return chosen
    chosen[f"llm.{provider}.endpoint"] = endpoint
    chosen[f"llm.{provider}.{'file' if provider == 'replay' else 'model'}"] = model
    return chosen


def read_task(task: str | None) -> str:
    """Return the task's text; `-` reads stdin. Raises UsageError where there is none."""
    if task is None:
        raise UsageError("no task", hint="say in words what is to be done: miyabi codegen 'fix the failing test'")
    text = sys.stdin.buffer.read().decode("utf-8", "replace") if task == "-" else task
    if not text.strip():
        raise UsageError("the task is empty", hint="say in words what is to be done")
    return text.strip()


def resolve_settings(chosen: dict[str, Any], config: Path | None, root: Path | None) -> Settings:
    """Load the settings; a --model that came without --provider goes to the provider that the settings name."""
    from miyabi_cli.settings.sources import load_settings

    model = chosen.get("llm", {}).pop("model", None)
    flags_and_places: dict[str, Any] = {
        "flags": chosen,
        "environ": os.environ,
        "repository": root,
        "config": config,
        "ask": ask_for_trust(),
    }
    settings = load_settings(**flags_and_places)
    if model is None:
        return settings
    if settings.llm.provider == "auto":
        raise UsageError("--model needs a provider", hint="say --provider or --endpoint too")
    chosen["llm"].setdefault(settings.llm.provider, {})["model"] = model
    return load_settings(**flags_and_places)
