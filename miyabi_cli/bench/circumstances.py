"""Why the figures of two documents may differ though nothing is better: what was measured, on what, and what not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miyabi_cli.bench.document import Document
from miyabi_cli.errors import UsageError

# Where these differ a difference of the figures may be theirs.
CIRCUMSTANCES = ("provider", "model", "endpoint", "server_version", "hardware", "prices", "miyabi")
SAMENESS = ("digest", "expected")  # what tells whether two tasks of one name are the same
_LONGEST_VALUE = 120
Trials = Sequence[Mapping[str, Any]]


def is_same_task(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Say whether two tasks of one name are one, as far as the documents tell what is in them."""
    return all(before[key] == after[key] for key in SAMENESS if key in before and key in after)


def unlike_tasks(names: Sequence[str]) -> Iterator[str]:
    """Yield a warning of tasks that are left out."""
    if names:
        yield f"left out, for they are not the same in both: {_told(', '.join(names))}"


def untold_tasks(kind: str, names: Sequence[str], pairs: Sequence[tuple[Trials, Trials]]) -> Iterator[str]:
    """Yield a warning of tasks that have a result in one document alone.

    Raises UsageError where one has no result at all: it would pass for no worse.
    """
    if kind == "serve":
        return
    told = [tuple(any(trial.get("passed") is not None for trial in side) for side in sides) for sides in pairs]
    for place, which in enumerate(("first", "second")):
        missing = [name for name, sides in zip(names, told, strict=True) if sides[1 - place] and not sides[place]]
        if missing and not any(sides[place] for sides in told):
            hint = "its trials have failed before anything could be told: measure them anew"
            raise UsageError(f"the {which} document has no result of any task in common", hint=hint)
        if missing:
            yield f"without a result in the {which}: {_told(', '.join(missing))}"


def differing_circumstances(first: Document, second: Document) -> Iterator[str]:
    """Yield a warning for each difference of environment and settings."""
    for name in CIRCUMSTANCES:
        yield from _differing(name.replace("_", " "), first.environment.get(name), second.environment.get(name))
    for name in sorted(first.settings.keys() | second.settings.keys()):
        yield from _differing(f"the setting {name}", first.settings.get(name), second.settings.get(name))


def _differing(name: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from _differing(f"{name}, {str(key).replace('_', ' ')}", before.get(key), after.get(key))
    elif before != after:
        yield f"{name} differs: {_told(before)}, then {_told(after)}"


def _told(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
