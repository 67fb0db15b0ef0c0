"""An Ollama server: `/api/version`, `/api/tags`, and what `/api/show` says of a model (docs/api.md of its repository).

With which context the model is loaded is asked once it is: see `llm.native.window`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from miyabi_cli.errors import ProviderError
from miyabi_cli.http import one_line
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.inspecting.served import Advice, Served
from miyabi_cli.llm.native.encoding import full_name
from miyabi_cli.llm.native.models import listed_models
from miyabi_cli.llm.native.reading import explained
from miyabi_cli.llm.server import Server
from miyabi_cli.observations import Observation

ADVICE = Advice(
    set_up="start it: ollama serve; then miyabi model pull gpt-oss:20b -p ollama",
    model="get it: miyabi model pull {model} -p ollama; or choose one of them by --model",
    tools="take a model that calls tools: gpt-oss:20b",
    thought="update Ollama: gpt-oss's thought comes since 0.11",
    window="raise OLLAMA_CONTEXT_LENGTH on the server, or make room: a smaller model, fewer of OLLAMA_NUM_PARALLEL",
)


async def inspect_ollama(server: Server, model: str) -> Served:
    """Ask an Ollama server what it is and has. Raises ProviderError."""
    names = tuple(one.name for one in listed_models(await server.ask("api/tags")))
    version = ""
    with contextlib.suppress(ProviderError):
        version = one_line(str((await server.ask("api/version")).get("version") or ""))[:40]
    there = full_name(model) in {full_name(name) for name in names}
    try:
        shown = await server.ask("api/show", encode_json({"model": model}))
    except ProviderError as error:
        if error.status != 404:
            raise explained(error, model) from None
        return Served(version, names, has_model=there)
    return Served(version, names, has_model=there or None, trained=_trained(shown), findings=tuple(_remarks(shown)))


def _trained(shown: dict[str, Any]) -> int | None:
    about = shown.get("model_info")
    found = [value for key, value in about.items() if str(key).endswith(".context_length")] if about else []
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def _remarks(shown: dict[str, Any]) -> list[Observation]:
    if not (shown.get("remote_host") or shown.get("remote_model")):
        return []
    where = one_line(str(shown.get("remote_host") or "its publisher's servers"))
    hint = "take a model of this machine where that matters; llm.local_only: true sees to it"
    return [Observation("privacy", "warn", f"the model runs at {where}: prompts leave this machine", hint)]
