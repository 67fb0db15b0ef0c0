"""What a model is asked of an issue, and what of its answer is taken: one function, no tools, the issue in a fence."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, get_args

from miyabi_cli.fences import fenced
from miyabi_cli.messages import Effort, Function, Message, Sampling
from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.labels import Vocabulary
from miyabi_cli.triage.row import Impact, IssueType, Owner, Priority, Severity

EFFORT: Effort = "low"
ANSWER_TOKENS = 1_024
THOUGHT_TOKENS: Mapping[Effort, int] = {"low": 1_024, "medium": 4_096, "high": 12_288}
BODY_LETTERS = 6_000  # that the model is shown: the head of a body, and its tail
SMALL_BODY_LETTERS = 2_500
SMALL_WINDOW = 32_768  # tokens: a model with less is a small one
EXAMPLE_LETTERS = 400
CANDIDATE_LETTERS = 300


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled issue that is like the one that is asked about."""

    title: str
    body: str
    label: str


def triage_function(
    vocabulary: Vocabulary, types: Sequence[IssueType], *, candidates: bool = False, brief: bool = False
) -> Function:
    """Return the function whose arguments the model gives; choices are those of the vocabulary.

    Only the type has to be there: what a model leaves out the rules say. `candidates`: there are issues that may be
    the same. `brief`: for a small model, which is asked only for what it can tell.
    """
    quote = {
        "type": "object",
        "properties": {"field": _choice(("title", "body")), "quote": {"type": "string", "maxLength": 300}},
        "required": ["field", "quote"],
        "additionalProperties": False,
    }
    properties: dict[str, Any] = {
        "type": _choice(types),
        "severity": _choice(get_args(Severity)),
        "priority": _choice(get_args(Priority)),
    }
    if not brief:
        properties |= {
            "impact": _choice(get_args(Impact)),
            "owner": _choice(get_args(Owner)),
            "estimate_minutes": {"type": "integer", "minimum": 1, "maximum": 10_080},
            "evidence": {"type": "array", "items": quote, "maxItems": 3},
            "missing": {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 5},
            "dependencies": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 10},
            "security": {"type": "boolean", "description": "It is about a hole in security."},
        }
        if others := vocabulary.others:
            told = "Further labels that surely fit; mostly none."
            properties["labels"] = {"type": "array", "items": _choice(others), "maxItems": 3, "description": told}
        if candidates:
            same = "Of the issues that are shown as like this one, those that ask for the very same."
            # not a choice of these numbers: one schema for all issues is compiled once, here and by the server
            numbers = {"type": "integer", "minimum": 1}
            properties["duplicates"] = {"type": "array", "items": numbers, "maxItems": 5, "description": same}
        properties["summary"] = {"type": "string", "maxLength": 200}
    parameters = {"type": "object", "properties": properties, "required": ["type"], "additionalProperties": False}
    return Function("triage", "Say what the issue is.", parameters)


def _choice(values: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def messages_of(
    issue: TriageIssue, examples: Sequence[Example], candidates: Sequence[tuple[int, str]], *, small: bool
) -> list[Message]:
    """Return the prompt: who asks stands in front, and the issue in a fence that it can't close.

    The issues that it may be a duplicate of, and the labelled ones that are like it, are as foreign, and fenced too.
    """
    parts = []
    if examples:
        told = "\n\n".join(f"{_shown(one.title, one.body, EXAMPLE_LETTERS)}\n=> type: {one.label}" for one in examples)
        parts.append(f"Issues that people have triaged, as examples of how this project does it:\n{fenced(told)}")
    if candidates:
        listed = "\n".join(f"#{number}: {title[:CANDIDATE_LETTERS]}" for number, title in candidates)
        parts.append(f"Issues that are like it:\n{fenced(listed)}")
    letters = SMALL_BODY_LETTERS if small else BODY_LETTERS
    parts.append(f"The issue:\n{fenced(_shown(issue.title, issue.body, letters))}")
    return [Message("system", _prompt()), Message("user", "\n\n".join(parts))]


def _shown(title: str, body: str, letters: int) -> str:
    body = body.strip()
    if len(body) > letters:
        tail = letters // 4
        body = f"{body[: letters - tail]}\n[… {len(body) - letters:,} characters left out …]\n{body[-tail:]}"
    return f"Title: {' '.join(title.split())[:300]}\n\n{body or '(no text)'}"


def sampling_of(effort: Effort | None, *, thinks: bool) -> Sampling:
    """Return how to sample: short answers, thought only where the model thinks."""
    effort = effort or EFFORT
    return Sampling(max_tokens=ANSWER_TOKENS + (THOUGHT_TOKENS[effort] if thinks else 0), effort=effort)


@functools.cache
def _prompt() -> str:
    return resources.files("miyabi_cli.triage").joinpath("prompts", "triage.md").read_text("utf-8").strip()
