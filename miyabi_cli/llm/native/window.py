"""Did Ollama read the whole prompt? The context of the loaded model, and the tokens that a reply says were read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from miyabi_cli.errors import ProviderError, RequestTooLarge
from miyabi_cli.llm.counting import upper_bound
from miyabi_cli.llm.native.encoding import full_name
from miyabi_cli.llm.server import Server
from miyabi_cli.messages import Function, Message, Reply

ASK_SECONDS = 5.0
# A cut prompt fills what the window has room for. A smaller count is another thing: what was not in the cache, of
# servers before 0.2, or a proxy's idea of a count.
LEAST_COUNT = 1000
BYTES_PER_TOKEN = 5.0  # code and English have about 4: a prompt with more for each token read is counted in earnest


async def loaded_context(server: Server, model: str) -> int | None:
    """Return the context that a model is loaded with by `GET /api/ps`: 0: not loaded, None: the server says nothing."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            data = await server.ask("api/ps")
    except (ProviderError, TimeoutError):
        return None
    listed = data.get("models")
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, dict):
            continue
        if full_name(model) in (full_name(str(entry.get("name"))), full_name(str(entry.get("model")))):
            length = entry.get("context_length")
            return length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None
    return 0


async def count_prompt(messages: Sequence[Message], functions: Sequence[Function]) -> int:
    """Return the tokens of a prompt to gpt-oss, counted beside the event loop."""
    from miyabi_cli.llm.harmony.rendering import count_tokens

    return await asyncio.to_thread(count_tokens, messages, functions)


async def cut_prompt(
    messages: Sequence[Message], functions: Sequence[Function], reply: Reply, loaded: int | None
) -> RequestTooLarge | None:
    """Return the error for a reply to a part of the prompt alone; only gpt-oss's tokens can be counted here.

    Since 0.2 `prompt_eval_count` is the whole prompt, with what the cache held. `loaded` is the window, where known.
    """
    read = reply.usage.input_tokens
    size = upper_bound(messages, functions)  # in bytes, more or less
    if size <= read * BYTES_PER_TOKEN or (not read and loaded and size <= loaded):
        return None
    sent = await count_prompt(messages, functions)
    too_long = loaded is not None and sent > loaded * 1.05
    factor = 1.25 if too_long or loaded is None else 2.0
    if sent <= read * factor + 500 or not (too_long or read >= LEAST_COUNT):
        return None
    message = f"ollama has cut the prompt: it read {read:,} of about {sent:,} tokens"
    hint = "raise llm.ollama.num_ctx, or OLLAMA_CONTEXT_LENGTH on the server; or take a smaller task"
    return RequestTooLarge(message, hint=hint, usage=reply.usage)
