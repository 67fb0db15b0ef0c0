"""The models that a server of chat completions lists under `/v1/models`, and the window of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miyabi_cli.errors import BrokenReply, ProviderRefused
from miyabi_cli.http import one_line
from miyabi_cli.llm.inspecting.served import Served
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.windows import listed_window, trained_window, window_of

NOT_LISTED = frozenset({404, 405, 501})  # what a server says that chats, and lists nothing
MOST_MODELS = 2000
MOST_NAME = 200


async def inspect_models(server: Server, model: str, *, lists_all: bool) -> Served:
    """Return what `/v1/models` says. `lists_all`: a model that is not among them is not there. Raises ProviderError."""
    try:
        listed = await server.ask("v1/models")
    except ProviderRefused as error:
        if error.status not in NOT_LISTED:
            raise
        return Served()
    names = model_names(listed)
    has_model = model in names or (None if not lists_all else False)
    window = await served_window(server, listed, model)
    return Served(models=names, has_model=has_model, window=window, trained=trained_window(listed, model))


def model_names(listed: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in an answer to `/v1/models`. Raises BrokenReply for another server's answer."""
    data = listed.get("data")
    if not isinstance(data, list):
        hint = "is the endpoint the address of a model's server?"
        raise BrokenReply("what answers /v1/models does not list models", hint=hint)
    entries = [entry for entry in data[:MOST_MODELS] if isinstance(entry, dict)]
    return tuple(one_line(str(entry["id"]))[:MOST_NAME] for entry in entries if entry.get("id"))


async def served_window(server: Server, listed: Mapping[str, Any], model: str) -> int | None:
    """Return the window that a model is served with, None where nothing says. Raises ProviderError.

    llama.cpp lists the one that the model was trained with; its own, which may be smaller, is in `/props`.
    """
    told = listed_window(listed, model)
    if told is None and (told := trained_window(listed, model)):
        generation = (await server.ask("props")).get("default_generation_settings")
        told = min(told, window_of(generation) or told)
    return told
