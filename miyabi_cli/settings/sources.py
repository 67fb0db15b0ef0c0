"""Where settings come from: flags > environment > the repository's file > the user's file > defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from miyabi_cli.errors import SettingsError
from miyabi_cli.places import config_dir
from miyabi_cli.settings.checking import check_but, settings_of
from miyabi_cli.settings.files import has_variable, parse_settings, read_settings_file, shown_path, substitute
from miyabi_cli.settings.schema import Settings, known_keys
from miyabi_cli.settings.tree import Place, SettingsTree, leaves, merge
from miyabi_cli.settings.trust import Ask, RepositoryFile, find_repository_file, harmful_settings, require_trust
from miyabi_cli.settings.variables import environment_trees

USER_FILE = "config.yml"

# The keys that the first plan's file had, which may stand at the top of a file: they mean those of `llm`.
OLDER_KEYS = (
    "provider",
    "vllm",
    "ollama",
    "groq",
    "default_temperature",
    "default_max_tokens",
    "default_reasoning_effort",
)

# How errors name what the command line set; the last part of a key stands for it below any section.
_FLAGS: Mapping[str, str] = {
    "llm.provider": "--provider",
    "endpoint": "--endpoint",
    "model": "--model",
    "llm.default_reasoning_effort": "--effort",
    "llm.timeout": "--timeout",
    "budget.per_run_usd": "--max-cost",
    "limits.steps": "--max-steps",
    "limits.seconds": "--max-time",
    "checks": "--check",
    "sandbox.mode": "--sandbox",
    "worktree.keep": "--keep-worktree",
    "review.fail_under": "--fail-under",
    "triage.labels": "--labels",
}


def load_settings(
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    repository: Path | None,
    config: Path | None = None,
    ask: Ask | None = None,
) -> Settings:
    """Return the settings that hold.

    `flags`: nested maps of the settings' own keys; None means that the flag was not given. `repository`: the root whose
    `.miyabi.yml` is read, unless `config` names a file in its stead, which needs no trust. `ask`: asks on a terminal.
    Raises SettingsError for a wrong file, variable or flag, and for a file that is not trusted.
    """
    user = _user_tree(environ)
    strongest = [*environment_trees(environ), _flags_tree(flags)]
    for tree in strongest:
        settings_of(tree)
    if config is not None:
        file = _named_tree(config, environ)
    else:
        found = find_repository_file(repository) if repository is not None else None
        file = _repository_tree(found, user, environ, ask) if found else SettingsTree("no file", {})
    return settings_of(SettingsTree("settings", merge([user, file, *strongest]), is_file=True))


def parse_repository_file(found: RepositoryFile) -> SettingsTree:
    """Return what a repository's file sets, as it is written: checked, but nothing taken from the environment.

    Raises SettingsError for unknown keys and wrong values.
    """
    tree = _older_keys_moved(parse_settings(found.data, shown_path(found.path)))
    check_but(tree, [place for place, value in leaves(tree.values) if has_variable(value)])
    return tree


def repository_harms(found: RepositoryFile, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (key, value as text) of what a repository's file sets that needs trust. Raises SettingsError."""
    return _harms(parse_repository_file(found), _user_tree(environ))


def _harms(tree: SettingsTree, user: SettingsTree) -> tuple[tuple[str, str], ...]:
    return harmful_settings(tree.values, settings_of(user))


def _repository_tree(
    found: RepositoryFile, user: SettingsTree, environ: Mapping[str, str], ask: Ask | None
) -> SettingsTree:
    tree = parse_repository_file(found)
    require_trust(found, _harms(tree, user), environ, ask)
    tree = substitute(tree, environ)
    settings_of(tree)
    return tree


def _user_tree(environ: Mapping[str, str]) -> SettingsTree:
    path = config_dir() / USER_FILE
    return _named_tree(path, environ) if os.path.lexists(path) else SettingsTree(str(path), {})


def _named_tree(path: Path, environ: Mapping[str, str]) -> SettingsTree:
    tree = substitute(_older_keys_moved(parse_settings(read_settings_file(path), shown_path(path))), environ)
    settings_of(tree)
    return tree


def _older_keys_moved(tree: SettingsTree) -> SettingsTree:
    older = [name for name in tree.values if name in OLDER_KEYS]
    below = tree.values.get("llm")
    if not older or not isinstance(below, dict | None):
        return tree
    for name in older:
        if name in (below or {}):
            raise SettingsError(f"{tree.origin((name,))}: {name!r} stands here and in llm", hint="keep the one in llm")
    values = {name: value for name, value in tree.values.items() if name not in older}
    values["llm"] = {**(below or {}), **{name: tree.values[name] for name in older}}
    places: dict[Place, str] = {
        (("llm", *place) if place[0] in older else place): origin for place, origin in tree.places.items()
    }
    return replace(tree, values=values, places=places)


def _flags_tree(flags: Mapping[str, Any]) -> SettingsTree:
    values = _given(flags)
    places: dict[Place, str] = {}
    for path, _ in known_keys():
        if flag := _FLAGS.get(".".join(path)) or _FLAGS.get(path[-1]):
            places[path] = flag
    return SettingsTree("command line", values, places)


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags without those that were not given."""
    nested = {key: _given(value) if isinstance(value, Mapping) else value for key, value in flags.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}
