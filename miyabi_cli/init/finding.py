"""What there is to set up: a repository's languages and checks, and a server for a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import ProviderError, ProviderUnreachable
from miyabi_cli.llm.choosing import take
from miyabi_cli.llm.native.models import list_models
from miyabi_cli.llm.server import Server
from miyabi_cli.settings.schema import Ollama, Settings, Vllm
from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.checks import plan_checks
from miyabi_cli.workspace.toolchains import list_files, recognised_toolchains

PREFERRED = "gpt-oss"
LISTING_SECONDS = 3.0

_MODEL_NAME = re.compile(r"[\w][\w./:@+-]{0,199}")  # what a server calls a model may be anything


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A provider that answers, the model to ask it for, and how it was found, for a person."""

    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """`notes` say what the checks leave out; `server` is None where none answers."""

    languages: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    server: FoundServer | None


async def find(root: Path, settings: Settings, environ: Mapping[str, str]) -> Found:
    """Look at a working tree, of which no code is run, and for a server as `auto` takes one.

    Raises SettingsError and the like where the user's own settings are wrong.
    """
    looking = asyncio.create_task(_find_server(settings))
    files = await asyncio.to_thread(list_files, root)
    plan = await asyncio.to_thread(plan_checks, root, repository=root, environ=environ)
    languages = tuple(chain.name for chain in recognised_toolchains(files))
    return Found(languages, plan.checks, plan.notes, await looking)


async def _find_server(settings: Settings) -> FoundServer | None:
    try:
        taken = await take(settings)
    except ProviderUnreachable:
        return None
    section = getattr(settings.llm, taken.provider)
    if not isinstance(section, Vllm | Ollama):
        return FoundServer(taken.provider, section.model, taken.reason)
    try:
        async with asyncio.timeout(LISTING_SECONDS):
            models = await _models(section)
    except (ProviderError, TimeoutError):
        models = []
    return FoundServer(taken.provider, _chosen(models, section.model), taken.reason)


async def _models(section: Vllm | Ollama) -> list[str]:
    """Return the names of the models that a server lists. Raises ProviderError."""
    key = section.api_key.get_secret_value() if section.api_key else None
    if isinstance(section, Ollama):
        return [model.name for model in await list_models(section.endpoint, key=key)]
    server = Server.at("vllm", section.endpoint, key=key, idle=LISTING_SECONDS)
    try:
        listed = (await server.ask("v1/models")).get("data")
    finally:
        await server.close()
    return [str(model.get("id")) for model in listed or () if isinstance(model, dict)]


def _chosen(models: Sequence[str], wanted: str) -> str:
    """Return the model to ask for: the one that is set, if it is there or nothing is known, else gpt-oss, else any."""
    usable = [model for model in models if _MODEL_NAME.fullmatch(model)]
    if wanted in usable or not usable:
        return wanted
    return next((model for model in usable if PREFERRED in model), usable[0])
