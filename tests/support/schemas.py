"""Validation against the JSON Schemas that ship with the package."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
from referencing import Registry, Resource


def schema(name: str) -> dict[str, Any]:
    """Return a schema of the package by its name."""
    data: dict[str, Any] = json.loads(resources.files("miyabi_cli").joinpath("schemas", f"{name}.json").read_text())
    return data


def validate(value: Any, name: str) -> None:
    """Hold a value against a schema; the schemas may refer to each other by file name."""
    registry: Any = Registry().with_resources(
        (f"{other}.json", Resource.from_contents(schema(other))) for other in ("codegen", "event")
    )
    jsonschema.Draft202012Validator(schema(name), registry=registry).validate(value)
