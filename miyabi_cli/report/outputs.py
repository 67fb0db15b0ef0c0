"""The outputs of `codegen` by name: each takes every event as data, and at the end the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from miyabi_cli.report.streams import Streams
from miyabi_cli.report.text import write_result


class Output(Protocol):
    """`event` takes one event as the data of a JSON line; `result` the object of `--format json`."""

    def event(self, data: Mapping[str, Any]) -> None: ...

    def result(self, result: Mapping[str, Any]) -> None: ...


class TextOutput:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def event(self, data: Mapping[str, Any]) -> None:
        """Show nothing: progress has its own stream."""

    def result(self, result: Mapping[str, Any]) -> None:
        write_result(result, self._streams, self._streams.output)


class JsonOutput:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def event(self, data: Mapping[str, Any]) -> None:
        """Show nothing before the end."""

    def result(self, result: Mapping[str, Any]) -> None:
        print(json.dumps(result, indent=2), file=self._streams.output, flush=True)


class JsonlOutput:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def event(self, data: Mapping[str, Any]) -> None:
        print(json.dumps(data, separators=(",", ":")), file=self._streams.output, flush=True)

    def result(self, result: Mapping[str, Any]) -> None:
        """Show nothing: the last event holds the result."""


class PatchOutput:
    """Leaves stdout to the patch, which the command writes byte for byte; what a person wants to know on stderr."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def event(self, data: Mapping[str, Any]) -> None:
        """Show nothing: progress has its own stream."""

    def result(self, result: Mapping[str, Any]) -> None:
        if not self._streams.quiet:
            write_result(result, self._streams, self._streams.talk, diff=False)


OUTPUTS: dict[str, Callable[[Streams], Output]] = {
    "text": TextOutput,
    "json": JsonOutput,
    "jsonl": JsonlOutput,
    "patch": PatchOutput,
}


def open_output(name: str, streams: Streams) -> Output:
    """Return an output by its name in `OUTPUTS`."""
    return OUTPUTS[name](streams)
