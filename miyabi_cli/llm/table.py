"""The providers by name, and opening one from the settings."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
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
    return await Servers(settings, progress, tell or progress).provider(account)


@dataclass(slots=True)
class Servers:
    """The servers that the settings name, each opened once for all runs of a process.

    The runs share its connections, its pace and what it has shown of itself; each has an account of its own, and goes
    over to a fallback by itself.
    """

    settings: Settings
    progress: Progress
    tell: Progress
    _chosen: str = ""
    _opened: dict[str, Provider] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def provider(self, account: Account | None = None) -> Provider:
        """Do what `open_provider` does. To close the provider is to close its servers, for all runs."""
        settings = self.settings
        async with self._opening:
            if not self._chosen:
                self._chosen = settings.llm.provider if settings.llm.provider != "auto" else await choose(settings)
        first = await self._metered(self._chosen, account)
        others = [
            functools.partial(self._metered, other, account)
            for other in dict.fromkeys(settings.llm.fallback)
            if other != self._chosen
        ]
        if not others:
            return first
        from miyabi_cli.llm.routing import Routed

        return Routed(first, others, self.tell, stop_at_budget=settings.budget.on_exceed == "stop")

    async def close(self) -> None:
        """Give back the connections of every server that was opened."""
        for provider in self._opened.values():
            await provider.close()

    async def _metered(self, name: str, account: Account | None) -> Provider:
        """Return one provider, metered where there is an account."""
        from miyabi_cli.llm.provider import Provider

        async with self._opening:
            opened = self._opened.get(name) or await self._open(name)
            self._opened[name] = opened
        if account is None:
            return Provider(opened.wire, retries=opened.retries)
        from miyabi_cli.llm.metering import Metered
        from miyabi_cli.llm.prices import find_price

        settings = self.settings
        endpoint = getattr(getattr(settings.llm, name), "endpoint", "")
        find = functools.partial(find_price, name, opened.model_name, endpoint, settings.prices)
        metered = Metered(opened.wire, account, find, tries=TRIES.get(name, 1), is_local=is_local(settings, name))
        asyncio.get_running_loop().run_in_executor(None, metered.look_up)
        return Provider(metered, retries=opened.retries)

    async def _open(self, name: str) -> Provider:
        if not is_allowed(self.settings, name):
            hint = "choose a server on this machine, or set llm.local_only to false"
            raise SettingsError(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
        return await OPENERS[name](self.settings, self.progress, self.tell)


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
