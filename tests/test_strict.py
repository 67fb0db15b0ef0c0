"""Schemas in the strict form that Groq enforces, and answers brought back to the schema as it was."""

from __future__ import annotations

from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.llm.chat.strict import NotStrict, strict_schema, without_nulls
from tests.support.groq import check_strict


def of(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required], **more}


def field(schema: Any) -> Any:
    """Return the strict form of an optional field."""
    return strict_schema(of({"a": schema}))["properties"]["a"]


def test_every_field_is_required_and_none_beside_them() -> None:
    strict = strict_schema(of({"a": {"type": "string"}, "b": {"type": "integer"}}, "a", title="T"))
    assert strict == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": ["integer", "null"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "nullable"),
    [
        ({"type": "string", "description": "d", "maxLength": 3}, {"type": ["string", "null"], "description": "d"}),
        ({"type": ["string", "integer"]}, {"type": ["string", "integer", "null"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "string", "enum": ["x"]}, {"type": ["string", "null"], "enum": ["x", None]}),
        ({"enum": ["x"]}, {"anyOf": [{"enum": ["x"]}, {"type": "null"}]}),
        ({"const": 3}, {"anyOf": [{"const": 3}, {"type": "null"}]}),
        ({"anyOf": [{"type": "string"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"$ref": "#/$defs/x"}, {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]}),
        ({"allOf": [{"type": "string"}]}, {"type": ["string", "null"]}),
        (
            {"type": "array", "items": of({"b": {"type": "string"}})},
            {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "properties": {"b": {"type": ["string", "null"]}},
                    "required": ["b"],
                    "additionalProperties": False,
                },
            },
        ),
    ],
)
def test_an_optional_field_may_be_null(schema: Any, nullable: Any) -> None:
    assert field(schema) == nullable


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object"},
        of({}),
        of({"a": {}}),
        of({"a": True}),
        of({"a": {"type": "object"}}),
        of({"a": {"type": "array"}}),
        of({"a": {"type": "string"}}, additionalProperties=True),
        of({"a": {"type": "string"}}, additionalProperties={"type": "string"}),
        of({"a": {"type": "string"}}, patternProperties={"^x": {}}),
        of({"a": {"not": {"type": "string"}}}),
        of({"a": {"allOf": [{"type": "string"}, {"enum": ["x"]}]}}),
    ],
)
def test_what_has_no_strict_form_is_said(schema: dict[str, Any]) -> None:
    with pytest.raises(NotStrict):
        strict_schema(schema)


TREE = of(
    {"root": {"$ref": "#/$defs/node"}},
    "root",
    **{"$defs": {"node": of({"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}}, "name")}},
)


def test_references_and_their_definitions_are_strict_too() -> None:
    strict = strict_schema(TREE)
    check_strict(strict, "schema")
    answer = {"root": {"name": "a", "next": {"name": "b", "next": None}}}
    fastjsonschema.validate(strict, answer)
    assert without_nulls(answer, TREE) == {"root": {"name": "a", "next": {"name": "b"}}}


def test_a_null_that_the_schema_allows_stays() -> None:
    schema = of({"a": {"type": ["string", "null"]}, "b": {"anyOf": [{"type": "null"}]}, "c": {"enum": [None]}, "d": {}})
    answer = {"a": None, "b": None, "c": None, "d": None}
    assert without_nulls(answer, schema)["a"] is None
    assert without_nulls(answer, schema).keys() == {"a", "b", "c"}
    assert without_nulls({"a": None}, of({"a": {"type": "string"}}, "a")) == {"a": None}


def test_alternatives_are_told_apart_by_their_fields() -> None:
    one, two = of({"x": {"type": "string"}, "y": {"type": "string"}}, "x"), of({"z": {"type": "integer"}}, "z")
    schema = of({"a": {"anyOf": [one, two]}}, "a")
    assert without_nulls({"a": {"x": "1", "y": None}}, schema) == {"a": {"x": "1"}}
    assert without_nulls({"a": {"z": None}}, schema) == {"a": {"z": None}}


def test_a_schema_that_goes_in_circles_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}
    assert without_nulls({"a": {"b": None}}, schema) == {"a": {"b": None}}
    schema = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}
    assert without_nulls({"a": None}, schema) == {"a": None}


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer"},
            {"type": "boolean"},
            {"type": ["string", "null"]},
            {"enum": ["x", "y"]},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).flatmap(
            lambda fields: st.sets(st.sampled_from(sorted(fields))).map(lambda names: of(fields, *sorted(names)))
        ),
    ),
    max_leaves=8,
)


def answers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return answers to a strict schema."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*[answers(part) for part in schema["anyOf"]])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    made = {
        "null": lambda: st.none(),
        "string": lambda: st.text(max_size=3),
        "integer": lambda: st.integers(0, 9),
        "boolean": lambda: st.booleans(),
        "array": lambda: st.lists(answers(schema["items"]), max_size=2),
        "object": lambda: st.fixed_dictionaries({name: answers(part) for name, part in schema["properties"].items()}),
    }
    return st.one_of(*[made[kind]() for kind in kinds])


@given(st.data(), st.dictionaries(st.sampled_from("abc"), SCHEMAS, min_size=1))
def test_an_answer_to_the_strict_form_is_one_to_the_schema_itself(data: st.DataObject, fields: dict[str, Any]) -> None:
    schema = of(fields, *data.draw(st.sets(st.sampled_from(sorted(fields)))))
    strict = strict_schema(schema)
    check_strict(strict, "schema")
    answer = data.draw(answers(strict))
    fastjsonschema.validate(strict, answer)
    fastjsonschema.validate(schema, without_nulls(answer, schema))
