"""Settings in environment variables: `MIYABI_*` for every key, and the names that servers' users already have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.endpoints import normalize_ollama_host
from miyabi_cli.settings.schema import KeyPath, Settings
from miyabi_cli.settings.tree import VARIABLE_PREFIX, SettingsTree, nearest

NOT_SETTINGS = frozenset({"MIYABI_DATA_DIR", "MIYABI_CACHE_DIR", "MIYABI_CONFIG_DIR", "MIYABI_TRUST_CONFIG"})
NOT_SETTINGS_PREFIX = "MIYABI_TEST_"

SERVER_VARIABLES: Mapping[str, KeyPath] = {
    "GROQ_API_KEY": ("llm", "groq", "api_key"),
    "VLLM_ENDPOINT": ("llm", "vllm", "endpoint"),
    "OLLAMA_HOST": ("llm", "ollama", "endpoint"),
    "OPENAI_API_KEY": ("llm", "openai", "api_key"),
    "OPENAI_BASE_URL": ("llm", "openai", "endpoint"),
    "GITHUB_TOKEN": ("github", "token"),
}


def environment_trees(environ: Mapping[str, str]) -> tuple[SettingsTree, ...]:
    """Return one tree for each variable that sets something, the strongest last; an empty variable sets nothing.

    The servers' own names come first, then whole sections as JSON (`MIYABI_LLM`), then single keys. Raises
    SettingsError, which names the variable, for what is not JSON where a list or a map is wanted.
    """
    given = {name: text.strip() for name, text in environ.items() if text.strip()}
    trees = [_server_tree(name, path, given[name]) for name, path in SERVER_VARIABLES.items() if name in given]
    own = sorted(filter(_is_setting, given), key=lambda name: (name.count("__"), name))
    if not own:
        return tuple(trees)
    parse = _parser()
    for name in own:
        path = tuple(name.removeprefix(VARIABLE_PREFIX).lower().split("__"))
        trees.append(SettingsTree(name, parse(name, path, given[name]), {path: name}))
    return tuple(trees)


def _server_tree(name: str, path: KeyPath, text: str) -> SettingsTree:
    if name == "OLLAMA_HOST":
        try:
            text = normalize_ollama_host(text)
        except ValueError as error:
            raise SettingsError(f"{name} is not usable: {error}") from None
    return SettingsTree(name, _nested(path, text), {path: name})


def _is_setting(name: str) -> bool:
    """Say whether a variable is meant as a setting; one without `__` that is like no key may be another program's."""
    if not name.startswith(VARIABLE_PREFIX) or name in NOT_SETTINGS or name.startswith(NOT_SETTINGS_PREFIX):
        return False
    rest = name.removeprefix(VARIABLE_PREFIX).lower()
    return "__" in rest or nearest(rest, ()) is not None


def _parser() -> Callable[[str, KeyPath, str], dict[str, Any]]:
    """Return the reader of one variable; pydantic-settings is imported only where such a variable is set."""
    import pydantic_settings

    # It reads fields and configuration alone, which every pydantic model has.
    source = pydantic_settings.EnvSettingsSource(
        cast(Any, Settings), case_sensitive=False, env_prefix=VARIABLE_PREFIX, env_nested_delimiter="__"
    )

    def parse(name: str, path: KeyPath, text: str) -> dict[str, Any]:
        if text == "null":
            return _nested(path, None)
        if path[0] not in Settings.model_fields:
            return _nested(path, text)
        source.env_vars = {name.lower(): text}
        try:
            return source()
        except (ValueError, RecursionError):
            raise SettingsError(
                f"{name} is not JSON", hint='lists and maps are written as JSON in variables: \'["a", "b"]\''
            ) from None

    return parse


def _nested(path: KeyPath, value: object) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return cast(dict[str, Any], value)
