"""Learns the rules' weights from labelled issues: a logistic regression over words that several repositories share.

Words that do not stand in every repository's issues say what it is about, not what is asked: they are left out, so that
the weights hold for a repository that was never seen.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from miyabi_cli.triage.features import features_of

EPOCHS = 8
RATE = 0.2
DECAY = 5e-3  # of the weights at each step on them (L2)
FEWEST_ISSUES = 8  # that show a word
VALUES: Mapping[str, float] = {"t": 3.0, "b": 1.0, "s": 3.0}  # a title and a structure say more than a body's word
BIAS_SHARE, WEIGHT_SHARE = 0.1, 4.0  # of a step: how often a class occurs differs from repository to repository
TEMPERATURES = tuple(0.5 * 1.1**step for step in range(30))


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled issue's features, as `features_of` gives them."""

    repository: str
    label: str
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class Weights:
    """Of each class a bias, and of each feature a weight for each class in their order; scores are divided by
    `temperature`, which makes probabilities of them.
    """

    classes: tuple[str, ...]
    bias: tuple[float, ...]
    weights: Mapping[str, tuple[float, ...]]
    temperature: float = 1.0

    def scores(self, features: Iterable[str]) -> list[float]:
        """Return one score for each class, in natural logarithms of odds."""
        known = [feature for feature in features if feature in self.weights]
        scale = _scale(known)
        totals = list(self.bias)
        for feature in known:
            for place, weight in enumerate(self.weights[feature]):
                totals[place] += scale * VALUES[feature[0]] * weight
        return [total / self.temperature for total in totals]


def labelled(repository: str, label: str, title: str, body: str) -> Labelled:
    """Return a labelled issue."""
    return Labelled(repository, label, features_of(title, body))


def _scale(features: Iterable[str]) -> float:
    """Return what scores are multiplied with: a long text has more words than a short one, and is no more certain."""
    return 1 / math.sqrt(1 + sum(VALUES[feature[0]] ** 2 for feature in features))


def shares_of(scores: Sequence[float]) -> list[float]:
    """Return probabilities from scores (softmax)."""
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def fit(issues: Sequence[Labelled], *, seed: int = 0) -> Weights:
    """Return weights that were fitted to issues, with the temperature at which they are calibrated for a repository
    that is not among them, where there are two at least. The same issues give the same weights.
    """
    repositories = sorted({issue.repository for issue in issues})
    held_out: list[tuple[list[float], int]] = []
    classes = sorted({issue.label for issue in issues})
    for repository in repositories if len(repositories) > 1 else ():
        others = _fit_weights([issue for issue in issues if issue.repository != repository], classes, seed)
        for issue in issues:
            if issue.repository == repository:
                held_out.append((others.scores(issue.features), classes.index(issue.label)))
    weights = _fit_weights(issues, classes, seed)
    return Weights(weights.classes, weights.bias, weights.weights, _temperature(held_out))


def _fit_weights(issues: Sequence[Labelled], classes: Sequence[str], seed: int) -> Weights:
    names = sorted(_shared_features(issues))
    known = {name: place for place, name in enumerate(names)}
    values = [VALUES[name[0]] for name in names]
    rows = [
        ([known[name] for name in sorted(issue.features) if name in known], classes.index(issue.label))
        for issue in issues
    ]
    scales = [_scale(names[place] for place in row) for row, _ in rows]
    many = range(len(classes))
    table = [[0.0] * len(names) for _ in many]
    bias = [0.0] * len(classes)
    order = list(range(len(rows)))
    shuffle = random.Random(seed).shuffle  # noqa: S311 (no secret is made of it)
    for epoch in range(EPOCHS):
        shuffle(order)
        rate = RATE / (1 + epoch)
        for place in order:
            row, truth = rows[place]
            scale = scales[place]
            scores = [bias[one] + scale * sum(table[one][at] * values[at] for at in row) for one in many]
            for one, share in enumerate(shares_of(scores)):
                step = rate * ((one == truth) - share)
                bias[one] += step * BIAS_SHARE
                weights = table[one]
                for at in row:
                    weights[at] += step * scale * WEIGHT_SHARE * values[at] - rate * DECAY * weights[at]
    return Weights(
        tuple(classes), tuple(bias), {name: tuple(table[one][known[name]] for one in many) for name in names}
    )


def _shared_features(issues: Sequence[Labelled]) -> set[str]:
    users: defaultdict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for issue in issues:
        counts.update(issue.features)
        for feature in issue.features:
            users[feature].add(issue.repository)
    every = len({issue.repository for issue in issues})
    return {name for name, count in counts.items() if count >= FEWEST_ISSUES and len(users[name]) == every}


def _temperature(held_out: Sequence[tuple[Sequence[float], int]]) -> float:
    """Return the temperature at which the probabilities of scores fit the truth best (least log loss)."""

    def loss(temperature: float) -> float:
        return -sum(
            math.log(max(1e-9, shares_of([score / temperature for score in scores])[truth]))
            for scores, truth in held_out
        )

    return min(TEMPERATURES, key=loss) if held_out else 1.0
