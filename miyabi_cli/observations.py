"""What was found to work here, or not, and what to do about it: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miyabi_cli.errors import MiyabiError

Level = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at; `hint` says what to do: every warning and failure has one."""

    subject: str
    level: Level
    message: str
    hint: str | None = None


def failure(subject: str, error: MiyabiError, hint: str) -> Observation:
    """Return the finding that an error is; `hint` stands in where the error says not what to do."""
    return Observation(subject, "fail", error.message, error.hint or hint)
