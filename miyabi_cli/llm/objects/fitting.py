"""Fits a value to its schema where it is plain what was meant: `"3"` for 3, `RED` for red, null for left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from miyabi_cli.llm.objects.mending import inner_arguments, read_json
from miyabi_cli.llm.objects.validating import ArgumentsSchema

_MOST_STEPS = 2_000  # schemas may branch at each level, and a hostile value may have many
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def fit(value: Any, schema: ArgumentsSchema) -> Any:
    """Return a value as its schema wants it, as far as that is plain; what is valid stays as it is.

    Not checked here: the result may still be wrong.
    """
    try:
        return _Fitter(schema).fit(value, schema.schema)
    except RecursionError:  # nested more deeply than any function's arguments
        return value


def variants(value: Any, schema: ArgumentsSchema, name: str) -> list[Any]:
    """Return what a value may be as arguments of the function `name`, the likeliest first.

    An object that only wraps the arguments, one in a list, one encoded as text, or the one argument without its object.
    """
    for _ in range(3):
        if not isinstance(value, str):
            break
        try:
            value = read_json(value)
        except ValueError:
            break
    root = schema.resolved(schema.schema)
    properties = root.get("properties", {}) if isinstance(root, dict) else {}
    if isinstance(value, dict):
        return [*_unwrapped(value, properties, name), value]
    found = [value[0]] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else []
    return found + [{key: value} for key in properties if len(properties) == 1]


def _unwrapped(value: dict[str, Any], properties: dict[str, Any], name: str, depth: int = 0) -> list[Any]:
    if depth > 3 or any(key in properties for key in ("arguments", "parameters", "function", name)):
        return []
    inner = inner_arguments(value, name)
    if isinstance(inner, str):
        try:
            inner = read_json(inner)
        except ValueError:
            return []
    return [*_unwrapped(inner, properties, name, depth + 1), inner] if isinstance(inner, dict) else []


def valid_part(value: Any, schema: ArgumentsSchema) -> dict[str, Any]:
    """Return of an object those members alone that are valid each by itself, and of lists their valid items.

    What is required may be missing then.
    """
    properties = schema.schema.get("properties", {})
    found: dict[str, Any] = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        part = schema.resolved(properties.get(key, False))
        if isinstance(item, list) and isinstance(part, dict) and not schema.accepts(item, part):
            kept = [one for one in item if schema.accepts(one, part.get("items", True))]
            item = kept[: part.get("maxItems", len(kept))]
        if schema.accepts(item, part):
            found[key] = item
    return found


@dataclass(slots=True)
class _Fitter:
    root: ArgumentsSchema
    steps: int = 0

    def fit(self, value: Any, schema: Any) -> Any:
        self.steps += 1
        schema = self.root.resolved(schema)
        if not isinstance(schema, dict) or self.steps > _MOST_STEPS:
            return value
        for part in schema.get("allOf", ()):
            value = self.fit(value, part)
        for key in ("anyOf", "oneOf"):
            value = self.choose(value, schema.get(key, ()))
        value = _as_member(value, schema)
        if types := _types_of(schema):
            value = _as_type(value, types)
        if isinstance(value, dict):
            return self.fit_members(value, schema)
        return self.fit_items(value, schema) if isinstance(value, list) else value

    def choose(self, value: Any, branches: Sequence[Any]) -> Any:
        """Fit a value to the one branch that it then is valid against; two that differ leave it as it is."""
        if not branches or any(self.root.accepts(value, branch) for branch in branches):
            return value
        found = []
        for branch in branches:
            fitted = self.fit(value, branch)
            if self.root.accepts(fitted, branch) and json.dumps(fitted) not in found:
                found.append(json.dumps(fitted))
        return json.loads(found[0]) if len(found) == 1 else value

    def fit_items(self, value: list[Any], schema: dict[str, Any]) -> list[Any]:
        items = schema.get("items", True)
        if isinstance(items, list):
            rest = [schema.get("additionalItems", True)] * (len(value) - len(items))
            return [self.fit(item, part) for item, part in zip(value, [*items, *rest], strict=False)]
        return [self.fit(item, items) for item in value]

    def fit_members(self, value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", ())
        others = schema.get("additionalProperties", True)
        patterns = list(schema.get("patternProperties", {}))
        alike = _names_alike(properties)
        members: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in properties else alike.get(_folded(key), key)
            if name != key and name in value:
                name = key
            if name in properties:
                members[name] = self.fit(item, properties[name])
                if members[name] is None and name not in required and not self.root.accepts(None, properties[name]):
                    del members[name]  # null for an argument that may be left out
            elif any(re.search(pattern, key) for pattern in patterns):
                members[key] = item
            else:
                extra[key] = self.fit(item, others)
        if others is False and all(name in members for name in required):
            return members
        return members | extra


def _names_alike(properties: Iterable[str]) -> dict[str, str]:
    """Return the names that a key may mean which differs in case and marks alone; none that two share."""
    folded = [_folded(name) for name in properties]
    return {alike: name for alike, name in zip(folded, properties, strict=True) if folded.count(alike) == 1}


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _types_of(schema: dict[str, Any]) -> tuple[str, ...]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def _is_of(value: Any, types: Sequence[str]) -> bool:
    kinds = [kind for name in types for kind in _TYPES.get(name, ())]
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds))


def _as_member(value: Any, schema: dict[str, Any]) -> Any:
    """Return the member of `enum`, or the `const`, that a value means: in another case, or in text."""
    members = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if not members or value in members:
        return value
    inner = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(inner, dict | list | None):
        return value
    word = _word(inner)
    alike = [member for member in members if not isinstance(member, dict | list) and _word(member) == word]
    return alike[0] if len(alike) == 1 else value


def _word(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).strip().casefold()


def _as_type(value: Any, types: Sequence[str]) -> Any:
    if _is_of(value, types):
        return value
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        return int(value)
    if isinstance(value, str):
        try:
            return _decoded(value, types)
        except ValueError:
            return [value] if "array" in types else value
    if isinstance(value, bool | int | float):
        return json.dumps(value) if "string" in types else [value] if "array" in types else value
    if isinstance(value, list):
        return value[0] if len(value) == 1 and _is_of(value[0], types) else value
    return [value] if value is not None and "array" in types else value


def _decoded(text: str, types: Sequence[str]) -> Any:
    """Return the value of one of the types that a text spells. Raises ValueError where it spells none."""
    lowered = text.strip().lower()
    value = read_json(lowered if lowered in ("true", "false") else text)
    if isinstance(value, float) and "number" not in types and value.is_integer():
        value = int(value)
    if not _is_of(value, types):
        raise ValueError("the text spells a value of another type")
    return value
