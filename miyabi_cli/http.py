"""HTTP as every client of miyabi's uses it: proxies, certificate authorities, time-outs, a server's waits and words."""

from __future__ import annotations

import email.utils
import ipaddress
import os
import re
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from miyabi_cli import __version__
from miyabi_cli.errors import SettingsError

CONNECT_SECONDS = 10.0
LONGEST_RETRY_AFTER = 1e9  # seconds: a Retry-After past that, or that is no number, says nothing
MAX_WORDS = 20_000

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def open_client(endpoint: str, *, key: str | None = None, idle: float | None = None) -> httpx.AsyncClient:
    """Return a client for one server.

    `idle`: seconds that may pass without a byte (None: no limit). A loopback server is asked directly, past any
    HTTP_PROXY. TLS trusts the system's certificate authorities; a plain-http endpoint loads none, which saves
    20 ms, and redirects are not followed, so that nothing is sent elsewhere. Raises SettingsError for a key that no
    header can carry (it is not shown), and for proxies and authorities of the environment that can't be used.
    """
    headers = {"user-agent": f"miyabi/{__version__}"}
    if key := (key or "").strip():  # a key that was read from a file ends in a line's end
        if not (key.isascii() and key.isprintable()):
            hint = "look for what was pasted with it: a line's end, a quotation mark, a letter of another alphabet"
            raise SettingsError("the API key has characters that no key has", hint=hint)
        headers["authorization"] = f"Bearer {key}"
    local = is_loopback(endpoint)
    verify = trusted_authorities() if endpoint.startswith("https:") else False
    try:
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(idle, connect=CONNECT_SECONDS),
            verify=verify,
            trust_env=not local,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )
    except (httpx.InvalidURL, ValueError):  # httpx reads the environment's proxies here; one may hold a password
        hint = "expected http://host:port in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        raise SettingsError("a proxy of the environment is no address", hint=hint) from None
    except ImportError:
        hint = "pip install 'httpx[socks]', or name an HTTP proxy; NO_PROXY names hosts that are asked directly"
        raise SettingsError(
            "the environment names a SOCKS proxy, and the package socksio is missing", hint=hint
        ) from None


def is_loopback(endpoint: str) -> bool:
    """Say whether a URL's host is this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date (RFC 9110, 10.2.3). None where there is none."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if seconds <= LONGEST_RETRY_AFTER else None
    try:
        then = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # OverflowError: a year of twenty digits
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def one_line(text: str) -> str:
    """Return a server's words as one line of 300 characters, without what would steer a terminal."""
    text = _ESCAPES.sub("", text[:MAX_WORDS])
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= 300 else line[:297] + "..."


def trusted_authorities() -> ssl.SSLContext:
    """Return a context that trusts this system's authorities, or those of SSL_CERT_FILE. Raises SettingsError."""
    named = os.environ.get("SSL_CERT_FILE") or None
    try:
        context = ssl.create_default_context(cafile=named)
    except OSError as error:  # an SSLError is one too
        raise SettingsError(
            f"SSL_CERT_FILE can't be used: {error.strerror or error}",
            hint="expected a file of certificates in PEM form",
        ) from None
    if not context.cert_store_stats()["x509_ca"]:  # a Python that was not built for this system's folders
        import certifi

        context.load_verify_locations(certifi.where())
    return context
