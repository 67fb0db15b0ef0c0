"""What a model is asked in a review, and in what form it answers: the functions, their schemas and the prompts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from miyabi_cli.llm.calling import Called, call_at_cost
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Effort, Function, Message, Sampling
from miyabi_cli.review.findings import Level
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.check_records import Severity

EFFORT: Effort = "medium"  # of thought, where the settings name none
ANSWER_TOKENS = 3_072
SMALL_WINDOW = 32_768  # tokens: a model with less is a small one, and is asked shortly

CATEGORIES = (
    "correctness", "security", "performance", "reliability", "compatibility", "maintainability", "tests",
    "documentation",
)  # fmt: skip
LEVELS: Mapping[Level, Severity] = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
CERTAINTIES: Mapping[str, float] = {"certain": 0.9, "likely": 0.7, "possible": 0.4}
VERDICTS = ("real", "unsure", "wrong")
MOST_FINDINGS, MOST_FINDINGS_SMALL = 20, 2  # of one request

_FINDING: dict[str, Any] = {
    "quote": {"type": "string", "maxLength": 400},
    "line": {"type": "integer"},
    "problem": {"type": "string", "maxLength": 800},
    "category": {"type": "string", "enum": list(CATEGORIES)},
    "severity": {"type": "string", "enum": list(LEVELS)},
    "certainty": {"type": "string", "enum": list(CERTAINTIES)},
}


@dataclass(frozen=True, slots=True)
class Asker:
    """A model, and how it is sampled in a review. Every answer obeys the schema of its function."""

    provider: Provider
    sampling: Sampling

    @property
    def small(self) -> bool:
        """Whether it is a small model: short prompts suit it, and what it finds needs a second look most."""
        return self.provider.profile.editing == "rewrite" or self.provider.max_tokens < SMALL_WINDOW

    @property
    def room(self) -> int:
        """The tokens that a prompt may have at the most."""
        return max(512, self.provider.max_tokens - (self.sampling.max_tokens or 0) - 256)

    async def ask(self, prompt: str, function: Function, text: str) -> Called:
        """Ask by one of the prompts. Raises ProviderError."""
        return await call_at_cost(self.provider, function, messages_of(prompt, text), self.sampling)

    async def fits(self, prompt: str, function: Function, text: str) -> bool:
        """Say whether a prompt leaves room for its answer in the model's window. Raises ProviderError."""
        return await self.provider.count_tokens(messages_of(prompt, text), (function,)) <= self.room


def asker_of(provider: Provider, settings: Settings) -> Asker:
    """Return how a model is asked under these settings."""
    llm = settings.llm
    effort = llm.default_reasoning_effort or EFFORT
    answer = min(llm.default_max_tokens, ANSWER_TOKENS)
    most = min(answer + provider.profile.thought_tokens(effort), provider.max_tokens // 2)
    return Asker(provider, Sampling(llm.default_temperature, most, effort))


def messages_of(prompt: str, text: str) -> tuple[Message, ...]:
    """Return the messages of a request; the first stays the same for all of its kind, for a server's prefix cache."""
    return Message("system", read_prompt(prompt)), Message("user", text)


@functools.cache
def read_prompt(name: str) -> str:
    return resources.files("miyabi_cli.review.model").joinpath("prompts", f"{name}.md").read_text("utf-8").strip()


def findings_function(paths: Sequence[str] = ()) -> Function:
    """Return the function that takes findings; with `paths`, each of them names one."""
    fields = {**({"path": _choice(paths)} if paths else {}), **_FINDING}
    return _listing(_object(fields), MOST_FINDINGS)


def choosing_function(quotes: Sequence[str]) -> Function:
    """Return the function that takes findings of a small model, whose quotes can only be some of these lines."""
    fields = {name: part for name, part in _FINDING.items() if name != "line"}
    return _listing(_object({**fields, "quote": _choice(quotes)}), MOST_FINDINGS_SMALL)


def _listing(items: Mapping[str, Any], most: int) -> Function:
    listed = {"type": "array", "maxItems": most, "items": dict(items)}
    return Function("report_findings", "Report the defects that you found.", _object({"findings": listed}))


def _choice(values: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_VERDICT = {"reason": {"type": "string", "maxLength": 400}, "verdict": {"type": "string", "enum": list(VERDICTS)}}
JUDGE = Function("judge_claim", "Say whether the claim is true.", _object(_VERDICT))
