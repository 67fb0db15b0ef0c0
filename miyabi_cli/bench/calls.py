"""Whether the tool calls of a run were well-formed: counted from its events, as the model wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.events import ConversationOpened, Event, ReplyReceived
from miyabi_cli.llm.objects.validating import obeys


@dataclass(slots=True)
class CallCounts:
    """`calls` that replies made; those are `valid` that name a function which the conversation offers, with arguments
    that are JSON and obey its schema. What is healed before it is run counts as it was written.
    """

    calls: int = 0
    valid: int = 0
    _offered: dict[int, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Look at one event of the run, in order."""
        match event:
            case ConversationOpened(attempt=attempt, functions=functions):
                self._offered[attempt] = {function.name: function.parameters for function in functions}
            case ReplyReceived(attempt=attempt, reply=reply):
                known = self._offered.get(attempt, {})
                self.calls += len(reply.tool_calls)
                self.valid += sum(
                    call.name in known and obeys(call.arguments, known[call.name]) for call in reply.tool_calls
                )
