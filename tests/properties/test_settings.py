"""Settings files, variables and trust in them: any text is settings or one typed error, and nothing slips through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.checking import settings_of
from miyabi_cli.settings.files import parse_settings
from miyabi_cli.settings.schema import Settings, known_keys
from miyabi_cli.settings.sources import load_settings
from miyabi_cli.settings.tree import SettingsTree, leaves, merge
from miyabi_cli.settings.trust import HARMLESS, REPOSITORY_FILE, RepositoryFile, is_trusted, record_trust
from miyabi_cli.settings.variables import environment_trees
from tests.properties.strategies import JSON, UNICODE, mixed

KEYS = [path for path, _ in known_keys()]
NAMES = sorted({name for path in KEYS for name in path})
ODD = some.sampled_from(["../x", "/etc", "~", "${HOME}", "$${HOME}", "http://h", "-1", "off", "a-cloud", "x.gguf"])
LEAVES = JSON | ODD | some.integers(-5, 5_000) | some.booleans() | some.sampled_from(["auto", "groq", "stop", "high"])
TREES = some.recursive(
    LEAVES,
    lambda inner: (
        some.dictionaries(some.sampled_from(NAMES) | UNICODE, inner, max_size=3) | some.lists(inner, max_size=3)
    ),
    max_leaves=8,
)
# One known key each, at its own place, so that many of the values get as far as being judged.
SET = some.lists(some.tuples(some.sampled_from(KEYS), LEAVES | TREES), min_size=1, max_size=4)
YAML = mixed(
    *("limits:", " steps: 5", "\n", "- ", "? ", ": ", "{", "}", "[", "]", "&a ", "*a", "!!python/object:os.system "),
    *("|\n", ">\n", "'", '"', "\t", "#", "---\n", "...\n", "%YAML 1.1\n", "<<: ", "checks", "\ufeff", "\\x00", "0x1f"),
    max_size=20,
)


def nested(pairs: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in pairs:
        inner = tree
        for name in path[:-1]:
            below = inner.setdefault(name, {})
            inner = below if isinstance(below, dict) else inner.update({name: {}}) or inner[name]
        inner[path[-1]] = value
    return tree


def outcome_of(load: Callable[[], Settings]) -> Settings | SettingsError:
    try:
        return load()
    except SettingsError as error:
        return error


def assert_one_line(error: SettingsError) -> None:
    assert error.message.isprintable()
    assert (error.hint or "").isprintable()


@settings(deadline=None)
@given(YAML | UNICODE)
def test_any_text_is_a_tree_or_a_settings_error(text: str) -> None:
    try:
        tree = parse_settings(text.encode(), ".miyabi.yml")
    except SettingsError as error:
        assert_one_line(error)
        return
    assert {place for place, _ in leaves(tree.values) if place} <= set(tree.places)


@settings(deadline=None)
@given(some.dictionaries(some.sampled_from(NAMES) | UNICODE, TREES, max_size=4) | SET.map(nested))
def test_any_tree_is_settings_or_a_settings_error(values: dict[str, Any]) -> None:
    outcome = outcome_of(lambda: settings_of(SettingsTree("flags", values)))
    if isinstance(outcome, SettingsError):
        assert_one_line(outcome)


class Dumper(yaml.SafeDumper):
    """Writes texts in quotes: `1e3` without them is a number to some readers, and a text to others."""


Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@settings(deadline=None)
@given(SET.map(nested), some.booleans())
def test_valid_settings_survive_being_written_and_read(values: dict[str, Any], as_json: bool) -> None:
    valid = outcome_of(lambda: settings_of(SettingsTree("f", values)))
    if isinstance(valid, Settings):
        text = (
            json.dumps(values, ensure_ascii=False) if as_json else yaml.dump(values, Dumper=Dumper, allow_unicode=True)
        )
        read = outcome_of(lambda: settings_of(parse_settings(text.encode(), "f")))
        assert read == valid or (isinstance(read, SettingsError) and "control character" in read.message)


VARIABLES = some.dictionaries(
    some.sampled_from(["MIYABI_" + "__".join(path).upper() for path in KEYS])
    | some.sampled_from(["MIYABI_LLM", "MIYABI_CHECKS", "MIYABI_LIMITS__", "OLLAMA_HOST", "OPENAI_BASE_URL"])
    | some.text("MIYABI_LXcheks", max_size=12).map("MIYABI_".__add__),
    (LEAVES | TREES).map(json.dumps) | some.sampled_from(["", "null", "[" * 5_000, "9" * 5_000, "1e999", "\u202e"]),
    max_size=3,
)


@settings(deadline=None)
@given(VARIABLES)
def test_any_variables_are_settings_or_a_settings_error(environ: Mapping[str, str]) -> None:
    try:
        settings_of(SettingsTree("settings", merge(environment_trees(environ)), is_file=True))
    except SettingsError as error:
        assert_one_line(error)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIYABI_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SET.map(nested))
def test_without_trust_a_file_changes_only_what_can_do_no_harm(repository: Path, values: dict[str, Any]) -> None:
    (repository / REPOSITORY_FILE).write_text(json.dumps(values))
    try:
        found = load_settings(flags={}, environ={"HOME": "/secret"}, repository=repository)
    except SettingsError as error:
        assert_one_line(error)
        return
    default = Settings()
    for path in KEYS:
        if ".".join(path) not in HARMLESS:
            assert attribute(found, path) == attribute(default, path), path
    assert "/secret" not in repr(found)
    assert found.sandbox == default.sandbox
    assert (found.budget.per_run_usd or 1e9) <= (default.budget.per_run_usd or 1e9)


def attribute(found: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        found = getattr(found, name)
    return found


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.binary(max_size=60), some.binary(max_size=60), some.text(max_size=20), some.binary(max_size=80))
def test_only_the_content_that_was_trusted_is_trusted(
    repository: Path, content: bytes, other: bytes, variable: str, record: bytes
) -> None:
    file, changed = (RepositoryFile(repository, repository / "f", data) for data in (content, other))
    record_trust(file)
    assert is_trusted(file, {})
    assert is_trusted(changed, {}) == (content == other)
    assert is_trusted(changed, {"MIYABI_TRUST_CONFIG": hashlib.sha256(other).hexdigest()})
    for path in (repository / "data" / "trust").iterdir():
        path.write_bytes(record)
    assert not is_trusted(file, {})
    try:
        assert not is_trusted(file, {"MIYABI_TRUST_CONFIG": variable}) or "1" in variable
    except SettingsError as error:
        assert_one_line(error)
    for path in (repository / "data" / "trust").iterdir():
        path.unlink()


def test_no_small_file_becomes_a_huge_tree() -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    with pytest.raises(SettingsError, match="anchors and aliases"):
        parse_settings(laughs.encode(), "f")
    with pytest.raises(SettingsError, match="nested more than"):
        parse_settings(b"a: " + b"[" * 100_000, "f")
