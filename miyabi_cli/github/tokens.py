"""The token that a GitHub knows the user by; each is for one host, and sent to no other."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from miyabi_cli.errors import SettingsError
from miyabi_cli.github.places import Place, api_of, base_address, host_of

GH_SECONDS = 10.0  # it may ask a keyring that waits for a person


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and the name of where it comes from."""

    name: str
    value: str


async def find_token(place: Place, configured: str | None, environ: Mapping[str, str]) -> Token | None:
    """Return the token for a repository's API; None where there is none, which is enough to read what is public.

    `configured` is the settings' `github.token`, which GITHUB_TOKEN sets. It and GH_TOKEN are for github.com, and for
    the API that GITHUB_API_URL names; GH_ENTERPRISE_TOKEN and GITHUB_ENTERPRISE_TOKEN for other hosts, or for that
    one which GH_HOST names (gh help environment). Last of all `gh auth token` is asked.
    """
    named = base_address(environ, "GITHUB_API_URL")
    if place.api in (api_of("github.com"), named):
        found = [("GITHUB_TOKEN", configured or ""), ("GH_TOKEN", environ.get("GH_TOKEN", ""))]
    elif environ.get("GH_HOST", place.host).lower() == place.host:
        names = ("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN")
        found = [(name, environ.get(name, "")) for name in names]
    else:
        found = []
    for name, value in found:
        if value.strip():
            return _checked(name, value.strip())
    host = host_of(place.api) if place.api == named and named != api_of(place.host) else place.host
    value = await asyncio.to_thread(_ask_gh, host)
    return _checked("gh auth token", value) if value else None


def _checked(name: str, value: str) -> Token:
    """Return a token that a header can carry. Raises SettingsError, without the value."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        hint = "look for what was pasted with it: a line's end, a quotation mark, a letter of another alphabet"
        raise SettingsError(f"{name} has characters that no token has", hint=hint)
    return Token(name, value)


def _ask_gh(host: str) -> str:
    """Return the token that the GitHub CLI keeps for a host, "" for none."""
    program = shutil.which("gh")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "auth", "token", "--hostname", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GH_SECONDS,
            start_new_session=True,  # without a terminal it asks nobody
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode("utf-8", "replace").split()
    return lines[0] if done.returncode == 0 and lines else ""
