"""What a review finds, whoever found it: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from miyabi_cli.errors import MiyabiError
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.check_records import Severity

Level = Literal["", "critical", "high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say of a place in the changed files.

    `line` counts from 1 in the file after the change, and is 0 for what concerns the file as a whole; `end_line` is at
    least `line`. `category` is a word such as correctness, security, secret, type, compile, lint, performance; `rule`
    the source's own name for what it found, "" where it has none; `source` the linter, `secrets`, `unicode` or `model`.
    `quote` is the code that is spoken of, as it stands in the file. `suggestion` is code that takes the place of
    these lines, "" for none; advice in words is a part of `message`.
    `confidence` is 0 to 1; of a linter's finding it is 1. `level` is how grave it is where a source tells that more
    finely than `severity`. `fingerprint` is given when the sources are merged; a source leaves it empty.
    """

    path: str
    line: int
    end_line: int
    severity: Severity
    category: str
    rule: str
    source: str
    message: str
    quote: str = ""
    suggestion: str = ""
    confidence: float = 1.0
    fingerprint: str = ""
    level: Level = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Findings that were made and are not shown, for one reason."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not looked at, or not by all; a source that did not run stands with the path ""."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class AddedSecret:
    """A secret that a change adds, on lines of the file after the change."""

    path: str
    line: int
    end_line: int
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What one source gives. `complete` is False where it left out something that it should have looked at.

    `error` is a failure that ended the source early (a provider's, a sandbox's); `limit` says that a limit did: time,
    cost or tokens. What was found before is in `findings` all the same. `summary` is a text on the change, "" for none.
    `secrets` are what nobody may be shown. `ran` is False where it has looked at nothing.
    """

    findings: tuple[Finding, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    complete: bool = True
    usage: Usage = field(default_factory=Usage)
    summary: str = ""
    error: MiyabiError | None = None
    limit: bool = False
    secrets: tuple[AddedSecret, ...] = field(default=(), repr=False)
    ran: bool = True
