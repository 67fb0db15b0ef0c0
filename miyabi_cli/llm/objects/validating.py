"""Checks a function's arguments against its JSON Schema: compiled once, every reason with its path, nothing fetched."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miyabi_cli.errors import UsageError
from miyabi_cli.messages import Function

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_REASONS = 5
_LONG = 20_000  # characters of a value of which not every fault is looked for
_IN_A_MAPPING = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_IN_A_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_ALONE = ("additionalItems", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else", "items")
# fastjsonschema would pass over these, and a reply that breaks them would count as valid.
_UNCHECKED = (
    "unevaluatedProperties",
    "unevaluatedItems",
    "minContains",
    "maxContains",
    "$dynamicRef",
    "$recursiveRef",
)
# Notes for a reader since Draft 2019-09. fastjsonschema would decode what they stand at.
_NOTES = ("contentEncoding", "contentMediaType", "contentSchema", "$comment")


@dataclass(frozen=True, slots=True)
class ArgumentsSchema:
    """The compiled schema of one function's arguments; `schema` is it in the words of Draft 7.

    Checked is all of Draft 2020-12 but what is refused at compiling. The formats of that draft are checked (date-time,
    date, time, duration, email, hostname, ipv4, ipv6, uri, uuid, regex and their kin); others are notes, as the draft
    has it. Patterns are Python's. Raises nothing: what a model wrote has problems, or none.
    """

    schema: dict[str, Any]
    _judge: Callable[..., Any]
    _explain: Callable[..., Any]
    _parts: dict[int, ArgumentsSchema | None] = field(default_factory=dict)

    def is_valid(self, value: Any) -> bool:
        return not self._problems(value, self._judge)

    def problems(self, value: Any) -> list[str]:
        """Return what is wrong with a value, five reasons at most, each with its path: `arguments.a[0] must be …`.

        Of a long value only the first reason: it may have a hundred thousand.
        """
        first = self._problems(value, self._judge)
        return self._problems(value, self._explain) if first and _is_short(value) else first

    def _problems(self, value: Any, validate: Callable[..., Any]) -> list[str]:
        import fastjsonschema

        try:
            json.dumps(value, allow_nan=False)
            validate(value, name_prefix="arguments")
        except fastjsonschema.JsonSchemaValuesException as failure:
            return [_reason(error) for error in failure.errors[:_MOST_REASONS]]
        except fastjsonschema.JsonSchemaValueException as error:
            return [_reason(error)]
        except RecursionError:
            return ["arguments must not be nested so deeply"]
        except ArithmeticError:
            return ["arguments must not hold a number so large"]
        except ValueError:
            return ["arguments must not hold NaN or Infinity, which are not JSON"]
        return []

    def accepts(self, value: Any, part: Any) -> bool:
        """Say whether a value is valid against one schema within this one."""
        if id(part) not in self._parts:
            try:
                self._parts[id(part)] = compile_any(_with_definitions(part, self.schema))
            except (ValueError, RecursionError):
                self._parts[id(part)] = None
        check = self._parts[id(part)]
        return check is not None and check.is_valid(value)

    def resolved(self, part: Any) -> Any:
        """Return the schema that a part refers to, itself where it refers to none."""
        for _ in range(10):
            if not isinstance(part, dict) or not isinstance(part.get("$ref"), str):
                break
            part = _pointed_at(self.schema, part["$ref"])
        return part


def compile_schema(function: Function) -> ArgumentsSchema:
    """Return the check of a function's arguments.

    Raises UsageError for what is no JSON Schema of an object, refers to another document, or says what can't be
    checked: nothing that is asked for passes unseen.
    """
    if not _NAME.fullmatch(function.name):
        hint = "1 to 64 letters, digits, `_`, `-` and `.`"
        raise UsageError(f"{function.name[:80]!r} is no name that a model can call a function by", hint=hint)
    try:
        schema = json.loads(json.dumps(dict(function.parameters), allow_nan=False))
        if schema.get("type", "object") != "object":
            raise ValueError("its type is not object")
        return _compiled(json.dumps(schema))
    except (ValueError, TypeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        hint = "Function.parameters is a JSON Schema of type object"
        raise UsageError(f"the schema of {function.name} can't be used: {reason[:300]}", hint=hint) from None


def compile_any(schema: Any) -> ArgumentsSchema:
    """Return the check of any JSON Schema, of whatever type. Raises ValueError, RecursionError."""
    import fastjsonschema

    plain = _plain(schema, top=True)
    try:
        # The compiler writes into what it is given. A model's words are kept as they came: no defaults.
        text = json.dumps(plain)
        judge = fastjsonschema.compile(json.loads(text), use_default=False)
        explain = fastjsonschema.compile(json.loads(text), use_default=False, fast_fail=False)
    except Exception as error:  # it meets a malformed schema with errors of every kind
        raise ValueError(str(error) or type(error).__name__) from None
    try:
        judge({})
    except RecursionError:
        raise ValueError("it refers to itself without an end") from None
    except fastjsonschema.JsonSchemaException:
        pass  # an empty object is not valid: the usual case
    return ArgumentsSchema(plain, judge, explain)


def obeys(text: str, schema: Mapping[str, Any]) -> bool:
    """Say whether a text is JSON that is valid against a schema; one that can't be checked asks for JSON alone."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    try:
        return _compiled(json.dumps(dict(schema))).is_valid(value)
    except (ValueError, TypeError, RecursionError):
        return True


@functools.lru_cache(maxsize=16)
def _compiled(schema: str) -> ArgumentsSchema:
    """Compile a schema once for all replies that are held to it."""
    return compile_any(json.loads(schema))


def _plain(schema: Any, *, top: bool = False) -> Any:
    """Say a schema of any draft in the words of Draft 7, which is what the compiler reads."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise ValueError(f"{json.dumps(schema)[:60]} stands where a schema belongs")
    _refuse_unchecked(schema, top=top)
    kept = {key: value for key, value in schema.items() if key not in (*_NOTES, "$id", "id", "$anchor")}
    for key in kept.keys() & {*_IN_A_MAPPING}:
        if not isinstance(kept[key], dict):
            raise ValueError(f"{key} is not an object")
        kept[key] = {name: _plain(item) for name, item in kept[key].items()}
    for key in kept.keys() & {*_IN_A_LIST}:
        if not isinstance(kept[key], list) or not kept[key]:
            raise ValueError(f"{key} is not a list of schemas")
        kept[key] = [_plain(item) for item in kept[key]]
    for key in kept.keys() & {*_ALONE}:
        value = kept[key]
        kept[key] = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
    return _reworded(kept)


def _refuse_unchecked(schema: dict[str, Any], *, top: bool) -> None:
    if unchecked := [key for key in _UNCHECKED if key in schema]:
        raise ValueError(f"{unchecked[0]} can't be checked")
    if not top and isinstance(schema.get("$id"), str):
        raise ValueError("an $id within a schema can't be resolved")
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        # Never fetched: it could name any address, a file of this machine too.
        raise ValueError(f"{json.dumps(reference)[:80]} is not within it; put what it refers to under $defs")


def _reworded(schema: dict[str, Any]) -> dict[str, Any]:
    """Turn the words that came after Draft 7 into older ones."""
    if "prefixItems" in schema:
        rest = schema.pop("items", True)
        schema |= {"items": schema.pop("prefixItems"), "additionalItems": rest}
    more = [{"dependencies": schema.pop(key)} for key in ("dependentRequired", "dependentSchemas") if key in schema]
    if "$ref" in schema and len(schema) > 1:
        more.append({"$ref": schema.pop("$ref")})  # Draft 7 passes over what stands beside it
    if more:
        schema["allOf"] = [*schema.get("allOf", ()), *more]
    return schema


def _with_definitions(part: Any, schema: Mapping[str, Any]) -> Any:
    if not isinstance(part, dict):
        return part
    return {**{key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}, **part}


def _pointed_at(schema: Any, reference: str) -> Any:
    """Return what a JSON pointer (RFC 6901) leads to; {} where that is nothing."""
    from urllib.parse import unquote

    for step in unquote(reference).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, Sequence) and not isinstance(schema, str) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        elif isinstance(schema, dict) and key in schema:
            schema = schema[key]
        else:
            return {}
    return schema


def _reason(error: Any) -> str:
    """Return one reason, with the value where that is short, and the choices where there were any."""
    reason = _shortened(str(error.message), 300)
    if error.rule in ("anyOf", "oneOf"):
        return f"{reason}: {_shortened(json.dumps(error.definition[error.rule]), 300)}"
    if error.rule in ("required", "additionalProperties"):
        return reason
    return f"{reason}, and is {_shortened(json.dumps(error.value, default=str), 80)}"


def _is_short(value: Any) -> bool:
    try:
        return len(json.dumps(value)) <= _LONG
    except (ValueError, RecursionError):
        return False


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
