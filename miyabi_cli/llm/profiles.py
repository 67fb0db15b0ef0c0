"""What is known of each model: what it can do, how it is best sampled, and how it edits best.

How a model edits best is found by measuring: the figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from miyabi_cli.messages import Effort

Editing = Literal["apply_patch", "rewrite"]
Strategy = Literal["rewrite", "infill", "anew"]

# What a model that thinks may think before it answers, by effort.
THOUGHT_TOKENS: Mapping[Effort, int] = {"low": 2_048, "medium": 8_192, "high": 16_384}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the model can do behind its server.

    `tools`: it emits native tool calls. `schema`: the server holds a reply to a JSON Schema.
    A model with neither is asked for its action in plain text. `infill`: it fills in the middle of a text.
    `forced`: a function that a request names (`ChatRequest.forced`) is called, whatever the model would do.
    """

    tools: bool
    schema: bool
    infill: bool = False
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One model, or family of models.

    `window`: tokens of prompt, thought and answer together. `thinks`: takes a reasoning effort.
    `editing`: `apply_patch` explores by tools and patches; `rewrite` is shown the code and writes it anew.
    `attempts`: how many tries a run makes where the user names no number. `mending_rounds`: how often in one attempt
    the model is told what fails with its patch. `infill_format`: the prompt that leaves `{prefix}` and `{suffix}` with
    a gap between. `strategies`: what a rewriting model does in its first attempt, its second, and so on.
    """

    pattern: str
    window: int = 131_072
    capabilities: Capabilities = Capabilities(tools=True, schema=True)
    editing: Editing = "apply_patch"
    temperature: float | None = None
    top_p: float | None = None
    thinks: bool = False
    attempts: int = 1
    mending_rounds: int = 3
    infill_format: str = ""
    strategies: tuple[Strategy, ...] = ("rewrite",)

    def thought_tokens(self, effort: Effort) -> int:
        """Return how many tokens a reply may hold beside the answer's; 0 of a model that does not think."""
        return THOUGHT_TOKENS[effort] if self.thinks else 0


PROFILES = (
    Profile(r"gpt-oss", temperature=1.0, top_p=1.0, thinks=True),
    Profile(
        r"qwen2\.5-coder-(0\.5|1\.5|3)b",
        window=16_384,
        capabilities=Capabilities(tools=False, schema=True, infill=True),
        editing="rewrite",
        attempts=4,
        mending_rounds=0,
        # Qwen2.5-Coder's technical report, section 3.2: the tokens of fill-in-the-middle training.
        infill_format="<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        strategies=("infill", "rewrite", "anew", "anew"),
    ),
    Profile(r"smollm2", window=8_192, capabilities=Capabilities(tools=False, schema=True), editing="rewrite"),
    Profile(r""),
)


def profile_of(model: str) -> Profile:
    """Return the first profile whose pattern is in the model's name, in any case; the last one fits every name."""
    return next(profile for profile in PROFILES if re.search(profile.pattern, model, re.IGNORECASE))
