"""JSON Schemas in the words that Harmony's TypeScript has.

`openai_harmony` writes the TypeScript, and knows objects, arrays, strings with enum, and oneOf. What else a schema
holds would become `any` or wrong (`array | string`; `string | number[]` for an array of either): it is put in those
words first. A name in `type: [names]` is written as it is, and so carries a type expression.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_DEEPEST = 12
_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}
Definitions = Mapping[str, Any]
_TOLD = ("title", "description", "default", "examples", "nullable")


def typescript_parameters(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a function's parameters as the library can write them, None where it takes none."""
    plain = _plain(schema, _definitions(schema), 0)
    if not plain.get("properties") and "type" in plain and plain["type"] == "object":
        return None
    return plain


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("$defs", "definitions"):
        for name, value in _mapping(schema.get(key)).items():
            found[f"#/{key}/{name}"] = value
    return found


def _plain(schema: Any, definitions: Definitions, depth: int) -> dict[str, Any]:
    """Return a schema in the library's words, with what is said about it."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    schema, definitions = _merged(schema, definitions)
    told = {key: _told(schema[key]) for key in _TOLD if key in schema}
    told = {key: value for key, value in told.items() if value is not None}
    if isinstance(schema.get("properties"), Mapping) and schema["properties"]:
        properties = {str(name): _plain(value, definitions, depth + 1) for name, value in schema["properties"].items()}
        return {**told, "type": "object", "properties": properties, "required": _names(schema.get("required"))}
    if isinstance(schema.get("oneOf"), Sequence) and schema["oneOf"]:
        return {**told, "oneOf": [_plain(variant, definitions, depth + 1) for variant in schema["oneOf"]]}
    items = schema.get("items")
    if (
        schema.get("type") == "array"
        and isinstance(items, Mapping)
        and _merged(items, definitions)[0].get("properties")
    ):
        return {**told, "type": "array", "items": _plain(items, definitions, depth + 1)}
    if schema.get("type") == "object" and depth == 0:
        return {**told, "type": "object"}
    if schema.get("type") == "string" and _strings(schema.get("enum")):
        return {**told, "type": "string", "enum": list(schema["enum"])}
    return {**told, "type": [_expression(schema, definitions, depth)]}


def _expression(schema: Any, definitions: Definitions, depth: int) -> str:
    """Return a schema as a type in one line."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "any"
    schema, definitions = _merged(schema, definitions)
    for key in ("anyOf", "oneOf"):
        if isinstance(variants := schema.get(key), Sequence) and variants:
            return _union([_expression(variant, definitions, depth + 1) for variant in variants])
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return _union([json.dumps(value, ensure_ascii=False) for value in values])
    types = schema.get("type")
    if isinstance(types, Sequence) and not isinstance(types, str):
        return _union([_single({**schema, "type": name}, definitions, depth) for name in types])
    return _single(schema, definitions, depth)


def _single(schema: Mapping[str, Any], definitions: Definitions, depth: int) -> str:
    kind = str(schema.get("type", ""))
    if kind == "array":
        inner = _expression(schema.get("items"), definitions, depth + 1)
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if schema.get("properties"):
        required = _names(schema.get("required"))
        fields = (
            f"{name}{'' if name in required else '?'}: {_expression(value, definitions, depth + 1)}"
            for name, value in _mapping(schema["properties"]).items()
        )
        return "{ " + ", ".join(fields) + " }"
    if kind == "object":
        value = _expression(schema.get("additionalProperties"), definitions, depth + 1)
        return "object" if value == "any" else f"{{ [key: string]: {value} }}"
    return _PLAIN.get(kind, "any")


def _union(types: Sequence[str]) -> str:
    return " | ".join(dict.fromkeys(types)) or "any"


def _merged(schema: Mapping[str, Any], definitions: Definitions) -> tuple[Mapping[str, Any], Definitions]:
    """Return a schema with what it refers to and with all of its `allOf` in one.

    What it refers to is not among the definitions that its inside may use: a type that holds itself ends in `any`.
    """
    for _ in range(_DEEPEST):
        reference = str(schema.get("$ref"))
        parts = [_mapping(definitions.get(reference)), *_listed(schema.get("allOf"))]
        if not any(parts):
            return schema, definitions
        definitions = {name: value for name, value in definitions.items() if name != reference}
        merged: dict[str, Any] = {}
        for part in (*parts, {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}):
            properties = {**_mapping(merged.get("properties")), **_mapping(part.get("properties"))}
            required = [*_names(merged.get("required")), *_names(part.get("required"))]
            merged |= part
            if properties:
                merged |= {"properties": properties, "required": required}
        schema = merged
    return {}, {}


def _told(value: Any) -> Any:
    """Return what a comment says; a line break would end the comment."""
    return "\n// ".join(value.splitlines()) if isinstance(value, str) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list | tuple) else []


def _strings(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)
