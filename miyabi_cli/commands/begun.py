"""What a command line has begun, for the report of an error that ends it."""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_cli.redaction import NO_SECRETS, Redactor


@dataclass(slots=True)
class Begun:
    """The context's `obj` of each command: the output format that was asked for, the run once there is one, and the
    secrets that are known so far."""

    format: str = ""
    run_id: str | None = None
    redactor: Redactor = NO_SECRETS
