"""Checking a tree of settings against the schema, and saying where and what is wrong, with the nearest key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import Settings, is_secret, section_of
from miyabi_cli.settings.tree import Place, SettingsTree, dotted, nearest, variable_of

_EXPECTATIONS = {
    "tuple_type": "expected a list",
    "dict_type": "expected a map",
    "mapping_type": "expected a map",
    "model_type": "expected a map",
    "model_attributes_type": "expected a map",
    "string_type": "expected text, in quotes where it looks like something else",
    "string_too_short": "expected text that is not empty",
}

_KEY = "[key]"  # where pydantic's places end for the key of a map


def settings_of(tree: SettingsTree) -> Settings:
    """Return the settings that a tree makes. Raises SettingsError for its first mistake in reading order."""
    try:
        return Settings.model_validate(tree.values)
    except ValidationError as error:
        raise _first_of(error.errors(include_url=False), tree) from None


def check_but(tree: SettingsTree, unknown: Collection[Place]) -> None:
    """Raise SettingsError for a tree's first mistake, but not for values at places where they are not known yet."""
    try:
        Settings.model_validate(tree.values)
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False) if one["loc"] not in unknown]
        if wrong:
            raise _first_of(wrong, tree) from None


def _first_of(wrong: Sequence[Any], tree: SettingsTree) -> SettingsError:
    order = {place: index for index, place in enumerate(tree.places)}
    first = min(wrong, key=lambda one: order.get(tree.known_part(one["loc"]), len(order)))
    message, hint = _explain(first, tree)
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return SettingsError(message + more, hint=hint)


def _explain(error: Any, tree: SettingsTree) -> tuple[str, str | None]:
    place: Place = error["loc"]
    if error["type"] == "extra_forbidden":
        return _unknown_key(place, tree)
    if place[-1] == _KEY and error["type"] == "value_error":
        return _unknown_name(error, tree)
    if error["type"] == "missing":
        return f"{tree.origin(place)}: {dotted(place[:-1])} needs the key {place[-1]!r}", None
    subject = tree.origin(place)
    if tree.is_file or tree.known_part(place) != place:
        subject += f": {dotted(place)}"
    return f"{subject} is {_shown(error, tree)}: {_expectation(error)}", _value_hint(error)


def _unknown_key(place: Place, tree: SettingsTree) -> tuple[str, str | None]:
    name = str(place[-1])
    meant = nearest(name, place[:-1])
    origin = tree.origin(place)
    if tree.is_variable:
        return f"{origin}: no such setting", f"did you mean {variable_of(meant)}?" if meant else None
    within = f" in {dotted(place[:-1])}" if len(place) > 1 else ""
    message = f"{origin}: unknown key {name!r}{within}"
    if meant is None:
        section = section_of(place[:-1])
        return message, f"known here: {', '.join(section.model_fields)}" if section else None
    return message, f"did you mean {meant[-1] if meant[:-1] == place[:-1] else dotted(meant)!r}?"


def _unknown_name(error: Any, tree: SettingsTree) -> tuple[str, str]:
    """Say what is wrong with the key of a map whose names are known; the check tells them after "expected one of"."""
    *within, name, _ = error["loc"]
    known = str(error["ctx"]["error"]).removeprefix("expected one of ")
    close = difflib.get_close_matches(str(name).lower(), known.split(", "), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {known}"
    return f"{tree.origin((*within, name))}: unknown key {str(name)!r} in {dotted(tuple(within))}", hint


def _shown(error: Any, tree: SettingsTree) -> str:
    """Return the value as a user may see it: no key, nothing that a variable gave, no password, not too long."""
    place, value = error["loc"], error["input"]
    if place in tree.written:
        return repr(tree.written[place])
    if is_secret(place) or (isinstance(value, str) and "@" in value):
        return "not usable"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _expectation(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "literal_error":
        return f"expected {error['ctx']['expected']}"
    message: str = _EXPECTATIONS.get(error["type"]) or error["msg"].replace("Input should be", "expected")
    return re.sub("^expected (greater|less)", r"expected a number \1", message.split(", unable to parse")[0])


def _value_hint(error: Any) -> str | None:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return None
    choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    close = difflib.get_close_matches(error["input"].lower(), choices, 1)
    return f"did you mean {close[0]!r}?" if close else None
