"""Whether a server kept to its objectives: one verdict on all levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miyabi_cli.bench.load.objectives import Objectives, judged, misses


@dataclass(frozen=True, slots=True)
class Verdict:
    """`levels` has what each judged level missed, by its name; `notes` are for a person."""

    objectives: Objectives | None
    levels: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]
    requests: int
    failed: int

    @property
    def passed(self) -> bool:
        return not any(self.levels.values()) and (self.objectives is None or bool(self.levels))

    def data(self) -> dict[str, Any]:
        """Return it as the document's summary has it; `passed` is null where there are no objectives."""
        named = self.objectives is not None
        return {
            "requests": self.requests,
            "errors": self.failed,
            "slo": self.objectives.name if self.objectives else None,
            "passed": self.passed if named else None,
            "missed": {level: list(missed) for level, missed in self.levels.items() if missed},
        }


def judge(objectives: Objectives | None, results: Sequence[Mapping[str, Any]]) -> Verdict:
    """Return the verdict on measured levels; without objectives it passes."""
    requests = sum(result["requests"] for result in results)
    failed = sum(sum(result["errors"].values()) for result in results)
    if objectives is None:
        return Verdict(None, {}, (), requests, failed)
    levels = {_name(result): misses(objectives, result) for result in judged(objectives, results)}
    wanted = objectives.concurrency
    if wanted is None or any(one.get("concurrency") == wanted and one["requests"] >= wanted for one in results):
        return Verdict(objectives, levels, (), requests, failed)
    # what was not measured is not kept: fewer requests than that were never under way at once
    levels[f"{wanted} in parallel"] = [*levels.get(f"{wanted} in parallel", ()), "not measured"]
    note = f"the objective {objectives.name} is about {wanted} in parallel, which was not measured"
    return Verdict(objectives, levels, (note,), requests, failed)


def _name(result: Mapping[str, Any]) -> str:
    if "concurrency" in result:
        return f"{result['concurrency']} in parallel"
    return f"{result['rate']:g} a second"
