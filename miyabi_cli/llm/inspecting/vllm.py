"""A vLLM server: `/health`, `/version` and `/v1/models`, whose `max_model_len` is the window that is really there."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from miyabi_cli.errors import ProviderError, ProviderOverloaded
from miyabi_cli.http import one_line
from miyabi_cli.llm.inspecting.listing import inspect_models
from miyabi_cli.llm.inspecting.served import FLAGS, Advice, Served
from miyabi_cli.llm.server import Server

ADVICE = Advice(
    set_up=f"start one: vllm serve openai/gpt-oss-20b {FLAGS}; or name its address by --endpoint",
    model="choose one of them by --model, or start it: vllm serve {model}",
    tools=f"start vLLM with {FLAGS} (the parser of the model's family), or set llm.vllm.wire: harmony for gpt-oss",
    thought="start vLLM with --reasoning-parser openai_gptoss, or set llm.vllm.wire: harmony",
    window="start vLLM with a larger --max-model-len, or with less in --max-num-seqs where memory is short",
    note="update vLLM, or see what stands before it: raw Harmony loses no call and no thought",
)


async def inspect_vllm(server: Server, model: str) -> Served:
    """Ask a vLLM server what it is and has. Raises ProviderError."""
    await _check_health(server)
    served = await inspect_models(server, model, lists_all=True)
    with contextlib.suppress(ProviderError):  # a gateway before it may have no such route
        return replace(served, version=one_line(str((await server.ask("version")).get("version") or ""))[:40])
    return served


async def _check_health(server: Server) -> None:
    """Raise ProviderOverloaded where the server answers, and the engine behind it is dead."""
    try:
        async with server.open("health"):
            return
    except ProviderError as error:
        if error.status != 503:
            return
        message = f"vllm at {server.endpoint} is up, and its engine is not: /health says 503"
        raise ProviderOverloaded(message, hint="wait until it has started, else look at its log", status=503) from None
