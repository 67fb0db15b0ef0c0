"""Arguments against their JSON Schema: as the specification has it, or refused before anything is sent."""

from __future__ import annotations

import socket
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.errors import UsageError
from miyabi_cli.llm.harmony.completions import obeys
from miyabi_cli.llm.objects.validating import compile_schema
from miyabi_cli.messages import Function


def function(parameters: Any, name: str = "f") -> Function:
    return Function(name, "", parameters)


def of(part: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}, **more}


NODE = of({"$ref": "#/$defs/node"}, **{"$defs": {"node": of({"$ref": "#/$defs/node", "description": "the next"})}})

# Schemas, and values for `a` of which some are valid: checked against jsonschema, the reference in Python.
CASES: list[tuple[dict[str, Any], list[Any]]] = [
    (of({"type": "integer"}), [1, 1.0, 1.5, True, "1", None]),
    (of({"type": ["string", "null"]}), ["x", None, 1]),
    (of({"enum": ["red", 1, None]}), ["red", 1, None, "1", True]),
    (of({"const": {"b": 1}}), [{"b": 1}, {"b": 2}]),
    (of({"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}), ["abc", "abcd", "ab1"]),
    (of({"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}), [["x"], [], ["x", "x"]]),
    (of({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}), [["x", 1], ["x", "y"], [1], []]),
    (of({"prefixItems": [{"type": "string"}], "items": False}), [["x"], ["x", "y"]]),
    (of({"anyOf": [{"type": "string"}, {"type": "null"}]}), ["x", None, 1]),
    (of({"oneOf": [{"type": "integer"}, {"minimum": 2}]}), [1, 2, 2.5, 1.5]),
    (of({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 3}}), ["ab", "a", 3, 2]),
    (of({"contains": {"type": "integer"}}), [[1, "x"], ["x"]]),
    (of({"not": {"type": "string"}}), ["x", 1]),
    (of({"dependentRequired": {"b": ["c"]}}), [{"b": 1}, {"b": 1, "c": 1}, {}]),
    (of({"dependentSchemas": {"b": {"required": ["c"]}}}), [{"b": 1}, {"b": 1, "c": 1}]),
    (of({"propertyNames": {"pattern": "^b"}}), [{"b": 1}, {"c": 1}]),
    (of({"patternProperties": {"^b": {"type": "integer"}}, "additionalProperties": False}), [{"b1": 1}, {"c": 1}]),
    (of({"$ref": "#/$defs/x", "minLength": 2}, **{"$defs": {"x": {"type": "string"}}}), ["ab", "a", 22]),
    (of({"$ref": "#/definitions/x~1y"}, definitions={"x/y": {"type": "string"}}), ["ab", 1]),
    (NODE, [{"a": {"a": {}}}, {"a": {"a": 1}}]),
    (of({"allOf": [{"type": "integer"}, {"minimum": 2}]}), [2, 1]),
    (of({"type": "string", "contentEncoding": "base64", "contentMediaType": "application/json"}), ["no base64!"]),
    (of({"format": "date"}), ["2026-02-28", "2026-02-31", "today", 5]),
    (of({"format": "ipv4"}), ["1.2.3.4", "1.2.3.400"]),
    (of({"format": "a-format-of-ours"}), ["x"]),
    (of({"type": "string"}, required=["id"]), ["x"]),
    (of(True, **{"$id": "https://example.org/f", "$schema": "https://json-schema.org/draft/2020-12/schema"}), [1]),
    ({"$ref": "#/$defs/root", "$defs": {"root": of({"type": "integer"})}}, [1, "x"]),
    ({}, [1]),
]


@pytest.mark.parametrize(("schema", "values"), CASES)
def test_a_schema_means_what_the_specification_says(schema: dict[str, Any], values: list[Any]) -> None:
    check = compile_schema(function(schema))
    judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for value in values:
        assert (not check.problems({"a": value})) == judge.is_valid({"a": value}), value


def test_a_property_may_have_a_keyword_s_name() -> None:
    names = ("$ref", "id", "$id", "type", "prefixItems", "unevaluatedItems", "default")
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": [*names]}
    check = compile_schema(function(schema))
    assert check.problems(dict.fromkeys(names, "x")) == []
    assert check.problems(dict.fromkeys(names, 1)) != []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "its type is not object"),
        ({"type": "object", "properties": []}, "properties is not an object"),
        ({"type": "object", "required": "a"}, "required must be an array"),
        (of({"type": "text"}), "Unknown type"),
        (of(5), "5 stands where a schema belongs"),
        (of({"pattern": "("}), "unterminated subpattern"),
        (of({"anyOf": []}), "anyOf is not a list of schemas"),
        (of({"minLength": "2"}), "minLength must be a number"),
        (of({"$ref": "#/$defs/x"}), "Unresolvable ref"),
        (of({"$ref": "https://example.org/x.json"}), "is not within it"),
        (of({"$ref": "file:///etc/passwd"}), "is not within it"),
        (of({"$ref": "other.json#/x"}), "is not within it"),
        (of({"$ref": 5}), "is not within it"),
        (of({"$id": "x", "type": "string"}), "an \\$id within a schema"),
        ({"$ref": "#"}, "refers to itself"),
        (of({"unevaluatedProperties": False}), "unevaluatedProperties can't be checked"),
        (of({"contains": {}, "minContains": 2}), "minContains can't be checked"),
        (of({"default": float("nan")}), "not JSON compliant"),
        (of({"enum": {1, 2}}), "not JSON serializable"),
    ],
)
def test_a_bad_schema_is_a_usage_error(schema: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        compile_schema(function(schema))
    assert caught.value.message.startswith("the schema of f can't be used: ")
    assert caught.value.hint


def test_a_schema_nested_too_deeply_is_a_usage_error() -> None:
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(UsageError, match="too deep"):
        compile_schema(function(schema))


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "f\n", "größe"])
def test_a_name_that_no_server_takes_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        compile_schema(function({}, name))


def test_nothing_is_fetched() -> None:
    """A reference to another document is refused, not followed, also to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.json"
        for schema in (of({"$ref": address}), {"$id": address, **of({"$ref": "x.json"})}):
            with pytest.raises(UsageError):
                compile_schema(function(schema))
        assert obeys("{}", {"$ref": address})
        compile_schema(function({"$id": address, "$schema": address, **of({"type": "string"})}))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_schema_of_another_type_holds_a_text() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    assert obeys("[1]", schema)
    assert not obeys('["x"]', schema)
    assert not obeys("[1", schema)
    assert obeys('"x"', {"type": "text"})  # no schema: there is nothing to hold it to


def test_reasons_have_paths_and_values_and_are_few() -> None:
    schema = of({"type": "array", "items": {"type": "integer"}}, required=["a", "b"])
    check = compile_schema(function(schema))
    assert check.problems({"a": [1, "x"], "b": 1}) == ['arguments.a[1] must be integer, and is "x"']
    assert check.problems({"a": []}) == ["arguments must contain ['b'] properties"]
    assert len(check.problems({"a": ["x"] * 50, "b": 1})) == 5
    assert check.problems({"a": ["x"] * 100_000, "b": 1}) == ['arguments.a[0] must be integer, and is "x"']
    assert all(len(problem) < 500 for problem in check.problems({"a": ["x" * 10_000], "b": 1}))
    nullable = compile_schema(function(of({"anyOf": [{"type": "string"}, {"type": "null"}]})))
    assert '[{"type": "string"}, {"type": "null"}]' in nullable.problems({"a": 1})[0]


def test_what_json_can_not_hold_is_a_problem() -> None:
    check = compile_schema(function({}))
    assert check.problems({"a": float("nan")}) == ["arguments must not hold NaN or Infinity, which are not JSON"]
    multiple = compile_schema(function(of({"multipleOf": 0.01})))
    assert multiple.problems({"a": 10**400}) == ["arguments must not hold a number so large"]
    value: Any = 1
    for _ in range(3000):
        value = [value]
    assert check.problems({"a": value}) == ["arguments must not be nested so deeply"]


def test_the_schema_and_the_value_stay_as_they_are() -> None:
    schema = of({"type": "string", "default": "x", "$comment": "y"})
    before = repr(schema)
    value: dict[str, Any] = {}
    assert compile_schema(function(schema)).problems(value) == []
    assert value == {}
    assert repr(schema) == before


TYPES = ["string", "integer", "number", "boolean", "null", "array", "object"]
SCHEMAS = st.recursive(
    st.builds(lambda types: {"type": types}, st.lists(st.sampled_from(TYPES), min_size=1, unique=True))
    | st.builds(
        lambda members: {"enum": members}, st.lists(st.sampled_from(["x", 1, None, "1"]), min_size=1, unique=True)
    ),
    lambda inner: (
        st.builds(lambda part: {"type": "array", "items": part}, inner)
        | st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(
            lambda parts, closed: {"type": "object", "properties": parts, "additionalProperties": not closed},
            st.dictionaries(st.sampled_from("abc"), inner),
            st.booleans(),
        )
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.sampled_from(["x", "1", "", 1, 2.5, 3.0, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=5))
def test_any_plain_schema_means_what_the_specification_says(part: dict[str, Any], values: list[Any]) -> None:
    schema = of(part)
    check, judge = compile_schema(function(schema)), jsonschema.Draft202012Validator(schema)
    for value in values:
        assert (not check.problems({"a": value})) == judge.is_valid({"a": value})
