"""The variables that a command sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from miyabi_cli.workspace.environment import sandbox_environment, unconfined_environment
from miyabi_cli.workspace.mounts import Toolchains

CALLER = {
    "PATH": "/usr/bin",
    "HOME": "/home/u",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C",
    "TZ": "Europe/Berlin",
    "USER": "u",
    "TERM": "xterm",
    "EDITOR": "vi",
    "GIT_DIR": "/r/.git",
    "GIT_INDEX_FILE": "index.lock",
    "GIT_AUTHOR_DATE": "now",
}
SECRETS = (
    *("GROQ_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "NPM_TOKEN", "MY_PAT"),
    *(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SSH_AUTH_SOCK",
        "CI_JOB_TOKEN",
        "DB_PASSWD",
        "npm_config__auth",
        "SIGNING_KEYS",
    ),
)


def test_a_sandbox_gets_only_known_harmless_variables() -> None:
    toolchains = Toolchains(search_path="/usr/bin:/opt/x/bin", variables={"PYENV_ROOT": "/home/u/.pyenv"})
    environment = sandbox_environment(CALLER | dict.fromkeys(SECRETS, "x"), toolchains, Path("/private"))
    assert environment == {
        "PATH": "/usr/bin:/opt/x/bin",
        "HOME": "/private",
        "TMPDIR": "/tmp",
        "XDG_CACHE_HOME": "/private/.cache",
        "XDG_CONFIG_HOME": "/private/.config",
        "XDG_DATA_HOME": "/private/.local/share",
        "XDG_STATE_HOME": "/private/.local/state",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "C",
        "TZ": "Europe/Berlin",
        "USER": "u",
        "TERM": "dumb",
        "PAGER": "cat",
        "PYENV_ROOT": "/home/u/.pyenv",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


@pytest.mark.parametrize("name", SECRETS)
def test_without_a_sandbox_what_looks_like_a_secret_is_left_out(name: str) -> None:
    assert name not in unconfined_environment({name: "x"})


def test_without_a_sandbox_the_rest_is_the_callers() -> None:
    environment = unconfined_environment(CALLER | {"DATABASE_URL": "postgres://u:pw@host/db", "KEYBOARD": "us"})
    assert environment == {
        **{name: value for name, value in CALLER.items() if not name.startswith("GIT_")},
        "KEYBOARD": "us",
        "TERM": "dumb",
        "PAGER": "cat",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
