"""What a tool gives back to the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from miyabi_cli.workspace.output import BoundedOutput


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`output` is for the model. `failed`: the tool could not do it, or its command ended with another code than 0.

    `changed` holds the paths that an edit changed; what a command changed is not known.
    """

    output: str
    failed: bool = False
    changed: tuple[str, ...] = ()


def sendable(result: ToolResult, limit: int) -> ToolResult:
    """Return a result of at most about `limit` bytes, head and tail kept, without NUL or half characters."""
    output = BoundedOutput(limit)
    output.feed(result.output.replace("\0", "\ufffd").encode("utf-8", "replace"))
    return replace(result, output=output.text()[0])
