"""What is generated from the settings' schema: docs/settings.md and the JSON Schema for editors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miyabi_cli.settings.schema import KeyPath, Settings, section_of
from miyabi_cli.settings.sources import OLDER_KEYS
from miyabi_cli.settings.trust import HARMLESS
from miyabi_cli.settings.variables import NOT_SETTINGS, SERVER_VARIABLES

# What HARMLESS judges by the value, in words.
CONDITIONS: Mapping[str, str] = {
    "llm.local_only": "if false",
    "llm.ollama.model": "if `…-cloud`",
    "llm.embedded.model": "if a path",
    "budget.monthly_usd": "if higher",
    "budget.per_run_usd": "if higher",
    "sandbox.mode": "if off",
    "sandbox.network": "if true",
    "triage.labels": "if outside",
}

_FORMATS = {"path": "path", "password": "text (never shown)", "date": "date"}

_INTRODUCTION = """# Settings

<!-- Generated from the schema by `make generate`. -->

A key's value is taken from the first of these that has it: a flag of the command line, an environment variable, the
file `.miyabi.yml` at the root of the repository, the user's own file `config.yml` in miyabi's configuration directory,
the default. `--config FILE` names a file that is read in place of the repository's. Sections are merged key by key; a
list is replaced as a whole.

A key that is not known, or a value that does not fit, is an error with its file and line and the nearest known key.
A file is YAML of plain maps, lists and values: no anchors, no tags, one document, at most 1 MB. Only `true` and `false`
are read as truth values: `off` and `no` are text. An editor that reads JSON Schema can check a file against
`miyabi_cli/schemas/settings.json`.

These keys of `llm` may stand at the top of a file too, as they did in the first plan of miyabi:
{older}.

## Variables in a file

`${{NAME}}` in a value stands for the environment variable NAME, and `$${{NAME}}` for the text `${{NAME}}`. An
`api_key` or `token` whose variable is not set is null; in any other value that is an error.

## Environment variables

Every key has one: `MIYABI_`, then the key in capitals with `__` for each dot. `MIYABI_LLM__PROVIDER=groq` sets
`llm.provider`. Lists, maps and whole sections are written as JSON: `MIYABI_LLM__FALLBACK='["ollama"]'`. `null` is null,
and an empty variable sets nothing. Names that servers' users already have are read too; those of miyabi are stronger:
"""

_NAMED_ELSEWHERE = "\nThese are no settings, and are read from the environment alone:\n{names}.\n"

_TRUST = """
## Trust

A repository's file could send code and keys elsewhere, or run commands. Where it sets such a key (marked below), it
holds only once the user has trusted its content, by one of:

- `miyabi trust`, which shows these keys and remembers the file's sha256 for this repository (`--show` only shows,
  `--revoke` forgets);
- a yes to the question that is asked on a terminal;
- `MIYABI_TRUST_CONFIG=<sha256>`, or several with commas between them; `MIYABI_TRUST_CONFIG=1` trusts every file, for a
  runner where every branch is trusted.

Otherwise the command ends with exit code 2. A changed file has to be trusted again. A value with `${NAME}` always needs
trust, and one that is empty (null, `[]`, `{}`) needs none where it lifts no limit. Flags, the environment, the user's
own file and the file of `--config` need none.

## Keys

"Trust" says whether the key needs it in a repository's file.
"""


def settings_reference() -> str:
    """Return the page that documents every key, as Markdown."""
    lines = [_INTRODUCTION.format(older=", ".join(f"`{name}`" for name in OLDER_KEYS))]
    names = [(f"`{name}`", f"`{'.'.join(path)}`") for name, path in SERVER_VARIABLES.items()]
    lines.append(_table(("Variable", "Key"), names))
    lines.append(_NAMED_ELSEWHERE.format(names=", ".join(f"`{name}`" for name in sorted(NOT_SETTINGS))))
    lines += [_TRUST, *_sections((), Settings.model_json_schema())]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def settings_schema() -> str:
    """Return the JSON Schema of a settings file, for editors."""
    schema = _without_titles(Settings.model_json_schema())
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": ".miyabi.yml", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_titles(schema: Any) -> Any:
    """Return the schema without the titles that pydantic makes up from names."""
    if isinstance(schema, list):
        return [_without_titles(child) for child in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(child)
        for key, child in schema.items()
        if not (key == "title" and isinstance(child, str)) and key != "writeOnly"
    }


def _sections(path: KeyPath, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of a section and of all that are in it."""
    properties = _properties(path, schema)
    own = [name for name in properties if not section_of((*path, name))]
    if path:
        yield f"### `{'.'.join(path)}`\n"
        yield _property(path, schema)["description"] + "\n"
    if own:
        yield _table(
            ("Key", "Values", "Default", "Trust", "Meaning"),
            [
                (*_cells(properties[name], name, schema)[:3], _trust((*path, name)), _meaning(properties[name]))
                for name in own
            ],
        )
    for name in own:
        if section_of((*path, name, 0)):
            yield f"### One of `{'.'.join((*path, name))}`\n"
            yield _entry_table((*path, name), schema)
    for name in properties:
        if section_of((*path, name)):
            yield from _sections((*path, name), schema)


def _entry_table(path: KeyPath, schema: Mapping[str, Any]) -> str:
    entries = _property(path, schema)
    properties = _resolved(entries.get("items") or entries["additionalProperties"], schema)["properties"]
    rows = [(*_cells(one, name, schema), _meaning(one)) for name, one in properties.items()]
    return _table(("Key", "Values", "Default", "Meaning"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(one: Mapping[str, Any], name: str, schema: Mapping[str, Any]) -> tuple[str, str, str]:
    default = f"`{json.dumps(one['default'])}`" if "default" in one else "needed"
    if "default" not in one and one.get("type") == "object":
        default = "`{}`"
    return f"`{name}`", _kind(one, schema), default


def _meaning(one: Mapping[str, Any]) -> str:
    return str(one["description"]).replace("|", "\\|")


def _trust(path: KeyPath) -> str:
    key = ".".join(path)
    return CONDITIONS.get(key) or ("" if key in HARMLESS else "yes")


def _kind(one: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the values that a key takes, in words."""
    if "anyOf" in one:
        return " or ".join(_kind(choice, schema) for choice in one["anyOf"])
    if "$ref" in one:
        return "a map"
    if "enum" in one:
        return ", ".join(f"`{choice}`" for choice in one["enum"])
    kind = one["type"]
    if kind == "array":
        inner = one["items"]
        return f"list of {'maps' if '$ref' in inner else _kind(inner, schema)}"
    if kind == "object":
        return f"map of names to {_kind(one['additionalProperties'], schema)}"
    words = {"string": "text", "boolean": "`true`, `false`", "null": "`null`", "integer": "whole number"}
    return (_FORMATS.get(one.get("format", "")) or words.get(kind, kind)) + _bounds(one)


def _bounds(one: Mapping[str, Any]) -> str:
    if "exclusiveMinimum" in one:
        return f" > {one['exclusiveMinimum']}"
    if "maximum" in one:
        return f" {one['minimum']} to {one['maximum']}"
    return f" ≥ {one['minimum']}" if "minimum" in one else ""


def _properties(path: KeyPath, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    place: Mapping[str, Any] = schema
    for name in path:
        place = _resolved(place["properties"][name], schema)
    properties: Mapping[str, Any] = place["properties"]
    return properties


def _property(path: KeyPath, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    one: Mapping[str, Any] = _properties(path[:-1], schema)[path[-1]]
    return one


def _resolved(one: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema["$defs"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one
    return found
