"""The providers by name, and opening one from the settings."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from miyabi_cli.errors import SettingsError
from miyabi_cli.llm.choosing import choose, is_allowed, is_local, key_of
from miyabi_cli.llm.profiles import Capabilities

if TYPE_CHECKING:
    from miyabi_cli.llm.metering import Account
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.settings.schema import Settings

CAPABILITIES = {
    "native": Capabilities(tools=True, schema=True),
    "schema": Capabilities(tools=False, schema=True),
    "none": Capabilities(tools=False, schema=False),
}

# How many requests a wire may send for a single reply: Groq is asked again for one that nobody can read.
TRIES = {"groq": 3}

Progress = Callable[[str], None]
Opener = Callable[["Settings", Progress, Progress], Awaitable["Provider"]]


async def open_provider(
    settings: Settings, progress: Progress, tell: Progress | None = None, account: Account | None = None
) -> Provider:
    """Return the provider that the settings name, with its fallbacks; `auto` takes the first that is there.

    `progress` hears of what takes a while, such as a model that is loaded; `tell`, for the provider's whole life, of
    what a person should know, such as an option that the server refuses (by default `progress` hears it). Requests are
    put to `account`, and its caps hold. Raises ProviderError, SettingsError, MachineError.
    """
    told = tell or progress
    name: str = settings.llm.provider
    if name == "auto":
        name = await choose(settings)
    first = await _opened(name, settings, progress, told, account)
    others = [
        functools.partial(_opened, other, settings, progress, told, account)
        for other in dict.fromkeys(settings.llm.fallback)
        if other != name
    ]
    if not others:
        return first
    from miyabi_cli.llm.routing import Routed

    return Routed(first, others, told, stop_at_budget=settings.budget.on_exceed == "stop")


async def _opened(
    name: str, settings: Settings, progress: Progress, tell: Progress, account: Account | None
) -> Provider:
    """Return one provider, metered where there is an account."""
    if not is_allowed(settings, name):
        hint = "choose a server on this machine, or set llm.local_only to false"
        raise SettingsError(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
    provider = await OPENERS[name](settings, progress, tell)
    if account is not None:
        from miyabi_cli.llm.metering import Metered
        from miyabi_cli.llm.prices import find_price

        endpoint = getattr(getattr(settings.llm, name), "endpoint", "")
        find = functools.partial(find_price, name, provider.model_name, endpoint, settings.prices)
        metered = Metered(provider.wire, account, find, tries=TRIES.get(name, 1), is_local=is_local(settings, name))
        asyncio.get_running_loop().run_in_executor(None, metered.look_up)
        provider.wire = metered
    return provider


async def _vllm(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.harmony.tokens import encoding
    from miyabi_cli.llm.vllm import IDLE_SECONDS, is_gpt_oss, open_vllm

    section = settings.llm.vllm
    if section.wire != "chat" and is_gpt_oss(section.model):
        # The vocabulary takes a third of a second to load; meanwhile the base's checks run.
        asyncio.get_running_loop().run_in_executor(None, encoding)
    idle = settings.llm.timeout or IDLE_SECONDS
    return open_vllm(section.endpoint, section.model, key=key_of(section), wire=section.wire, idle=idle, tell=tell)


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
    return open_openai(section.endpoint, section.model, key=key_of(section), profile=profile, idle=idle, tell=tell)


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
        await refuse_remote(section.endpoint, section.model, key=key_of(section))
    return open_ollama(
        section.endpoint,
        section.model,
        key=key_of(section),
        num_ctx=section.num_ctx,
        keep_alive=section.keep_alive,
        idle=settings.llm.timeout or IDLE_SECONDS,
        tell=tell,
    )


async def _groq(settings: Settings, progress: Progress, tell: Progress) -> Provider:  # noqa: ARG001
    from miyabi_cli.llm.groq import IDLE_SECONDS, open_groq

    section = settings.llm.groq
    idle = settings.llm.timeout or IDLE_SECONDS
    return open_groq(key_of(section), section.model, endpoint=section.endpoint, idle=idle, tell=tell)


OPENERS: dict[str, Opener] = {
    "vllm": _vllm,
    "ollama": _ollama,
    "groq": _groq,
    "openai": _openai,
    "embedded": _embedded,
    "replay": _replay,
}
