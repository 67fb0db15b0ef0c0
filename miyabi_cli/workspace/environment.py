"""The environment of a command: built from nothing for the sandbox, and the caller's without secrets when it is off."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from miyabi_cli.redaction import SECRET_NAME, secrets_in_url
from miyabi_cli.workspace.mounts import Toolchains

_KEPT = ("LANG", "LANGUAGE", "TZ", "USER", "LOGNAME")
_KEPT_CHOICES = ("PYENV_VERSION", "RUSTUP_TOOLCHAIN", "GOTOOLCHAIN", "ASDF_DEFAULT_TOOL_VERSIONS_FILENAME")
_NO_GIT_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
_ALWAYS = {"TERM": "dumb", "PAGER": "cat", "PYTHONDONTWRITEBYTECODE": "1"}

# What leads to an agent or a bus that acts for the user, and is no secret itself.
_LEADS_TO_AGENTS = frozenset(("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS"))


def sandbox_environment(environ: Mapping[str, str], toolchains: Toolchains, home: Path) -> dict[str, str]:
    """Return variables for a sandbox with that private home: no variable of the caller's but harmless known ones."""
    kept = {name: environ[name] for name in (*_KEPT, *_KEPT_CHOICES) if name in environ}
    kept |= {name: value for name, value in environ.items() if name.startswith("LC_")}
    folders = {
        "HOME": home,
        "TMPDIR": "/tmp",  # noqa: S108 (private to the sandbox)
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local/share",
        "XDG_STATE_HOME": home / ".local/state",
    }
    named = {name: str(path) for name, path in folders.items()}
    return kept | dict(toolchains.variables) | named | {"PATH": toolchains.search_path} | _NO_GIT_CONFIG | _ALWAYS


def unconfined_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's variables without git's own (a hook's GIT_DIR, say) and without what looks like a secret."""
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") and not _tells(name, value)}
    return kept | {"GIT_TERMINAL_PROMPT": "0"} | _ALWAYS


def _tells(name: str, value: str) -> bool:
    name = name.upper()
    return name in _LEADS_TO_AGENTS or bool(SECRET_NAME.search(name)) or bool(secrets_in_url(value))
