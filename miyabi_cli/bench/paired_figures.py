"""Figures of a whole set of tasks, F1 or the share of comments met, of which two documents tell the same tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from miyabi_cli.bench.statistics import Difference, compare_resampled

Better = Literal["lower", "higher"]
Row = tuple[Any, ...]  # what a task adds to the figures
Figures = Callable[[Mapping[Row, int]], dict[str, float | None]]  # of rows, and how often each is there
Trial = Mapping[str, Any]

MOST_CLASSES = 40
_LONGEST_CLASS = 60
_COUNTS = (
    *("comments_met", "comments", "false_alarms", "changed_lines", "rejected_hits", "rejected_comments"),
    *("anchors_valid", "findings"),
)
_RATIOS: Mapping[str, tuple[Better, str, str, int]] = {
    "detection": ("higher", "comments_met", "comments", 1),
    "false_alarms_per_100_lines": ("lower", "false_alarms", "changed_lines", 100),
    "clean_rate": ("higher", "clean_passed", "clean", 1),
    "rejected_hit_rate": ("lower", "rejected_hits", "rejected_comments", 1),
    "anchor_validity": ("higher", "anchors_valid", "findings", 1),
}


def paired_figures(
    kind: str, pairs: Sequence[tuple[Trial, Trial]]
) -> Iterator[tuple[str, Better, float, float, Difference]]:
    """Yield name, direction, before, after and difference of each figure that both sides have; `pairs` are tasks.

    Of other kinds than triage and review there are none.
    """
    row = {"triage": _guess, "review": _counts}.get(kind)
    if row is None:
        return
    rows = [(row(before), row(after)) for before, after in pairs]
    told = [(before, after) for before, after in rows if before is not None and after is not None]
    if not told:
        return
    figures = _scores(_classes(told)) if kind == "triage" else _ratios
    first, second = (figures(_counted(side)) for side in zip(*told, strict=True))
    differences = compare_resampled(told, figures)
    for name, before in first.items():
        after = second[name]
        if before is not None and after is not None:
            better = _RATIOS[name][0] if name in _RATIOS else "higher"
            yield name, better, before, after, differences[name]


def _guess(trial: Trial) -> Row | None:
    """Return an issue's true type and the one that was said; None where the model could not be asked."""
    pair = trial.get("expected"), trial.get("type")
    return pair if trial.get("passed") is not None and all(isinstance(name, str) for name in pair) else None


def _classes(told: Sequence[tuple[Row, Row]]) -> list[str]:
    return sorted({side[0][:_LONGEST_CLASS] for pair in told for side in pair})[:MOST_CLASSES]


def _scores(classes: Sequence[str]) -> Figures:
    """Return what gives each class's F1, 0 where there is nothing to take it of, and their mean."""

    def figures(rows: Mapping[Row, int]) -> dict[str, float | None]:
        right, all_of = dict.fromkeys(classes, 0), dict.fromkeys(classes, 0)
        for (truth, said), times in rows.items():
            for name in (truth[:_LONGEST_CLASS], said[:_LONGEST_CLASS]):
                if name in all_of:
                    all_of[name] += times
            if truth == said and truth[:_LONGEST_CLASS] in right:
                right[truth[:_LONGEST_CLASS]] += times
        scores = {f"f1 {name}": 2 * right[name] / all_of[name] if all_of[name] else 0.0 for name in classes}
        return {"macro_f1": sum(scores.values()) / len(scores), **scores}

    return figures


def _counts(trial: Trial) -> Row | None:
    """Return the counts of a case, and whether there was nothing to say of it and nothing was said."""
    measures = trial.get("measures") or {}
    counts = tuple(measures.get(name) for name in _COUNTS)
    if trial.get("passed") is None or not all(isinstance(count, int | float) for count in counts):
        return None
    clean = not measures["comments"]
    return (*counts, int(clean and trial["passed"]), int(clean))


def _ratios(rows: Mapping[Row, int]) -> dict[str, float | None]:
    sums = [0.0] * (len(_COUNTS) + 2)
    for row, times in rows.items():
        for place, count in enumerate(row):
            sums[place] += times * count
    named = dict(zip((*_COUNTS, "clean_passed", "clean"), sums, strict=True))
    return {
        name: factor * named[part] / named[whole] if named[whole] else None
        for name, (_, part, whole, factor) in _RATIOS.items()
    }


def _counted(rows: Sequence[Row]) -> dict[Row, int]:
    counts: dict[Row, int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    return counts
