"""Which repository of which GitHub is meant: from remotes' addresses, and from what Actions sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from miyabi_cli.errors import GitHubError, SettingsError
from miyabi_cli.settings.endpoints import normalize_endpoint

GITHUB = "github.com"
# Other names of the same host: ssh over the port of https, and the address of a browser.
_ALIASES = {"ssh.github.com": GITHUB, "www.github.com": GITHUB}
_SCHEMES = ("https", "http", "ssh", "git", "git+ssh", "ssh+git")
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]"
_OWNER = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_NAME = r"(?!\.{1,2}(?:\.git)?/?$)[A-Za-z0-9._-]{1,100}?"
_PATH = re.compile(rf"/*({_OWNER})/({_NAME})(?:\.git)?/?")
_SCP = re.compile(rf"(?:[^@/:\s]{{1,100}}@)?({_HOST}):(?!//)(.{{1,300}})")
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """One repository on one GitHub: `api` and `server` are bases without a slash at the end.

    `takes_token`: the token of the API may be shown to `server` too, for a push, since both are the same GitHub.
    """

    host: str
    owner: str
    name: str
    api: str
    server: str
    takes_token: bool = False

    @property
    def full_name(self) -> str:
        """Return `owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def git_url(self) -> str:
        """Return the address that git pushes to by HTTP."""
        return f"{self.server}/{self.full_name}.git"

    def is_at(self, host: str, owner: str, name: str) -> bool:
        """Say whether another spelling means the same repository: GitHub's names ignore case."""
        return (self.host, self.full_name.lower()) == (_ALIASES.get(host, host), f"{owner}/{name}".lower())


@dataclass(frozen=True, slots=True)
class Address:
    """What a remote's address says; `port` is None but for HTTP: that of ssh says nothing of the API."""

    scheme: str
    host: str
    owner: str
    name: str
    port: int | None = None


def locate(addresses: Iterable[str], environ: Mapping[str, str]) -> Place:
    """Return the repository that is meant.

    GITHUB_REPOSITORY names it (in Actions: the one that the workflow runs for, whatever is checked out), else the
    first of the `addresses` of remotes that can be one of GitHub's. Raises GitHubError where there is none,
    SettingsError for variables that can't be used.
    """
    if named := environ.get("GITHUB_REPOSITORY", "").strip():
        found = _PATH.fullmatch(named)
        if not found:
            raise SettingsError("GITHUB_REPOSITORY is not of the form owner/name")
        return _place(_split_server(_server(environ), found[1], found[2]), environ)
    for address in addresses:
        if parsed := read_address(address):
            return _place(parsed, environ)
    hint = "git remote add origin https://github.com/OWNER/NAME.git, or set GITHUB_REPOSITORY=OWNER/NAME"
    raise GitHubError("no remote of this repository is one of GitHub", hint=hint)


def read_address(text: str) -> Address | None:
    """Return what a remote's address says; None where it can't be one of GitHub's: a path, a `file:` or too deep.

    Forms: `https://host/owner/name.git`, `ssh://git@host:22/owner/name`, `git@host:owner/name.git` (git help clone).
    """
    if len(text) > _LONGEST or re.search(r"[\x00-\x20\x7f]", text):
        return None
    if "://" not in text:
        found = _SCP.fullmatch(text)
        path = _PATH.fullmatch(found[2]) if found else None
        return Address("ssh", _canonical(found[1]), path[1], path[2]) if found and path else None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    path = _PATH.fullmatch(parts.path)
    shown = f"[{host}]" if ":" in host else host
    if parts.scheme not in _SCHEMES or not re.fullmatch(_HOST, shown) or not path or parts.query or parts.fragment:
        return None
    by_http = parts.scheme in ("https", "http")
    return Address(parts.scheme, _canonical(shown), path[1], path[2], port if by_http else None)


def _canonical(host: str) -> str:
    host = host.lower()
    return _ALIASES.get(host, host)


def _server(environ: Mapping[str, str]) -> str:
    return base_address(environ, "GITHUB_SERVER_URL") or f"https://{GITHUB}"


def base_address(environ: Mapping[str, str], variable: str) -> str:
    """Return the address in a variable, "" for none. Raises SettingsError where it is none that can be used."""
    text = environ.get(variable, "").strip()
    try:
        return normalize_endpoint(text) if text else ""
    except ValueError as error:
        raise SettingsError(f"{variable} is not usable: {error}") from None


def _split_server(server: str, owner: str, name: str) -> Address:
    parts = urlsplit(server)
    return Address(parts.scheme, _canonical(parts.hostname or ""), owner, name, parts.port)


def _place(address: Address, environ: Mapping[str, str]) -> Place:
    """Return where an address leads: by the variables of Actions where they speak of its host, else by its name."""
    given_api, given_server = base_address(environ, "GITHUB_API_URL"), base_address(environ, "GITHUB_SERVER_URL")
    named = host_of(given_server) if given_server else GITHUB
    authority = address.host if address.port is None else f"{address.host}:{address.port}"
    known = address.host == named
    # Without a server's name, whoever set the API's address means it for whatever remote there is.
    api = given_api if given_api and (known or not given_server) else api_of(authority)
    if known and given_server:
        server = given_server
    elif address.scheme == "http" and api.startswith("http:"):
        server = f"http://{authority}"
    else:
        server = f"https://{authority}"
    same = not given_api or api != given_api or host_of(api) == address.host
    takes_token = same or address.host == GITHUB or (known and bool(given_server))
    return Place(address.host, address.owner, address.name, api, server, takes_token)


def api_of(authority: str) -> str:
    """Return the API of a GitHub by its host: the public one, one with data residency, else Enterprise Server's."""
    if authority == GITHUB:
        return "https://api.github.com"
    return f"https://api.{authority}" if authority.endswith(".ghe.com") else f"https://{authority}/api/v3"


def host_of(url: str) -> str:
    """Return an address's host as `Place.host` spells it."""
    return _canonical(urlsplit(url).hostname or "")
