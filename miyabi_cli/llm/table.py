"""The providers by name, and opening one from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from miyabi_cli.errors import MachineError, ProviderUnreachable, SettingsError
from miyabi_cli.llm.profiles import Capabilities

if TYPE_CHECKING:
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.settings.schema import Settings

PROBE_SECONDS = 1.0
CAPABILITIES = {
    "native": Capabilities(tools=True, schema=True),
    "schema": Capabilities(tools=False, schema=True),
    "none": Capabilities(tools=False, schema=False),
}

Progress = Callable[[str], None]
Opener = Callable[["Settings", Progress, Progress], Awaitable["Provider"]]


async def open_provider(settings: Settings, progress: Progress, tell: Progress | None = None) -> Provider:
    """Return the provider that the settings name; `auto` takes the first that is there.

    `progress` hears of what takes a while, such as a model that is loaded; `tell`, for the provider's whole life, of
    what a person should know, such as an option that the server refuses (by default `progress` hears it). Raises
    ProviderError, SettingsError, MachineError.
    """
    name: str = settings.llm.provider
    if name == "auto":
        name = await choose(settings)
    if settings.llm.local_only and not _is_local(settings, name):
        hint = "choose a server on this machine, or set llm.local_only to false"
        raise SettingsError(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
    return await OPENERS[name](settings, progress, tell or progress)


async def choose(settings: Settings) -> str:
    """Return the first that answers of vLLM, Ollama, Groq (with a key) and embedded."""
    llm = settings.llm
    if await _answers(llm.vllm.endpoint, "v1/models", "data", _key(llm.vllm)):
        return "vllm"
    allowed = not llm.local_only or _is_local(settings, "ollama")
    if allowed and await _answers(llm.ollama.endpoint, "api/tags", "models", _key(llm.ollama)):
        return "ollama"
    if llm.groq.api_key and not llm.local_only:
        return "groq"
    from miyabi_cli.llm.local.models import find_model

    try:
        find_model(llm.embedded.model)
    except MachineError:
        hint = "name a server by --endpoint, set GROQ_API_KEY, or get a small model for this machine: miyabi model pull"
        raise ProviderUnreachable("no model's server was found", hint=hint) from None
    return "embedded"


async def _answers(endpoint: str, path: str, listed: str, key: str | None) -> bool:
    """Say whether a model's server answers at an address: it lists its models under `listed`, or asks for a key."""
    import httpx

    from miyabi_cli.llm.http import open_client

    try:
        async with asyncio.timeout(PROBE_SECONDS), open_client(endpoint, key=key) as client:
            response = await client.get(f"{endpoint}/{path}")
            return response.status_code in (401, 403) or isinstance(response.json().get(listed), list)
    except (httpx.HTTPError, TimeoutError, ValueError, AttributeError):
        return False


def _is_local(settings: Settings, name: str) -> bool:
    from miyabi_cli.llm.http import is_loopback
    from miyabi_cli.llm.native.encoding import is_cloud

    if name in ("embedded", "replay"):
        return True
    if name == "ollama" and is_cloud(settings.llm.ollama.model):
        return False
    return is_loopback(getattr(settings.llm, name).endpoint)


async def _vllm(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.harmony.tokens import encoding
    from miyabi_cli.llm.vllm import IDLE_SECONDS, is_gpt_oss, open_vllm

    section = settings.llm.vllm
    if section.wire != "chat" and is_gpt_oss(section.model):
        # The vocabulary takes a third of a second to load; meanwhile the base's checks run.
        asyncio.get_running_loop().run_in_executor(None, encoding)
    idle = settings.llm.timeout or IDLE_SECONDS
    return open_vllm(section.endpoint, section.model, key=_key(section), wire=section.wire, idle=idle, tell=tell)


async def _openai(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.openai import IDLE_SECONDS, open_openai
    from miyabi_cli.llm.profiles import profile_of

    section = settings.llm.openai
    if not section.model:
        hint = "--model, or llm.openai.model in the settings"
        raise SettingsError("the provider openai needs a model's name", hint=hint)
    profile = profile_of(section.model)
    if section.tools != "auto":
        profile = replace(profile, capabilities=CAPABILITIES[section.tools], editing="apply_patch")
    idle = settings.llm.timeout or IDLE_SECONDS
    return open_openai(section.endpoint, section.model, key=_key(section), profile=profile, idle=idle, tell=tell)


def _key(section: Any) -> str | None:
    return section.api_key.get_secret_value() if section.api_key else None


async def _embedded(settings: Settings, progress: Progress, tell: Progress) -> Provider:
    from miyabi_cli.llm.embedded import open_embedded

    return await open_embedded(settings.llm.embedded, idle=settings.llm.timeout, progress=progress, tell=tell)


async def _replay(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.replay import open_replay

    if settings.llm.replay.file is None:
        raise SettingsError("the provider replay needs a recording", hint="--model FILE, or llm.replay.file")
    return open_replay(settings.llm.replay.file)


async def _ollama(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.native.models import refuse_remote
    from miyabi_cli.llm.ollama import IDLE_SECONDS, open_ollama

    section = settings.llm.ollama
    if settings.llm.local_only:
        await refuse_remote(section.endpoint, section.model, key=_key(section))
    return open_ollama(
        section.endpoint,
        section.model,
        key=_key(section),
        num_ctx=section.num_ctx,
        keep_alive=section.keep_alive,
        idle=settings.llm.timeout or IDLE_SECONDS,
        tell=tell,
    )


async def _groq(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.groq import IDLE_SECONDS, open_groq

    section = settings.llm.groq
    idle = settings.llm.timeout or IDLE_SECONDS
    return open_groq(_key(section), section.model, endpoint=section.endpoint, idle=idle, tell=tell)


OPENERS: dict[str, Opener] = {
    "vllm": _vllm,
    "ollama": _ollama,
    "groq": _groq,
    "openai": _openai,
    "embedded": _embedded,
    "replay": _replay,
}
