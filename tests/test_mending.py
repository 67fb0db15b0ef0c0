"""JSON as models write it: what is understood, what is refused, and that hostile text costs no time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.llm.objects.mending import Cut, inner_arguments, objects_in, read_json, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\n {"a": 1} \n', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}\n```<|end|>', {"a": 1}),
        ('{"a": 1}<|call|>', {"a": 1}),
        ('{"a": [1, 2,], "b": {"c": 1,},}', {"a": [1, 2], "b": {"c": 1}}),
        ("{'a': True, 'b': False, 'c': None}", {"a": True, "b": False, "c": None}),
        ("{'a': (1, 'x'), 'b': ()}", {"a": [1, "x"], "b": []}),
        ("{'a': \"it's\\x00\\U0001f600\"}", {"a": "it's\x00\U0001f600"}),
        (r"{'a': 'it\'s'}", {"a": "it's"}),
        ('{"a": "x\ny\tz"}', {"a": "x\ny\tz"}),
        (r'{"a": "\d+\.py \"q\" \\ \u0041",}', {"a": '\\d+\\.py "q" \\ A'}),
        (r'{"a": "\ud83d\ude00",}', {"a": "\U0001f600"}),
        ('{"a": """one "two"\nthree""",}', {"a": 'one "two"\nthree'}),
        ('{a: 1, b-c: "x"}', {"a": 1, "b-c": "x"}),
        ('{"a": 1, // one\n "b": /* two */ 2, # three\n}', {"a": 1, "b": 2}),
        ('{"a": .5, "b": +3, "c": -1e3,}', {"a": 0.5, "b": 3, "c": -1000.0}),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ("[1, 2]", [1, 2]),
        ("3", 3),
    ],
)
def test_what_is_understood(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blue",
        "{ ls; pwd; }",
        "{a, b}",
        '{"a": 1 "b": 2}',
        '{"a": "b" "c"}',
        '{"a": "he said "hi" to me"}',
        '{"a": 0x10}',
        '{"a": 007}',
        '{"a": 1} and more',
        '{"a": }',
        "{: 1}",
        "{1: 2}",
        "9" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        read_json(text)


@pytest.mark.parametrize(
    "text", ['{"a": "x', '{"a": [1, 2', '{"a":', "{'a': 1", '{"a": """x"', '{"a": {"b": 1}, "c": "x']
)
def test_what_was_cut_off_is_not_made_whole_and_not_read_in_parts(text: str) -> None:
    with pytest.raises(Cut):
        read_value(text)
    assert list(objects_in(f"Here: {text}")) == []


def test_objects_are_found_in_prose_and_in_fences() -> None:
    text = 'The set {x, y} and\n```json\n{"a": {"b": 1}}\n```\nor {"c": 2}, not {d}.'
    assert list(objects_in(text)) == [{"a": {"b": 1}}, {"c": 2}]


@pytest.mark.parametrize(
    ("value", "inner"),
    [
        ({"arguments": {"a": 1}}, {"a": 1}),
        ({"name": "f", "parameters": {"a": 1}}, {"a": 1}),
        ({"type": "function", "function": {"name": "f", "arguments": "{}"}}, {"name": "f", "arguments": "{}"}),
        ({"name": "f", "arguments": '{"a": 1}'}, '{"a": 1}'),
        ({"f": {"a": 1}}, {"a": 1}),
        ({"arguments": {"a": 1}, "b": 2}, None),
        ({"arguments": None}, None),
        ({"function": "f"}, None),
    ],
)
def test_wrappers(value: dict[str, Any], inner: Any) -> None:
    assert inner_arguments(value, "f") == inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON)
def test_json_is_read_as_it_is_and_with_a_comma_too_many(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(f"[{json.dumps(value)},]") == [value]


@settings(deadline=None)
@given(st.dictionaries(st.text(alphabet="abc", min_size=1), JSON, min_size=1))
def test_python_literals_are_read_as_python_reads_them(value: dict[str, Any]) -> None:
    assert read_json(repr(value)) == value


@settings(deadline=None)
@given(st.text(alphabet="{}[]()\"'\\,:#/* \n1.eEaTrue`<|>u"))
def test_any_text_is_read_or_refused(text: str) -> None:
    for value in objects_in(text):
        assert isinstance(value, dict)
    try:
        read_json(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        '{"a":',
        '"',
        "{'",
        '{"a": "x" ',
        '{"a": "b\\"',
        "/*",
        "```json {",
        '{"a":[',
        "'''",
        '{"""a',
        "1.",
        "{/",
        "{a:1} ",
        "# ",
    ],
)
def test_hostile_text_of_a_megabyte_is_refused(piece: str) -> None:
    """What took the square of the length would not end here."""
    text = piece * (1_000_000 // len(piece))
    list(objects_in(text))
    with pytest.raises(ValueError):  # noqa: PT011
        read_json(text)
