"""A server's refusal, read into one of the project's errors."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

from miyabi_cli.errors import (
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    RequestTooLarge,
)
from miyabi_cli.http import MAX_WORDS, one_line, retry_after
from miyabi_cli.llm.retry import RETRIED_STATUS

# How servers say that a prompt does not fit: OpenAI, vLLM, SGLang, llama.cpp, Ollama, TGI, Mistral, Gemini, Anthropic.
TOO_LARGE = re.compile(
    r"maximum (?:context|model) length|greater than max_model_len|too many (?:input )?tokens"
    r"|context_length_exceeded|exceed_context_size"
    r"|context[_ ](?:size|length|window|limit)|prompt is (?:longer|too long)|prompt too long|too large"
    r"|max_new_tokens.{1,4}must be <=|input tokens exceed"
    r"|token count.{0,40}exceed|reduce the length|longer than the (?:maximum )?model",
    re.IGNORECASE,
)
KEY_VARIABLES = {"groq": "GROQ_API_KEY", "openai": "OPENAI_API_KEY"}
UNCONNECTED = "is the server running, and is --endpoint right?"
TOO_LARGE_STATUS = frozenset({400, 413, 422})


def refusal(response: httpx.Response, body: bytes, *, provider: str, has_key: bool = True) -> ProviderError:
    """Return the error for a reply whose status is not 200; its message carries the server's own words.

    `has_key`: one was sent.
    """
    said = server_message(body)
    status = response.status_code
    message = f"{provider} answered {status}" + (f": {said}" if said else "")
    detail = error_object(body)
    wait = retry_after(response.headers.get("retry-after"))
    kind = f"{detail.get('code')} {detail.get('type')}"
    if status == 413 or (status in TOO_LARGE_STATUS and TOO_LARGE.search(f"{said} {kind}")):
        return RequestTooLarge(
            message, hint="use a model with a larger window, or a smaller task", status=status, detail=detail
        )
    if status in RETRIED_STATUS:
        patience = f"the server asks to wait {wait:.0f} s" if wait else "the server is busy or broken; try again later"
        return ProviderOverloaded(message, hint=patience, status=status, retry_after=wait, detail=detail)
    refused = ProviderRefused(message, hint=_hint(status, provider), status=status, detail=detail)
    refused.needs_key = status == 401 and not has_key
    return refused


def _hint(status: int, provider: str) -> str | None:
    if status in (401, 403):
        variable = KEY_VARIABLES.get(provider, f"MIYABI_LLM__{provider.upper()}__API_KEY")
        return f"set the key: {variable}, or llm.{provider}.api_key in the settings"
    if status == 404:
        return f"check --endpoint and --model, or llm.{provider} in the settings"
    if 300 <= status < 400:
        return "the server redirects; give its final address as the endpoint"
    return None


def server_message(body: bytes) -> str:
    """Return a server's words on one line of 300 characters: `{"error": {"message"}}`, a string, or the text."""
    text = body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return one_line(re.sub(r"<[^<>]{0,500}>", " ", text[:MAX_WORDS]))
    error = _error_of(data)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return one_line(error if isinstance(error, str) else json.dumps(error))


def error_object(body: bytes) -> dict[str, Any]:
    """Return the object that a server's error carries, `{"error": {…}}` or bare; {} where it is none.

    An error that is a string, as Ollama's are, is its `message`, whole.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = _error_of(data)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _error_of(data: Any) -> Any:
    """Return what `error` holds, or the whole; some gateways put either into a list."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    return data.get("error") or data if isinstance(data, dict) else data


def connection_error(error: httpx.TransportError, *, endpoint: str, provider: str) -> ProviderError:
    """Return the error for a request that got no reply, or half of one."""
    if isinstance(error, httpx.ReadTimeout):
        hint = "raise llm.timeout, or look at the server's load"
        return ProviderUnreachable(f"{provider} at {endpoint} sent nothing for too long", hint=hint)
    unconnected = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
    what = "can't be reached" if unconnected else "broke the connection"
    detail = one_line(str(error)) or type(error).__name__
    return ProviderUnreachable(f"{provider} at {endpoint} {what}: {detail}", hint=_connection_hint(detail))


def _connection_hint(detail: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return "where the certificate is your own, let SSL_CERT_FILE name a file with it, or with its authority"
    if "WRONG_VERSION_NUMBER" in detail:
        return "the server does not speak TLS there: is it http:// instead of https://?"
    return UNCONNECTED
