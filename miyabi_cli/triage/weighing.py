"""What several witnesses say of an issue's type, put together as if each had looked for itself (naive Bayes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from miyabi_cli.triage.row import IssueType

Shares = Mapping[IssueType, float]  # probabilities, the largest first; they add up to 1
LEAST = 0.02  # no witness makes a type impossible


def with_word(shares: Shares, said: IssueType, accuracy: float, kinds: int = 3) -> Shares:
    """Return what is probable once a model has `said` a type, which is right with the probability `accuracy`.

    `kinds`: how many types issues mostly have; a model that is wrong names each of the others alike.
    """
    wrong = (1 - accuracy) / (kinds - 1)
    return _normal({kind: max(share, LEAST) * (accuracy if kind == said else wrong) for kind, share in shares.items()})


def with_examples(shares: Shares, labels: Sequence[str]) -> Shares:
    """Return what is probable once people have given these labels to issues that are alike; only types count."""
    votes = Counter(label for label in labels if label in shares)
    if not votes:
        return shares
    return _normal({kind: max(share, LEAST) * (votes[kind] + 1) for kind, share in shares.items()})


def _normal(weights: Shares) -> Shares:
    whole = sum(weights.values())
    return {kind: weight / whole for kind, weight in sorted(weights.items(), key=lambda entry: -entry[1])}
