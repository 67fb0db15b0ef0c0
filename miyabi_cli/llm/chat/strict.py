"""A JSON Schema in the strict form that Groq and OpenAI hold a reply to: every field required, none beside them.

An optional field becomes one that may be null, and its nulls are left out of the answer again. Source:
console.groq.com/docs/structured-outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEEPEST = 50
MOST_REFERENCES, MOST_NESTED = 20, 4  # references behind each other, alternatives within alternatives
# What bounds a value and is not known to every strict server: the answer is checked against the whole schema anyway.
_DROPPED = frozenset(
    {
        "$schema", "$id", "$comment", "default", "examples", "title", "deprecated", "readOnly", "writeOnly",
        "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
    }
)  # fmt: skip
_KEPT = frozenset({"type", "enum", "const", "description", "$ref"})
_HANDLED = frozenset({"properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf"})
_DEFINITIONS = ("$defs", "definitions")
_TYPES = {"string": str, "boolean": bool, "integer": int, "number": float, "array": list, "object": dict}


class NotStrict(ValueError):
    """A schema that has no strict form: it allows fields that it does not name, or values of any kind."""


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strict form of a schema of type object. Raises NotStrict."""
    if schema.get("type") != "object":
        raise NotStrict("a strict schema is of type object at its top")
    return _strict(schema, 0)


def _strict(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        raise NotStrict("a part of the schema allows anything, or is nested too deeply")
    unknown = schema.keys() - _DROPPED - _KEPT - _HANDLED - set(_DEFINITIONS)
    if unknown:
        raise NotStrict(f"{sorted(unknown)[0]} has no strict form")
    strict = {key: value for key, value in schema.items() if key in _KEPT}
    for key in _DEFINITIONS:
        if key in schema:
            strict[key] = {name: _strict(part, depth + 1) for name, part in schema[key].items()}
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        strict["anyOf"] = [_strict(part, depth + 1) for part in alternatives]
    _merge_all_of(strict, schema.get("allOf"), depth)
    kinds = _kinds(schema)
    if "object" in kinds or "properties" in schema:
        strict |= _strict_object(schema, depth)
    if "array" in kinds:
        strict["items"] = _strict(schema.get("items"), depth + 1)
    if not strict.keys() & {"type", "enum", "const", "$ref", "anyOf"}:
        raise NotStrict("a part of the schema allows values of any kind")
    return strict


def _merge_all_of(strict: dict[str, Any], parts: Any, depth: int) -> None:
    if not parts:
        return
    if len(parts) > 1:
        raise NotStrict("allOf has no strict form")
    strict |= {key: value for key, value in _strict(parts[0], depth + 1).items() if key not in strict}


def _strict_object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    if schema.get("additionalProperties") not in (None, False) or not properties:
        raise NotStrict("an object may have fields that the schema does not name")
    required = set(schema.get("required") or ())
    fields = {name: _strict(part, depth + 1) for name, part in properties.items()}
    fields = {name: part if name in required else _nullable(part) for name, part in fields.items()}
    return {
        "type": schema.get("type", "object"),
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = _kinds(schema)
    if "null" in kinds or _takes_null(schema):
        return schema
    if "anyOf" in schema and "type" not in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    if kinds and not schema.keys() & {"const", "$ref", "anyOf"}:
        nullable = schema | {"type": [*kinds, "null"]}
        return nullable | {"enum": [*schema["enum"], None]} if "enum" in schema else nullable
    description = {"description": schema["description"]} if "description" in schema else {}
    inner = {key: value for key, value in schema.items() if key != "description"}
    return description | {"anyOf": [inner, {"type": "null"}]}


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return any("null" in _kinds(part) for part in schema.get("anyOf", ()))


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    return [kind] if isinstance(kind, str) else list(kind) if isinstance(kind, (list, tuple)) else []


def without_nulls(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return an answer to the strict form of `schema` without the nulls of its optional fields.

    A null that the schema itself allows for a field stays.
    """
    return _without(value, schema, schema, 0)


def _without(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    part = _resolved(schema, root, value)
    if depth > DEEPEST or not isinstance(part, Mapping):
        return value
    if isinstance(value, list):
        return [_without(item, part.get("items"), root, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    properties = part.get("properties") or {}
    required = set(part.get("required") or ())
    return {
        name: _without(item, properties.get(name), root, depth + 1)
        for name, item in value.items()
        if item is not None or name in required or name not in properties or _allows_null(properties[name], root)
    }


def _resolved(schema: Any, root: Mapping[str, Any], value: Any, nested: int = 0) -> Any:
    """Follow references, and choose the alternative that has the value's fields."""
    for _ in range(MOST_REFERENCES if nested < MOST_NESTED else 0):
        if not isinstance(schema, Mapping):
            return None
        if isinstance(reference := schema.get("$ref"), str):
            schema = _referred(reference, root)
        elif options := [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
            fitting = (_resolved(option, root, value, nested + 1) for option in options)
            return next((option for option in fitting if _may_be(option, value)), None)
        else:
            return schema
    return None


def _may_be(schema: Any, value: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    kinds = _kinds(schema)
    if kinds and not any(isinstance(value, _TYPES.get(kind, object)) for kind in kinds if kind != "null"):
        return False
    return not isinstance(value, dict) or value.keys() <= (schema.get("properties") or {}).keys()


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#"):
        return None
    part: Any = root
    for name in reference[1:].strip("/").split("/"):
        if not name:
            continue
        part = part.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(part, Mapping) else None
    return part


def _allows_null(schema: Any, root: Mapping[str, Any]) -> bool:
    if isinstance(schema, Mapping) and isinstance(reference := schema.get("$ref"), str):
        schema = _referred(reference, root)
    if not isinstance(schema, Mapping):
        return True
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        return any("null" in _kinds(part) for part in alternatives if isinstance(part, Mapping))
    if "enum" in schema:
        return None in schema["enum"]
    return "null" in _kinds(schema)
