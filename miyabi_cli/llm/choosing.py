"""What `auto` looks at: which providers are there, in which order they are taken, and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miyabi_cli.errors import MachineError, ProviderUnreachable

if TYPE_CHECKING:
    from miyabi_cli.settings.schema import Settings

PROBE_SECONDS = 1.0
NONE_FOUND = "no model's server was found"
NONE_HINT = "name a server by --endpoint, set GROQ_API_KEY, or get a small model for this machine: miyabi model pull"
LOCAL_HINT = "start vLLM or Ollama on this machine, or get a small model for it: miyabi model pull"
FORBIDDEN = "llm.local_only is set, and it is not on this machine"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that was looked at: whether `auto` would take it, and why (not), for a person."""

    provider: str
    is_there: bool
    reason: str


async def choose(settings: Settings) -> str:
    """Return the name of the provider that `take` returns."""
    return (await take(settings)).provider


async def take(settings: Settings) -> Candidate:
    """Return the first that answers of vLLM, Ollama, Groq (with a key) and embedded. Raises ProviderUnreachable."""
    for look in LOOKS.values():
        candidate = await look(settings)
        if candidate.is_there:
            return candidate
    raise ProviderUnreachable(NONE_FOUND, hint=hint_for_none(settings))


def hint_for_none(settings: Settings) -> str:
    """Say what to do where `auto` finds nothing."""
    return LOCAL_HINT if settings.llm.local_only else NONE_HINT


async def _look_for_vllm(settings: Settings) -> Candidate:
    return await _look_for_server(settings, "vllm", "v1/models", "data")


async def _look_for_ollama(settings: Settings) -> Candidate:
    return await _look_for_server(settings, "ollama", "api/tags", "models")


async def _look_for_groq(settings: Settings) -> Candidate:
    if not settings.llm.groq.api_key:
        return Candidate("groq", False, "no key for it is set")
    if not is_allowed(settings, "groq"):
        return Candidate("groq", False, FORBIDDEN)
    return Candidate("groq", True, "a key for it is set")


async def _look_for_embedded(settings: Settings) -> Candidate:
    from miyabi_cli.llm.local.models import find_model

    try:
        find_model(settings.llm.embedded.model)
    except MachineError as error:
        return Candidate("embedded", False, error.message)
    return Candidate("embedded", True, "its model is on this machine")


# In the order in which they are taken.
LOOKS: dict[str, Callable[[Settings], Awaitable[Candidate]]] = {
    "vllm": _look_for_vllm,
    "ollama": _look_for_ollama,
    "groq": _look_for_groq,
    "embedded": _look_for_embedded,
}


async def _look_for_server(settings: Settings, name: str, path: str, listed: str) -> Candidate:
    section = getattr(settings.llm, name)
    if not is_allowed(settings, name):
        return Candidate(name, False, FORBIDDEN)
    if await _answers(section.endpoint, path, listed, key_of(section)):
        return Candidate(name, True, f"it answers at {section.endpoint}")
    return Candidate(name, False, f"no such server answers at {section.endpoint}")


async def _answers(endpoint: str, path: str, listed: str, key: str | None) -> bool:
    """Say whether a model's server answers at an address: it lists its models under `listed`, or asks for a key."""
    import asyncio

    import httpx

    from miyabi_cli.http import open_client

    try:
        async with asyncio.timeout(PROBE_SECONDS), open_client(endpoint, key=key) as client:
            response = await client.get(f"{endpoint}/{path}")
            return response.status_code in (401, 403) or isinstance(response.json().get(listed), list)
    except (httpx.HTTPError, TimeoutError, ValueError, AttributeError, RecursionError):
        return False


def is_allowed(settings: Settings, name: str) -> bool:
    """Say whether `llm.local_only` lets a provider be asked."""
    return not settings.llm.local_only or is_local(settings, name)


def is_local(settings: Settings, name: str) -> bool:
    """Say whether a provider's model runs on this machine, as far as its address and its name tell."""
    from miyabi_cli.http import is_loopback
    from miyabi_cli.llm.native.encoding import is_cloud

    if name in ("embedded", "replay"):
        return True
    if name == "ollama" and is_cloud(settings.llm.ollama.model):
        return False
    return is_loopback(getattr(settings.llm, name).endpoint)


def key_of(section: Any) -> str | None:
    """Return the key in a provider's settings."""
    return section.api_key.get_secret_value() if section.api_key else None
