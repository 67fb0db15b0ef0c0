"""What a command line has begun, for the report of an error that ends it."""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_cli.redaction import NO_SECRETS, Redactor


@dataclass(slots=True)
class Begun:
    """The context's `obj` of each command: the output format that was asked for, the run once there is one, whether it
    could go on where it ended by an error, and the secrets that are known so far."""

    format: str = ""
    run_id: str | None = None
    can_go_on: bool = False
    redactor: Redactor = NO_SECRETS

    def hint(self, hint: str | None) -> str | None:
        """Return the hint of an error, and how the run that it has stopped goes on."""
        if not self.can_go_on:
            return hint
        going_on = f"miyabi codegen --resume {self.run_id}"
        return f"{hint} (then: {going_on})" if hint else f"{going_on} goes on with the run"
