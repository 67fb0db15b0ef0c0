"""One HTTP client as every wire uses it: proxies, certificate authorities, time-outs."""

from __future__ import annotations

import ipaddress
import os
import ssl
from urllib.parse import urlsplit

import httpx

from miyabi_cli import __version__
from miyabi_cli.errors import SettingsError

CONNECT_SECONDS = 10.0


def open_client(endpoint: str, *, key: str | None = None, idle: float | None = None) -> httpx.AsyncClient:
    """Return a client for one server.

    `idle`: seconds that may pass without a byte (None: no limit). A loopback server is asked directly, past any
    HTTP_PROXY. TLS trusts the system's certificate authorities; a plain-http endpoint loads none, which saves
    20 ms, and redirects are not followed, so that nothing is sent elsewhere. Raises SettingsError for a key that no
    header can carry; such a key is not shown.
    """
    headers = {"user-agent": f"miyabi/{__version__}"}
    if key := (key or "").strip():  # a key that was read from a file ends in a line's end
        if not (key.isascii() and key.isprintable()):
            hint = "look for what was pasted with it: a line's end, a quotation mark, a letter of another alphabet"
            raise SettingsError("the API key has characters that no key has", hint=hint)
        headers["authorization"] = f"Bearer {key}"
    local = is_loopback(endpoint)
    return httpx.AsyncClient(
        headers=headers,
        timeout=httpx.Timeout(idle, connect=CONNECT_SECONDS),
        verify=_trust() if endpoint.startswith("https:") else False,
        trust_env=not local,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
    )


def is_loopback(endpoint: str) -> bool:
    """Say whether a URL's host is this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or None)
    if not context.cert_store_stats()["x509_ca"]:  # a Python that was not built for this system's folders
        import certifi

        context.load_verify_locations(certifi.where())
    return context
