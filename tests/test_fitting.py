"""Values that are nearly what a schema wants."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from miyabi_cli.llm.objects.fitting import fit, variants
from miyabi_cli.llm.objects.validating import compile_schema
from miyabi_cli.messages import Function
from tests.test_validating import NODE, SCHEMAS, VALUES, of

CLOSED = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "file_name": {"type": "string"}},
    "required": ["count"],
    "additionalProperties": False,
}
NULLABLE = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
KINDS = {
    "oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer"}}, "required": ["kind"]},
        {"type": "object", "properties": {"kind": {"const": "b"}, "n": {"type": "string"}}, "required": ["kind"]},
    ]
}


def fitted(value: Any, part: dict[str, Any]) -> Any:
    return fit({"a": value}, compile_schema(Function("f", "", of(part, required=["a"]))))["a"]


@pytest.mark.parametrize(
    ("part", "value", "meant"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, " -3 ", -3),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "integer"}, "3.0", 3),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "FALSE", False),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "string"}, 3, "3"),
        ({"type": "string"}, 2.5, "2.5"),
        ({"type": "string"}, True, "true"),
        ({"type": "string"}, ["x"], "x"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, '2']", [1, 2]),
        ({"type": "array", "items": {"type": "string"}}, "x", ["x"]),
        ({"type": "array", "items": {"type": "string"}}, 3, ["3"]),
        ({"type": "object"}, '{"b": 1}', {"b": 1}),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, ["1", 2], [1, "2"]),
        ({"enum": ["red", "blue"]}, "RED", "red"),
        ({"enum": ["red", "blue"]}, " Blue\n", "blue"),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": ["1", "2"]}, 2, "2"),
        ({"const": "yes"}, "Yes", "yes"),
        (NULLABLE, "3", 3),
        (NULLABLE, "null", None),
        (KINDS, {"kind": "A", "n": "3"}, {"kind": "a", "n": 3}),
        (KINDS, {"kind": "b", "n": 3}, {"kind": "b", "n": "3"}),
        ({"allOf": [{"type": "integer"}, {"minimum": 2}]}, "2", 2),
        (CLOSED, {"count": 1, "note": "x"}, {"count": 1}),
        (CLOSED, {"Count": "1", "fileName": "x"}, {"count": 1, "file_name": "x"}),
        (CLOSED, {"count": 1, "file_name": None}, {"count": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"x": "1"}, {"x": 1}),
        (
            {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False},
            {"xa": 1, "y": 2},
            {"xa": 1},
        ),
    ],
)
def test_what_was_meant(part: dict[str, Any], value: Any, meant: Any) -> None:
    found = fitted(value, part)
    assert json.dumps(found) == json.dumps(meant)  # 1 is not True, and 3.0 is not 3
    jsonschema.validate({"a": found}, of(part))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ({"type": "integer"}, "three"),
        ({"type": "integer"}, "3 apples"),
        ({"type": "integer"}, "007"),
        ({"type": "integer"}, 2.5),
        ({"type": "integer"}, True),
        ({"type": "integer"}, None),
        ({"type": "boolean"}, "yes"),
        ({"type": "boolean"}, 1),
        ({"type": "string"}, None),
        ({"type": "string"}, ["x", "y"]),
        ({"type": "string"}, {"x": "y"}),
        ({"enum": ["Red", "red"]}, "RED"),
        ({"enum": ["red", "blue"]}, "re"),
        ({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}, "3"),
        (CLOSED, {"note": "x"}),
        (CLOSED, {"count": None}),
    ],
)
def test_what_is_not_plain_stays_as_it_is(part: dict[str, Any], value: Any) -> None:
    assert fitted(value, part) == value


def test_a_schema_that_refers_to_itself() -> None:
    schema = compile_schema(Function("f", "", NODE))
    assert fit({"a": '{"a": "{}"}'}, schema) == {"a": {"a": {}}}
    value: Any = {}
    for _ in range(3000):
        value = {"a": value}
    fit(value, schema)


def test_branches_in_branches_have_a_bound() -> None:
    """Each level doubles the ways; without a bound this would not end."""
    part = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/p"}, "maxItems": size} for size in (1, 2)]}
    schema = compile_schema(Function("f", "", of({"$ref": "#/$defs/p"}, **{"$defs": {"p": part}})))
    value: Any = "x"
    for _ in range(9):
        value = [value]
    fit({"a": value}, schema)


@pytest.mark.parametrize(
    ("value", "first"),
    [
        ({"count": 1}, {"count": 1}),
        ({"arguments": {"count": 1}}, {"count": 1}),
        ({"name": "f", "arguments": '{"count": 1}'}, {"count": 1}),
        ({"type": "function", "function": {"name": "f", "arguments": {"count": 1}}}, {"count": 1}),
        ({"f": {"count": 1}}, {"count": 1}),
        ('{"count": 1}', {"count": 1}),
        ([{"count": 1}], {"count": 1}),
        ('"{\\"count\\": 1}"', {"count": 1}),
    ],
)
def test_the_arguments_in_what_wraps_them(value: Any, first: dict[str, Any]) -> None:
    assert variants(value, compile_schema(Function("f", "", CLOSED)), "f")[0] == first


def test_a_bare_value_is_the_one_argument() -> None:
    one = compile_schema(Function("f", "", of({"type": "array"})))
    assert variants([1, 2], one, "f") == [{"a": [1, 2]}]
    assert variants(3, one, "f") == [{"a": 3}]
    assert variants([1, 2], compile_schema(Function("f", "", CLOSED)), "f") == []


def test_an_argument_that_is_named_arguments_wraps_nothing() -> None:
    schema = compile_schema(Function("f", "", {"type": "object", "properties": {"arguments": {"type": "object"}}}))
    value = {"arguments": {"x": 1}}
    assert variants(value, schema, "f") == [value]


@settings(deadline=None, max_examples=60)
@given(SCHEMAS, VALUES)
def test_what_is_valid_stays_as_it_is_and_nothing_valid_gets_worse(part: dict[str, Any], value: Any) -> None:
    schema = compile_schema(Function("f", "", of(part)))
    fixed = fit({"a": value}, schema)
    if not schema.problems({"a": value}):
        assert fixed == {"a": value}
    if not schema.problems(fixed):
        assert not schema.problems(fit(fixed, schema))
