"""The models of an Ollama server: listed, pulled, and told from those that it only passes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import BrokenReply, NotLocal, ProviderError, ProviderRefused
from miyabi_cli.http import one_line
from miyabi_cli.llm.chat.encoding import encode_json
from miyabi_cli.llm.native.ndjson import read_objects
from miyabi_cli.llm.native.reading import explained, stream_error
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.server import CONTROL_SECONDS, Server

PULL_IDLE_SECONDS = 300.0  # while it verifies the hash of a large model, Ollama sends nothing

# Bytes that are there, bytes in all (0: not known yet), and what goes on.
Show = Callable[[int, int, str], None]

_FINAL = re.compile(
    r"file does not exist|not found|no space|unauthorized|denied|requires|newer version|insecure|invalid model name",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model that is on the server: `size` in bytes; what the server does not tell is "" or None.

    `remote`: it is run elsewhere, and prompts leave the machine.
    """

    name: str
    size: int | None
    parameters: str
    quantization: str
    context_length: int | None
    digest: str
    remote: bool


async def list_models(endpoint: str, *, key: str | None = None) -> list[OllamaModel]:
    """Return the models of a server by `GET /api/tags`. Raises ProviderError."""
    server = Server.at("ollama", endpoint, key=key, idle=CONTROL_SECONDS)
    try:
        return listed_models(await server.ask("api/tags"))
    finally:
        await server.close()


def listed_models(answer: dict[str, Any]) -> list[OllamaModel]:
    """Return the models in an answer to `GET /api/tags`. Raises BrokenReply for another server's answer."""
    listed = answer.get("models")
    if not isinstance(listed, list):
        raise BrokenReply("ollama does not list its models", hint="is --endpoint the address of an Ollama server?")
    return [_model(entry) for entry in listed if isinstance(entry, dict)]


async def pull_model(
    endpoint: str, name: str, show: Show, *, key: str | None = None, retries: Retries | None = None
) -> None:
    """Have a server fetch a model by `POST /api/pull`; it goes on with what an earlier pull has left.

    A stream that breaks is asked for again, as often as it brings something. Raises ProviderError.
    """
    retries = retries or Retries()
    server = Server.at("ollama", endpoint, key=key, idle=PULL_IDLE_SECONDS)
    pull = _Pull(show)
    failures, most = 0, 0
    try:
        while True:
            try:
                await _pull_once(server, name, pull)
                return
            except ProviderError as error:
                failures = 1 if pull.done > most else failures + 1
                most = max(most, pull.done)
                seconds = retries.wait(failures, error)
                if seconds is None:
                    raise explained(error, name) from None
            await retries.sleep(seconds)
    finally:
        await server.close()


async def refuse_remote(endpoint: str, model: str, *, key: str | None = None) -> None:
    """Raise NotLocal for a model that the server passes on to another, whatever it is called (`/api/show`)."""
    server = Server.at("ollama", endpoint, key=key, idle=CONTROL_SECONDS)
    try:
        told = await server.ask("api/show", encode_json({"model": model}))
    except ProviderError as error:
        raise explained(error, model) from None
    finally:
        await server.close()
    if told.get("remote_host") or told.get("remote_model"):
        hint = "choose a model that is on this machine, or set llm.local_only to false"
        raise NotLocal(f"llm.local_only is set, and Ollama runs {model} on another machine", hint=hint)


@dataclass(slots=True)
class _Pull:
    """The bytes of a pull by layer: what is there, and what there will be."""

    show: Show
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    done: int = 0

    def add(self, line: dict[str, Any]) -> bool:
        """Take a line of the stream; say whether it is the last."""
        status = str(line.get("status") or "")[:100]
        digest, total = line.get("digest"), _count(line.get("total"))
        if isinstance(digest, str) and total is not None and (digest in self.layers or len(self.layers) < 10_000):
            self.layers[digest] = (min(_count(line.get("completed")) or 0, total), total)
            status = "ollama"
        self.done = sum(done for done, _ in self.layers.values())
        self.show(self.done, sum(total for _, total in self.layers.values()), status)
        return status == "success"


async def _pull_once(server: Server, name: str, pull: _Pull) -> None:
    async with server.open("api/pull", encode_json({"model": name, "stream": True})) as response:
        last = False
        async for line in read_objects(response, "ollama"):
            if said := stream_error(line):
                raise _pull_error(said, name)
            last = pull.add(line)
    if not last:
        raise BrokenReply(f"ollama broke off the pull of {name}", hint="run it again: what is there is kept")


def _pull_error(said: str, name: str) -> ProviderError:
    message = f"ollama can't pull {name}: {one_line(said)}"
    if _FINAL.search(said):
        return ProviderRefused(message, hint="the names are listed on ollama.com/library")
    return BrokenReply(message, hint="run it again: what is there is kept")


def _model(entry: dict[str, Any]) -> OllamaModel:
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    return OllamaModel(
        name=str(entry.get("name") or entry.get("model") or ""),
        size=_count(entry.get("size")),
        parameters=str(details.get("parameter_size") or ""),
        quantization=str(details.get("quantization_level") or ""),
        context_length=_count(details.get("context_length")) or None,
        digest=str(entry.get("digest") or ""),
        remote=bool(entry.get("remote_host") or entry.get("remote_model")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
