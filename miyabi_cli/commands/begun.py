"""What a command line has begun, for the report of an error that ends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Begun:
    """The context's `obj` of each command: the output format that was asked for, and the run once there is one."""

    format: str = ""
    run_id: str | None = None
