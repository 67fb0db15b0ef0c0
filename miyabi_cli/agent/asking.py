"""One question to the model: its reply, streamed as events, with what it cost put to the run's account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miyabi_cli.agent.allowance import Allowance
from miyabi_cli.errors import BrokenReply, ProviderError
from miyabi_cli.events import ProgressMade, ReplyStreaming
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Function, Message, Reply, Sampling, Waiting


@dataclass(frozen=True, slots=True)
class Question:
    """What goes with the messages of one request; see `Provider.chat`."""

    sampling: Sampling
    functions: tuple[Function, ...] = ()
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()


async def ask_model(
    provider: Provider, messages: Sequence[Message], question: Question, *, allowance: Allowance, attempt: int
) -> AsyncIterator[ReplyStreaming | ProgressMade | Reply]:
    """Yield what streams in, and last the reply. Raises ProviderError; its usage is on the account by then."""
    reply: Reply | None = None
    pieces = provider.chat(messages, question.functions, question.sampling, question.schema, question.stop)
    try:
        async for piece in pieces:
            if isinstance(piece, Reply):
                reply = piece
            elif isinstance(piece, Waiting):
                yield ProgressMade(f"waiting {piece.seconds:.0f} s: {piece.reason}")
            else:
                yield ReplyStreaming(attempt, piece)
    except ProviderError as error:
        allowance.spend(error.usage)
        raise
    if reply is None:
        raise BrokenReply(f"{provider.name} sent no reply")
    allowance.spend(reply.usage)
    yield reply
