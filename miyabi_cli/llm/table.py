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
# Without a byte, where llm.timeout says nothing; a server on a desk may read a long prompt for minutes.
IDLE_SECONDS = {"vllm": 30.0, "groq": 30.0, "openai": 300.0}
CAPABILITIES = {
    "native": Capabilities(tools=True, schema=True),
    "schema": Capabilities(tools=False, schema=True),
    "none": Capabilities(tools=False, schema=False),
}

Progress = Callable[[str], None]
Opener = Callable[["Settings", Progress], Awaitable["Provider"]]


async def open_provider(settings: Settings, progress: Progress) -> Provider:
    """Return the provider that the settings name; `auto` takes the first that is there.

    `progress` hears of what takes a while, such as a model that is loaded. Raises ProviderError, SettingsError,
    MachineError.
    """
    name: str = settings.llm.provider
    if name == "auto":
        name = await choose(settings)
    if settings.llm.local_only and not _is_local(settings, name):
        hint = "choose a server on this machine, or set llm.local_only to false"
        raise SettingsError(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
    return await OPENERS[name](settings, progress)


async def choose(settings: Settings) -> str:
    """Return the first that answers of vLLM, Groq (with a key) and embedded."""
    llm = settings.llm
    if await _answers(llm.vllm.endpoint, _key(llm.vllm)):
        return "vllm"
    if llm.groq.api_key and not llm.local_only:
        return "groq"
    from miyabi_cli.llm.models import find_model

    try:
        find_model(llm.embedded.model)
    except MachineError:
        hint = "name a server by --endpoint, set GROQ_API_KEY, or get a small model for this machine: miyabi model pull"
        raise ProviderUnreachable("no model's server was found", hint=hint) from None
    return "embedded"


async def _answers(endpoint: str, key: str | None) -> bool:
    """Say whether a model's server answers at an address: it lists its models, or asks for a key."""
    import httpx

    from miyabi_cli.llm.http import open_client

    try:
        async with asyncio.timeout(PROBE_SECONDS), open_client(endpoint, key=key) as client:
            response = await client.get(f"{endpoint}/v1/models")
            return response.status_code in (401, 403) or isinstance(response.json().get("data"), list)
    except (httpx.HTTPError, TimeoutError, ValueError, AttributeError):
        return False


def _is_local(settings: Settings, name: str) -> bool:
    from miyabi_cli.llm.http import is_loopback

    if name in ("embedded", "replay"):
        return True
    return is_loopback(getattr(settings.llm, name).endpoint)


def _chat_completions(name: str) -> Opener:
    async def opened(settings: Settings, progress: Progress) -> Provider:  # noqa: ARG001 - nothing takes a while
        from miyabi_cli.llm.openai import open_openai
        from miyabi_cli.llm.profiles import profile_of

        section: Any = getattr(settings.llm, name)
        if not section.model:
            hint = f"--model, or llm.{name}.model in the settings"
            raise SettingsError(f"the provider {name} needs a model's name", hint=hint)
        key = _key(section)
        profile = profile_of(section.model)
        if (acts := getattr(section, "tools", "auto")) != "auto":
            profile = replace(profile, capabilities=CAPABILITIES[acts], editing="apply_patch")
        idle = settings.llm.timeout or IDLE_SECONDS[name]
        return open_openai(section.endpoint, section.model, key=key, name=name, profile=profile, idle=idle)

    return opened


def _key(section: Any) -> str | None:
    return section.api_key.get_secret_value() if section.api_key else None


async def _embedded(settings: Settings, progress: Progress) -> Provider:
    from miyabi_cli.llm.embedded import open_embedded

    return await open_embedded(settings.llm.embedded, idle=settings.llm.timeout, progress=progress)


async def _replay(settings: Settings, progress: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.replay import open_replay

    if settings.llm.replay.file is None:
        raise SettingsError("the provider replay needs a recording", hint="--model FILE, or llm.replay.file")
    return open_replay(settings.llm.replay.file)


async def _not_yet(settings: Settings, progress: Progress) -> Provider:  # noqa: ARG001
    # Ollama's chat completions route ignores num_ctx and cuts the prompt in silence: worse than none.
    hint = "serve the model by vLLM or llama.cpp, or use the embedded model: miyabi model pull"
    raise SettingsError("this version does not speak Ollama's own protocol yet", hint=hint)


OPENERS: dict[str, Opener] = {
    "vllm": _chat_completions("vllm"),
    "ollama": _not_yet,
    "groq": _chat_completions("groq"),
    "openai": _chat_completions("openai"),
    "embedded": _embedded,
    "replay": _replay,
}
