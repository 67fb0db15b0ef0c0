"""Where a report writes: stdout or a file for the result, stderr for progress, each with colours or without."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TextIO

from miyabi_cli.errors import MachineError

if TYPE_CHECKING:
    from rich.console import Console

ColorChoice = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Streams:
    """`output` takes the result, `talk` the progress; the end of a `with` closes a file."""

    output: TextIO
    talk: TextIO
    color: ColorChoice = "auto"
    quiet: bool = False
    verbose: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.output is not sys.stdout:
            self.output.close()

    def colored(self, stream: TextIO) -> bool:
        """Say whether a stream gets colours: a terminal does, unless NO_COLOR (no-color.org) or a flag says no."""
        if self.color != "auto":
            return self.color == "always"
        return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()

    def console(self, stream: TextIO) -> Console:
        """Return rich's console for a stream."""
        from rich.console import Console

        class Pipe(Console):
            def on_broken_pipe(self) -> None:
                """Pass the error on: rich would end the process, and an event loop in the middle of its work."""
                raise BrokenPipeError

        # Not no_color: that leaves bold and dim. Emoji would make one of the `:bug:` in a text.
        return Pipe(file=stream, force_terminal=self.colored(stream), highlight=False, markup=False, emoji=False)

    def write_bytes(self, content: bytes) -> None:
        """Write to the result's stream as it is, whatever the stream's encoding."""
        self.output.flush()
        self.output.buffer.write(content)
        self.output.buffer.flush()


def open_streams(output: Path | None, *, color: ColorChoice, quiet: bool, verbose: bool) -> Streams:
    """Return the streams of this process; `output` names a file instead of stdout. Raises MachineError."""
    result: TextIO = sys.stdout
    if output is not None:
        try:
            result = output.open("w", encoding="utf-8", errors="replace")
        except OSError as error:
            raise MachineError(f"can't write {output}: {error.strerror}") from None
    return Streams(result, sys.stderr, color, quiet, verbose)
