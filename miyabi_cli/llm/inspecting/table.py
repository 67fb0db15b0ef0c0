"""The providers by name, and asking the server of each what it is and has: one row for each that differs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from miyabi_cli.llm.choosing import key_of
from miyabi_cli.llm.inspecting import embedded, ollama, vllm
from miyabi_cli.llm.inspecting.listing import inspect_models
from miyabi_cli.llm.inspecting.served import Advice, Served
from miyabi_cli.llm.server import Server

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Settings

InspectServer = Callable[[Server, str], Awaitable[Served]]

SECONDS = 10.0  # for all that is asked before a token is generated

CHAT = Advice(set_up="name a server by --endpoint and its model by --model, or by llm.openai in the settings")
GROQ = Advice(
    set_up="set GROQ_API_KEY: a key of console.groq.com",
    window="no request may have more than the key's tokens a minute: raise the limits of the account, or name a "
    "provider to go on with in llm.fallback",
)
REPLAY = Advice(set_up="--model FILE, or llm.replay.file: the recording of a run")

SERVERS: dict[str, tuple[InspectServer, Advice]] = {
    "vllm": (vllm.inspect_vllm, vllm.ADVICE),
    "ollama": (ollama.inspect_ollama, ollama.ADVICE),
    "groq": (functools.partial(inspect_models, lists_all=True), GROQ),
    "openai": (functools.partial(inspect_models, lists_all=False), CHAT),
}
WITHOUT_SERVER = {"embedded": embedded.ADVICE, "replay": REPLAY}


def advice_on(name: str) -> Advice:
    """Return what to do about what a provider lacks."""
    return SERVERS[name][1] if name in SERVERS else WITHOUT_SERVER[name]


async def inspect(settings: Settings, name: str, *, seconds: float = SECONDS) -> Served:
    """Return what a provider's server is and has; no token is generated.

    Raises ProviderError, MachineError, SettingsError, UsageError, and TimeoutError after `seconds`.
    """
    if name == "embedded":
        section = settings.llm.embedded
        return await asyncio.to_thread(embedded.inspect_embedded, section.model, section.context)
    if name == "replay":
        return Served()
    section = getattr(settings.llm, name)
    server = Server.at(name, section.endpoint, key=key_of(section), idle=seconds)
    try:
        async with asyncio.timeout(seconds):
            return await SERVERS[name][0](server, section.model or "")
    finally:
        await server.close()
