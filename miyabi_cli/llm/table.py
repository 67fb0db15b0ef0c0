"""The providers by name, and opening one from the settings."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from miyabi_cli.errors import NotLocal, SettingsError
from miyabi_cli.llm.choosing import choose, is_allowed, is_local, key_of
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of

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


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a provider needs; `profile` looks up what is known of a model behind this very server."""

    settings: Settings
    progress: Progress
    tell: Progress
    profile: Callable[[str], Profile]


Opener = Callable[[Opening], Awaitable["Provider"]]


async def open_provider(
    settings: Settings, progress: Progress, tell: Progress | None = None, account: Account | None = None
) -> Provider:
    """Return the provider that the settings name, with its fallbacks, as if nothing were known of its server.

    `auto` takes the first that is there. `progress` hears of what takes a while, such as a model that is loaded;
    `tell`, for the provider's whole life, of what a person should know, such as an option that the server refuses (by
    default `progress` hears it). Requests are put to `account`, and its caps hold. Raises ProviderError, SettingsError,
    MachineError.
    """
    return await Servers(settings, progress, tell or progress, by_findings=False).provider(account)


@dataclass(slots=True)
class Servers:
    """The servers that the settings name, each opened once for all runs of a process.

    The runs share its connections, its pace and what it has shown of itself; each has an account of its own, and goes
    over to a fallback by itself. `by_findings`: what doctor has found of a server is gone by.
    """

    settings: Settings
    progress: Progress
    tell: Progress
    by_findings: bool = True
    _chosen: str = ""
    _opened: dict[str, Provider] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def provider(self, account: Account | None = None, tell: Progress | None = None) -> Provider:
        """Do what `open_provider` does. To close the provider is to close its servers, for all runs.

        `tell` hears of a provider that is given up for the next, instead of who hears what the servers tell.
        """
        from miyabi_cli.llm.routing import Choice, given_up, open_first

        llm = self.settings.llm
        names = dict.fromkeys((llm.provider, *llm.fallback))
        choices = [Choice(name, functools.partial(self._metered, name, account)) for name in names]
        stops = self.settings.budget.on_exceed == "stop"
        tell = tell or self.tell
        routed = await open_first(choices, tell, stop_at_budget=stops)
        if account is None and routed.switched:  # nothing will be asked that could tell of it
            tell(given_up(routed.switched))
        return routed

    async def close(self) -> None:
        """Give back the connections of every server that was opened."""
        for provider in self._opened.values():
            await provider.close()

    async def _metered(self, name: str, account: Account | None) -> Provider:
        """Return one provider, metered where there is an account."""
        from miyabi_cli.llm.provider import Provider

        async with self._opening:
            if name == "auto":
                name = self._chosen = self._chosen or await choose(self.settings)
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
            raise NotLocal(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
        profile = functools.partial(self._profile, name) if self.by_findings else profile_of
        return await OPENERS[name](Opening(self.settings, self.progress, self.tell, profile))

    def _profile(self, name: str, model: str) -> Profile:
        """Return what is known of a model, less what doctor has found in the last day that its server does not do."""
        from miyabi_cli.llm.inspecting.remembering import recall

        profile, known = profile_of(model), recall(self.settings, name, time.time())
        lost = [part for part in ("tools", "schema") if known and getattr(known.abilities, part) is False]
        lost = [part for part in lost if getattr(profile.capabilities, part)]
        if known is None or not lost:
            return profile
        when = datetime.fromtimestamp(known.at, UTC)
        means = "JSON objects instead of calls" if "tools" in lost else "JSON by the prompt alone"
        found = f"doctor has found at {when:%Y-%m-%d %H:%M} UTC that {name} loses {' and '.join(lost)}"
        self.tell(f"{found}, so {model} is asked for {means}; once that is mended, run miyabi doctor")
        return replace(profile, capabilities=replace(profile.capabilities, **dict.fromkeys(lost, False)))


async def _vllm(opening: Opening) -> Provider:
    from miyabi_cli.llm.harmony.tokens import encoding
    from miyabi_cli.llm.vllm import IDLE_SECONDS, is_gpt_oss, open_vllm

    section = opening.settings.llm.vllm
    if section.wire != "chat" and is_gpt_oss(section.model):
        # The vocabulary takes a third of a second to load; meanwhile the base's checks run.
        asyncio.get_running_loop().run_in_executor(None, encoding)
    return open_vllm(
        section.endpoint,
        section.model,
        key=key_of(section),
        wire=section.wire,
        idle=opening.settings.llm.timeout or IDLE_SECONDS,
        profile=opening.profile(section.model),
        tell=opening.tell,
    )


async def _openai(opening: Opening) -> Provider:
    from miyabi_cli.llm.openai import IDLE_SECONDS, open_openai

    section = opening.settings.llm.openai
    if not section.model:
        hint = "--model, or llm.openai.model in the settings"
        raise SettingsError("the provider openai needs a model's name", hint=hint)
    if section.tools == "auto":
        profile = opening.profile(section.model)
    else:
        profile = replace(profile_of(section.model), capabilities=CAPABILITIES[section.tools], editing="apply_patch")
    idle = opening.settings.llm.timeout or IDLE_SECONDS
    return open_openai(
        section.endpoint, section.model, key=key_of(section), profile=profile, idle=idle, tell=opening.tell
    )


async def _embedded(opening: Opening) -> Provider:
    from miyabi_cli.llm.embedded import open_embedded

    llm = opening.settings.llm
    return await open_embedded(llm.embedded, idle=llm.timeout, progress=opening.progress, tell=opening.tell)


async def _replay(opening: Opening) -> Provider:
    from miyabi_cli.llm.replay import open_replay

    file = opening.settings.llm.replay.file
    if file is None:
        raise SettingsError("the provider replay needs a recording", hint="--model FILE, or llm.replay.file")
    return open_replay(file)


async def _ollama(opening: Opening) -> Provider:
    from miyabi_cli.llm.native.models import refuse_remote
    from miyabi_cli.llm.ollama import IDLE_SECONDS, open_ollama

    llm, section = opening.settings.llm, opening.settings.llm.ollama
    if llm.local_only:
        await refuse_remote(section.endpoint, section.model, key=key_of(section))
    return open_ollama(
        section.endpoint,
        section.model,
        key=key_of(section),
        num_ctx=section.num_ctx,
        keep_alive=section.keep_alive,
        idle=llm.timeout or IDLE_SECONDS,
        profile=opening.profile(section.model.replace(":", "-")),
        tell=opening.tell,
    )


async def _groq(opening: Opening) -> Provider:
    from miyabi_cli.llm.groq import IDLE_SECONDS, open_groq

    section = opening.settings.llm.groq
    return open_groq(
        key_of(section),
        section.model,
        endpoint=section.endpoint,
        idle=opening.settings.llm.timeout or IDLE_SECONDS,
        profile=opening.profile(section.model),
        tell=opening.tell,
    )


OPENERS: dict[str, Opener] = {
    "vllm": _vllm,
    "ollama": _ollama,
    "groq": _groq,
    "openai": _openai,
    "embedded": _embedded,
    "replay": _replay,
}
