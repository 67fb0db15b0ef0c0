"""What was found out about the providers, the machine and the repository: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miyabi_cli.exits import ExitCode
from miyabi_cli.llm.inspecting.remembering import Abilities
from miyabi_cli.observations import Observation

# not asked: llm.local_only forbids it, or --no-probe and its like leave it out.
State = Literal["works", "broken", "not set up", "not asked"]


@dataclass(frozen=True, slots=True)
class Rates:
    """A price in US dollars for a million tokens of input, cached input and output."""

    input: float
    cached_input: float
    output: float
    source: str


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """One provider. `probed_at`: the Unix time of a remembered look, None where the model was asked just now."""

    name: str
    model: str
    endpoint: str
    is_chosen: bool
    state: State
    findings: tuple[Observation, ...]
    version: str = ""
    abilities: Abilities | None = None
    rates: Rates | None = None
    probed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider that a run would take, and why; None where there is none. `findings`: what `auto` looked at."""

    provider: str | None
    reason: str
    findings: tuple[Observation, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found. `repository` is None outside of one."""

    choice: Choice
    providers: tuple[ProviderReport, ...]
    machine: tuple[Observation, ...]
    repository: tuple[Observation, ...] | None

    @property
    def exit_code(self) -> ExitCode:
        """What is wrong with the chosen provider comes before what is wrong with the machine."""
        chosen = [provider for provider in self.providers if provider.is_chosen]
        if not chosen or any(provider.state in ("broken", "not set up") for provider in chosen):
            return ExitCode.PROVIDER
        return ExitCode.MACHINE if any(finding.level == "fail" for finding in self.machine) else ExitCode.OK
