"""Addresses of servers: one form for each, whatever a user wrote."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import SettingsError
from miyabi_cli.http import open_client
from miyabi_cli.settings.endpoints import normalize_endpoint, normalize_ollama_host

NORMAL = {
    "http://localhost:8000": "http://localhost:8000",
    "http://localhost:8000/": "http://localhost:8000",
    "http://localhost:8000/v1": "http://localhost:8000",
    "http://localhost:8000//v1//": "http://localhost:8000",
    "http://localhost:8000/v1/chat/completions": "http://localhost:8000",
    "  HTTPS://API.Groq.com/openai/v1 ": "https://api.groq.com/openai",
    "https://example.org:443/v1": "https://example.org",
    "http://example.org:80": "http://example.org",
    "https://example.org:80": "https://example.org:80",
    "https://example.org/a//b/v1/v1": "https://example.org/a/b",
    "https://example.org/v10": "https://example.org/v10",
    "https://example.org/v1beta": "https://example.org/v1beta",
    "localhost": "http://localhost",
    "localhost:8000/v1": "http://localhost:8000",
    "vllm:8000": "http://vllm:8000",
    "gpu.local:8000": "http://gpu.local:8000",
    "127.0.0.1:8000": "http://127.0.0.1:8000",
    "192.168.1.5:8000": "http://192.168.1.5:8000",
    "0.0.0.0:8000": "http://127.0.0.1:8000",
    "http://[::]:8000/v1": "http://[::1]:8000",
    "http://[::1]:8000/v1": "http://[::1]:8000",
    "http://[0:0:0:0:0:0:0:1]": "http://[::1]",
    "::1": "http://[::1]",
    "[fd00::1]:8000": "http://[fd00::1]:8000",
}

REFUSED = {
    "": "nothing",
    "   ": "nothing",
    "example.org": "scheme",
    "8.8.8.8:8000": "scheme",
    "[2001:4860:4860::8888]:80": "scheme",
    "ftp://example.org": "http://",
    "file:///etc/passwd": "http://",
    "unix:///run/docker.sock": "http://",
    "http://": "host name",
    "http:///v1": "host name",
    "http://me:secret@example.org": "api_key",
    "http://example.org/?key=secret": "without ?",
    "http://example.org/v1?": "without ?",
    "http://example.org/#a": "without ?",
    "http://exa mple.org": "spaces",
    "http://example.org\\@evil.org": "backslashes",
    "http://example.org\n.evil": "control",
    "http://example.org:0": "port",
    "http://example.org:65536": "port",
    "http://example.org:x": "port",
    "http://example.org:": "port",
    "http://a..b": "host name",
    "http://-a": "host name",
    "http://[::1": "host name",
    "http://[fe80::1%eth0]": "host name",
    "http://bücher.example": "xn--",
}

OLLAMA = {
    "": "http://127.0.0.1:11434",
    "localhost": "http://localhost:11434",
    "0.0.0.0": "http://127.0.0.1:11434",  # noqa: S104 - what is tested
    "0.0.0.0:8080": "http://127.0.0.1:8080",
    ":8080": "http://127.0.0.1:8080",
    "example.com": "http://example.com:11434",
    "http://example.com": "http://example.com",
    "https://example.com": "https://example.com",
    "https://example.com:8443/ollama/": "https://example.com:8443/ollama",
    "example.com/ollama": "http://example.com:11434/ollama",
    "ollama.com": "https://ollama.com",
    "::1": "http://[::1]:11434",
    "[::1]": "http://[::1]:11434",
    "[::1]:8080": "http://[::1]:8080",
    "[::]:8080": "http://[::1]:8080",
    "http://": "http://127.0.0.1",
    ' "localhost" ': "http://localhost:11434",
}


@pytest.mark.parametrize(("written", "normal"), NORMAL.items())
def test_endpoints_have_one_form(written: str, normal: str) -> None:
    assert normalize_endpoint(written) == normal
    assert normalize_endpoint(normal) == normal


@pytest.mark.parametrize(("written", "reason"), REFUSED.items())
def test_wrong_endpoints_say_why_without_repeating_themselves(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        normalize_endpoint(written)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("written", "normal"), OLLAMA.items())
def test_ollama_host_means_what_ollama_reads(written: str, normal: str) -> None:
    assert normalize_ollama_host(written) == normal


@pytest.mark.parametrize("written", ["localhost:x", "ftp://localhost", "a b", "[::1", "localhost:99999"])
def test_wrong_ollama_host(written: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        normalize_ollama_host(written)


@given(st.text(max_size=60) | st.from_regex(r"\A(https?://)?[a-z.:\[\]0-9]{1,20}(/v1|/|//|a){0,5}\Z"))
def test_any_text_is_normal_after_one_pass_or_refused(text: str) -> None:
    for normalize in (normalize_endpoint, normalize_ollama_host):
        with contextlib.suppress(ValueError):
            normal = normalize(text)
            assert normalize_endpoint(normal) == normal


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HTTPS_PROXY", "foo:bar:secret", "a proxy of the environment is no address"),
        ("HTTPS_PROXY", "ftp://proxy:1", "a proxy of the environment is no address"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "No such file"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE can't be used"),
    ],
)
def test_an_environment_that_can_not_be_used_is_an_error_of_settings(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=words) as caught:
        open_client("https://models.example")
    assert caught.value.hint
    assert "secret" not in str(caught.value)
