"""The Python package index that the user's environment names, and the wheels that it lists.

Formats: the simple API as JSON (PEP 691) and as HTML (PEP 503).
"""

from __future__ import annotations

import configparser
import os
import re
import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

PUBLIC_INDEX = "https://pypi.org/simple"
INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
AUTHORITY_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in an index; `sha256` is None where the index does not tell it."""

    file: str
    url: str
    sha256: str | None


def index_url(environ: Mapping[str, str], *, prefix: Path = Path(sys.prefix)) -> str:
    """Return the index that uv's or pip's variables or pip's configuration name, else the public one."""
    for variable in INDEX_VARIABLES:
        if value := environ.get(variable, "").strip():
            return _without_name(value)
    return _pip_option(environ, prefix, "index-url") or PUBLIC_INDEX


def authorities(environ: Mapping[str, str], *, prefix: Path = Path(sys.prefix)) -> ssl.SSLContext:
    """Return the certificate authorities of the system, and of every file that the usual variables or pip name."""
    context = ssl.create_default_context()
    named = [environ.get(variable) for variable in AUTHORITY_VARIABLES]
    for name in (*named, _pip_option(environ, prefix, "cert")):
        if not name:
            continue
        path = Path(name).expanduser()
        if path.exists():
            context.load_verify_locations(**{"capath" if path.is_dir() else "cafile": str(path)})
    if not context.cert_store_stats()["x509_ca"] and not environ.get("SSL_CERT_DIR"):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def project_url(index: str, package: str) -> str:
    """Return the page of a package in an index."""
    return f"{index.rstrip('/')}/{normalized(package)}/"


def find_wheel(page: str, content_type: str, page_url: str, package: str, version: str) -> Wheel | None:
    """Return a package's wheel of one version from its page in an index, or None if it lists none.

    A link to the index's own host carries the index's credentials along. Raises ValueError for a broken page.
    """
    links = _json_links(page) if "json" in content_type else _html_links(page)
    for file, link, sha256 in links:
        parts = file.removesuffix(".whl").split("-")
        if not file.endswith(".whl") or len(parts) < 5 or parts[1] != version:
            continue
        if normalized(parts[0]) == normalized(package):
            return Wheel(file, _with_credentials(urljoin(page_url, link), page_url), sha256)
    return None


def normalized(package: str) -> str:
    """Return a package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def without_credentials(url: str) -> str:
    """Return a URL as it may be shown: no user, no password, no query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _with_credentials(url: str, page_url: str) -> str:
    parts, page = urlsplit(url), urlsplit(page_url)
    credentials, at, _ = page.netloc.rpartition("@")
    same = (parts.scheme, parts.hostname, parts.port) == (page.scheme, page.hostname, page.port)
    if same and at and "@" not in parts.netloc:
        return urlunsplit(parts._replace(netloc=f"{credentials}@{parts.netloc}"))
    return url


def _without_name(value: str) -> str:
    """Return the URL of uv's form `name=URL`."""
    name, equals, url = value.partition("=")
    return url if equals and re.fullmatch(r"[\w.-]+", name) else value


def _pip_option(environ: Mapping[str, str], prefix: Path, option: str) -> str | None:
    """Return an option of pip's [global] section; of its files the last one that has it counts, as for pip."""
    found = None
    for path in _pip_files(environ, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
            found = parser.get("global", option, fallback=found)
        except (configparser.Error, UnicodeDecodeError):
            continue
    return found.strip() if found else None


def _pip_files(environ: Mapping[str, str], prefix: Path) -> Iterable[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return ()
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf", prefix / "pip.conf"]
    return [*files, Path(chosen)] if chosen else files


def _json_links(page: str) -> Iterable[tuple[str, str, str | None]]:
    import json

    try:
        files: list[dict[str, Any]] = json.loads(page)["files"]
        return [
            (file["filename"], file["url"], file.get("hashes", {}).get("sha256"))
            for file in files
            if not file.get("yanked")
        ]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError("not a page of a package index") from error


def _html_links(page: str) -> Iterable[tuple[str, str, str | None]]:
    parser = _Anchors()
    parser.feed(page)
    for address in parser.addresses:
        link, fragment = urldefrag(address)
        algorithm, _, digest = fragment.partition("=")
        yield unquote(urlsplit(link).path.rpartition("/")[2]), link, digest if algorithm == "sha256" else None


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "a" and "data-yanked" not in attributes and attributes.get("href"):
            self.addresses.append(attributes["href"] or "")
