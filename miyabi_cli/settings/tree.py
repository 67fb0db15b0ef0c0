"""Settings of one origin before they are checked: nested plain values, and where each of them was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.settings.schema import known_keys, section_of

VARIABLE_PREFIX = "MIYABI_"

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SettingsTree:
    """What one file, the environment or the command line sets.

    `places` gives the origin (`FILE:LINE`, a variable, a flag) of places, in reading order; `written` gives the text of
    those values that were put together from variables, which errors show in the value's stead.
    """

    name: str
    values: dict[str, Any]
    places: Mapping[Place, str] = field(default_factory=dict)
    written: Mapping[Place, str] = field(default_factory=dict)
    is_file: bool = False

    @property
    def is_variable(self) -> bool:
        """Whether one variable of miyabi's own sets all of it."""
        return self.name.startswith(VARIABLE_PREFIX) and not self.is_file

    def origin(self, place: Place) -> str:
        """Return where a place, or what it stands in, was written."""
        found = self.known_part(place)
        return self.places[found] if found else self.name

    def known_part(self, place: Place) -> Place:
        """Return the longest beginning of a place that has an origin; () where none has."""
        return next((place[:end] for end in range(len(place), 0, -1) if place[:end] in self.places), ())


def dotted(place: Sequence[str | int]) -> str:
    """Return a place as errors name it: `checks[0].command`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    return text if text.isprintable() else repr(text)[1:-1]


def nearest(name: str, place: Sequence[str | int]) -> Place | None:
    """Return the known key that a wrong one was most likely meant to be: among its neighbours, then anywhere."""
    section = section_of(tuple(place))
    close = difflib.get_close_matches(name.lower(), list(section.model_fields) if section else [], 1)
    if close:
        return (*place, close[0])
    everywhere: dict[str, Place] = {}
    for path, _ in known_keys():
        for end in range(len(path), 0, -1):
            everywhere.setdefault(path[end - 1], path[:end])
    close = difflib.get_close_matches(name.lower(), list(everywhere), 1, 0.7)
    return everywhere[close[0]] if close else None


def variable_of(path: Sequence[str | int]) -> str:
    """Return the variable that sets a key: `MIYABI_LLM__PROVIDER`."""
    return VARIABLE_PREFIX + "__".join(str(step) for step in path).upper()


def leaves(value: object, place: Place = ()) -> Iterator[tuple[Place, object]]:
    """Yield every value that is no map and no list, and every empty one, with its place."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in pairs:
            yield from leaves(child, (*place, key))
    else:
        yield place, value


def merge(trees: Sequence[SettingsTree]) -> dict[str, Any]:
    """Return the values of several trees, the last one being the strongest.

    Sections are merged key by key, and so are maps with free names, whose entries are replaced as wholes, like lists.
    """
    values: dict[str, Any] = {}
    for tree in trees:
        _merge_into(values, tree.values, ())
    return values


def _merge_into(target: dict[str, Any], source: Mapping[str, Any], path: tuple[str, ...]) -> None:
    for key, value in source.items():
        below = (*path, key)
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            if section_of(below):
                _merge_into(target[key], value, below)
            else:
                target[key] = {**target[key], **value}
        elif value is not None or not isinstance(target.get(key), dict):
            target[key] = _copy(value)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value
