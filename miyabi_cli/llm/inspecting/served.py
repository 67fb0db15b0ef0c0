"""What a server says of itself, and what a person can do about what it lacks: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_cli.observations import Observation

FLAGS = "--enable-auto-tool-choice --tool-call-parser openai"


@dataclass(frozen=True, slots=True)
class Served:
    """A server and the model that is asked for.

    `models`: the names that are there; None: it does not list them. `has_model`: whether the one that is asked for is
    among them; None: that is not known. `window`: tokens that the model is served with; `trained`: that it could have;
    None: it does not say. `findings`: what only this kind of server has.
    """

    version: str = ""
    models: tuple[str, ...] | None = None
    has_model: bool | None = None
    window: int | None = None
    trained: int | None = None
    findings: tuple[Observation, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: to get such a server, and where tools, thought, a schema, a model or a larger window are missing.

    `note`: where the server refused something on the way. `{model}` is the model's name.
    """

    set_up: str
    model: str = "choose one of them by --model, or start the server with it"
    tools: str = (
        "start the server with its tool-call parser (llama-server: --jinja; vLLM: --enable-auto-tool-choice "
        "--tool-call-parser …), or set llm.openai.tools: schema"
    )
    thought: str = "start the server with its reasoning parser (llama-server: --reasoning-format auto), or update it"
    schema: str = "update the server, or take another one: miyabi tells the model the schema, and checks what comes"
    window: str = "start the server with a larger context"
    note: str = "miyabi goes on without; another version of the server may know it"
