"""What a run works with: plain data, opened by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miyabi_cli.llm.provider import Provider
from miyabi_cli.redaction import NO_SECRETS, Redactor
from miyabi_cli.relay import Relay
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.sandbox import Sandbox

if TYPE_CHECKING:
    from miyabi_cli.github.client import GitHub  # imports an HTTP client


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with; opened, and closed, by the caller. `redactor` knows the secrets at hand.

    `github` is there where an issue is to be read or a pull request to be opened; it asks nothing until then.
    """

    settings: Settings
    repository: Repository
    provider: Provider
    sandbox: Sandbox
    environ: Mapping[str, str]
    redactor: Redactor = NO_SECRETS
    github: GitHub | None = None
    warn: Relay = field(default_factory=lambda: Relay(lambda _kind, _what: None))
