"""How good guesses at issues' types are: F1, confusion, calibration and abstention; pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.messages import Usage

BINS = 10  # of the calibration error
THRESHOLDS = tuple(step / 20 for step in range(20))


@dataclass(frozen=True, slots=True)
class Guess:
    """One issue's type as people have given it (`truth`) and as it was guessed, with a probability of being right.

    `seconds`: from the issue to its row. `source` is llm or rules; `failure` the kind of the error that kept the model
    from telling, "" for none: what rules said then is in no figure.
    """

    id: str
    repository: str
    truth: str
    said: str
    confidence: float
    source: str = "rules"
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    failure: str = ""

    @property
    def is_right(self) -> bool:
        return self.said == self.truth


def row_of(guess: Guess) -> dict[str, Any]:
    """Return a guess as a row of a benchmark's document."""
    return {
        "id": guess.id,
        "trial": 1,
        "passed": None if guess.failure else guess.is_right,
        "measures": {"confidence": round(guess.confidence, 4)},
        "repository": guess.repository,
        "expected": guess.truth,
        "type": guess.said,
        "source": guess.source,
        "failure": guess.failure or None,
        "seconds": round(guess.seconds, 4),
        "usage": _usage_data(guess.usage),
    }


def summarise(guesses: Sequence[Guess], classes: Sequence[str]) -> dict[str, Any]:
    """Return what guesses come to: what they cost, and of those that were told how right they are; None of none."""
    usage = sum((guess.usage for guess in guesses), Usage())
    tokens = usage.input_tokens + usage.output_tokens
    failures = sorted({guess.failure for guess in guesses} - {""})
    many = len(guesses)
    return {
        "tasks": many,
        "trials": many,
        "complete": not failures,
        **_figures([guess for guess in guesses if not guess.failure], classes),
        "tokens_per_issue": tokens / many if many else None,
        "seconds": statistics.fmean(guess.seconds for guess in guesses) if many else None,
        "by_model": sum(guess.source == "llm" for guess in guesses),
        "failures": {kind: sum(guess.failure == kind for guess in guesses) for kind in failures},
        "usage": _usage_data(usage),
    }


def _figures(guesses: Sequence[Guess], classes: Sequence[str]) -> dict[str, Any]:
    by_class = {name: class_scores(guesses, name) for name in classes}
    right, many = sum(guess.is_right for guess in guesses), len(guesses)
    repositories = sorted({guess.repository for guess in guesses})
    return {
        "passed": right,
        "pass_rate": right / many if many else None,
        "macro_f1": _macro(guesses, classes),
        "macro_precision": _mean([scores["precision"] for scores in by_class.values()]) if many else None,
        "macro_recall": _mean([scores["recall"] for scores in by_class.values()]) if many else None,
        "micro_f1": right / many if many else None,  # each issue has one class: precision, recall and F1 are the same
        "expected_calibration_error": calibration_error(guesses),
        "classes": by_class,
        "repositories": {
            name: _macro([one for one in guesses if one.repository == name], classes) for name in repositories
        },
        "confusion": confusion(guesses, classes),
        "abstention": abstention_curve(guesses, classes),
    }


def class_scores(guesses: Sequence[Guess], name: str) -> dict[str, float | int]:
    """Return precision, recall and F1 of one class, 0 where there is nothing to take them of; and its issues."""
    right = sum(guess.said == guess.truth == name for guess in guesses)
    said = sum(guess.said == name for guess in guesses)
    true = sum(guess.truth == name for guess in guesses)
    return {
        "precision": right / said if said else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (said + true) if said + true else 0.0,
        "issues": true,
    }


def confusion(guesses: Sequence[Guess], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many issues of each class (outer) were said to be of each (inner)."""
    return {
        truth: {said: sum(one.truth == truth and one.said == said for one in guesses) for said in classes}
        for truth in classes
    }


def calibration_error(guesses: Sequence[Guess]) -> float | None:
    """Return the expected calibration error over ten bins of the confidence (Naeini et al. 2015)."""
    bins: list[list[Guess]] = [[] for _ in range(BINS)]
    for guess in guesses:
        bins[min(BINS - 1, int(guess.confidence * BINS))].append(guess)
    gaps = [abs(sum(guess.is_right for guess in one) - sum(guess.confidence for guess in one)) for one in bins if one]
    return sum(gaps) / len(guesses) if guesses else None


def abstention_curve(guesses: Sequence[Guess], classes: Sequence[str]) -> list[dict[str, float | None]]:
    """Return, for each threshold of confidence, which share of the issues is labelled, and how rightly."""
    curve = []
    for threshold in THRESHOLDS:
        kept = [guess for guess in guesses if guess.confidence >= threshold]
        curve.append(
            {
                "threshold": threshold,
                "coverage": len(kept) / len(guesses) if guesses else None,
                "accuracy": sum(guess.is_right for guess in kept) / len(kept) if kept else None,
                "macro_f1": _macro(kept, classes),
            }
        )
    return curve


def _macro(guesses: Sequence[Guess], classes: Sequence[str]) -> float | None:
    return _mean([class_scores(guesses, name)["f1"] for name in classes]) if guesses else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _usage_data(usage: Usage) -> Mapping[str, Any]:
    return {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": usage.cost_usd,
    }
