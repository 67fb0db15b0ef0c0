"""Servers' addresses brought to one form: `scheme://host[:port][/path]`, no slash and no `/v1` at the end."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ROUTES = re.compile(r"(/+v1)+(/chat/completions|/completions|/models)?/*$")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?", re.IGNORECASE)
_UNWANTED = re.compile(r"[\s\\\x00-\x1f\x7f]")
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server listens on, read as loopback
_HOST_EXPECTED = "expected a host name (international ones in their xn-- form) or an IP address in the URL"
_OLLAMA_PORT = 11434


def normalize_endpoint(text: str) -> str:
    """Return the base of a server: lower-case scheme and host, no default port, no trailing `/` or `/v1`.

    Without a scheme, loopback, private and single-word hosts get `http`. Raises ValueError without the text in it.
    """
    text = text.strip()
    if not text:
        raise ValueError("expected a URL such as http://localhost:8000, found nothing")
    if _UNWANTED.search(text):
        raise ValueError("expected a URL without spaces, backslashes and control characters")
    if "://" not in text:
        text = _with_scheme(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(_HOST_EXPECTED) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("expected a URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("expected a URL without user and password: the key belongs in api_key")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("expected a URL without ? and #")
    path = re.sub("/+", "/", _ROUTES.sub("", parts.path)).rstrip("/")
    return f"{parts.scheme}://{_authority(parts.scheme, parts.netloc)}{path}"


def normalize_ollama_host(text: str) -> str:
    """Return the endpoint that `OLLAMA_HOST` means, by Ollama's own rules (its `envconfig.Host`).

    A bare host gets port 11434, `http://` 80 and `https://` 443; every interface means loopback. Raises ValueError.
    """
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.rpartition("://")
    if separator:
        return normalize_endpoint(text if rest.split("/", 1)[0] else f"{scheme}://127.0.0.1")
    authority, slash, path = rest.partition("/")
    if _is_bare_ipv6(authority):
        authority = f"[{authority}]"
    host, colon, port = ("", "", "") if not authority else _split_port(authority)
    if host.lower() == "ollama.com" and not colon:
        return "https://ollama.com"
    return normalize_endpoint(f"http://{host or '127.0.0.1'}:{port if colon else _OLLAMA_PORT}{slash}{path}")


def _with_scheme(text: str) -> str:
    authority, slash, path = text.partition("/")
    if _is_bare_ipv6(authority):
        authority = f"[{authority}]"
    host = _split_port(authority)[0]
    address = _address(host.strip("[]"))
    near = "." not in host.rstrip(".") if address is None else not address.is_global
    if not near and not host.endswith((".local", ".localhost", ".internal")):
        raise ValueError("expected a URL with its scheme, https:// or http://")
    return f"http://{authority}{slash}{path}"


def _authority(scheme: str, netloc: str) -> str:
    host, colon, port = _split_port(netloc.lower())
    address = _address(host[1:-1]) if host.startswith("[") else _address(host)
    if address is not None:
        host = _EVERY_INTERFACE.get(str(address), str(address))
        host = f"[{host}]" if ":" in host else host
    elif not _HOST.fullmatch(host) or ".." in host:
        raise ValueError(_HOST_EXPECTED)
    if not colon:
        return host
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("expected a port from 1 to 65535 in the URL")
    return host if int(port) == _DEFAULT_PORTS[scheme] else f"{host}:{int(port)}"


def _split_port(authority: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:?)(.*)", authority)
    return (match[1], match[2], match[3]) if match else (authority, "", "")


def _is_bare_ipv6(authority: str) -> bool:
    return authority.count(":") > 1 and _address(authority) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if "%" in host else address
