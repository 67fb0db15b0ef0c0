"""What a command line has begun, for the report of an error that ends it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_cli.redaction import NO_SECRETS, Redactor

if TYPE_CHECKING:
    from miyabi_cli.report.streams import ColorChoice, Streams


@dataclass(slots=True)
class Begun:
    """The context's `obj` of each command: the output format that was asked for, the run once there is one, whether it
    could go on where it ended by an error, the secrets that are known so far, and the file that takes the result."""

    format: str = ""
    run_id: str | None = None
    can_go_on: bool = False
    redactor: Redactor = NO_SECRETS
    output: Path | None = None

    def streams(
        self, output: Path | None, *, color: ColorChoice = "never", quiet: bool = True, verbose: bool = False
    ) -> Streams:
        """Return the streams of a command, to be closed by a `with`; a file among them hears of an error too.

        Raises MachineError where the file can't be written.
        """
        from miyabi_cli.report.streams import open_streams

        streams = open_streams(output, color=color, quiet=quiet, verbose=verbose)
        self.output = output
        return streams

    def result_begins(self) -> None:
        """Note that a part of the result is written: an error that comes after it stands on stderr alone."""
        self.format, self.output = "", None

    def write_error(self, text: str) -> None:
        """Write an error to the file that was to take the result: empty, it would look like one.

        Raises OSError.
        """
        if self.output and self.output.is_file():  # no device: a terminal would show it twice
            with self.output.open("a", encoding="utf-8") as file:
                file.write(text)

    def hint(self, hint: str | None) -> str | None:
        """Return the hint of an error, and how the run that it has stopped goes on."""
        if not self.can_go_on:
            return hint
        going_on = f"miyabi codegen --resume {self.run_id}"
        return f"{hint} (then: {going_on})" if hint else f"{going_on} goes on with the run"
