"""The reference and the JSON Schema that are made from the settings' schema say all of it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from miyabi_cli.settings.reference import CONDITIONS, settings_reference, settings_schema
from miyabi_cli.settings.schema import known_keys
from miyabi_cli.settings.trust import HARMLESS
from tests.test_sources import SAMPLE


def test_every_key_has_a_row_with_a_meaning() -> None:
    rows = [line.split(" | ") for line in settings_reference().splitlines() if line.startswith("| `")]
    names = [row[0].strip("| `") for row in rows]
    for path, field in known_keys():
        assert path[-1] in names
        assert field.description, path
    assert all(row[-1].strip(" |") for row in rows)


def test_conditions_are_those_of_keys_that_are_judged_by_value() -> None:
    by_value = {key for key, judge in HARMLESS.items() if judge.__name__ != "_always"}
    assert set(CONDITIONS) == by_value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SAMPLE, None),
        ("llm: {ollama: {keep_alive: -1}}", None),
        ("llm: {ollama: {keep_alive: 1h30m}}", None),
        ("llm: {ollama: {keep_alive: soon}}", ["llm", "ollama", "keep_alive"]),
        ("llm: {provder: groq}", ["llm"]),
        ("llm: {provider: grok}", ["llm", "provider"]),
        ("limits: {steps: 0}", ["limits", "steps"]),
        ("llm: {default_temperature: 3}", ["llm", "default_temperature"]),
        ("checks: [{name: a}]", ["checks", 0]),
    ],
)
def test_editors_get_a_schema_that_tells_right_from_wrong(text: str, path: list[Any] | None) -> None:
    schema = json.loads(settings_schema())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    errors = list(validator.iter_errors(yaml.safe_load(text)))
    assert [list(error.absolute_path) for error in errors] == ([] if path is None else [path])
