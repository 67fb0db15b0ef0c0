"""How each server says no: the status, the headers and the very shape of its words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.ollama import BUSY, TOO_LONG

RETRY_AFTER = 7


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def refusal(status: int, body: Any, **headers: str) -> Refusal:
    return Refusal(status, json.dumps(body).encode(), {name.replace("_", "-"): one for name, one in headers.items()})


# What stands in a server's place: a proxy's page, or anything else that has the address.
STRANGERS = {
    "web_page": Refusal(200, b"<!DOCTYPE html><html><title>Sign in</title></html>", content_type="text/html"),
    "junk": Refusal(200, b"It works!", content_type="text/plain"),
    "squeezed": Refusal(200, b"not squeezed at all", {"content-encoding": "gzip"}),
    "broken_squeezed": Refusal(500, b"not squeezed at all", {"content-encoding": "gzip"}),
    "elsewhere": Refusal(302, b"", {"location": "http://localhost/elsewhere"}),
    "empty": Refusal(200, b""),
    "deep": Refusal(400, b'{"error":' + b"[" * 100_000),
}


def openai_error(message: str, kind: str, code: Any = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


OPENAI = {
    "unauthorized": refusal(
        401, openai_error("Incorrect API key provided: sk-x.", "invalid_request_error", "invalid_api_key")
    ),
    "no_model": refusal(
        404, openai_error("The model `gone` does not exist", "invalid_request_error", "model_not_found")
    ),
    "too_long": refusal(
        400,
        openai_error(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 140321 tokens. "
            "Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
    ),
    "busy": refusal(
        429,
        openai_error("Rate limit reached for requests", "requests", "rate_limit_exceeded"),
        retry_after=str(RETRY_AFTER),
    ),
    "broken": refusal(500, openai_error("The server had an error while processing your request.", "server_error")),
    "overloaded": refusal(503, openai_error("The engine is currently overloaded.", "server_error")),
    **STRANGERS,
}
VLLM = {
    "unauthorized": refusal(401, {"error": "Unauthorized"}),
    "no_model": refusal(404, openai_error("The model `gone` does not exist.", "NotFoundError", 404, "model")),
    "too_long": refusal(
        400,
        openai_error(
            "This model's maximum context length is 131072 tokens. However, your prompt contains 140321 input tokens, "
            "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt.",
            "BadRequestError",
            400,
            "input_tokens",
        ),
    ),
    "busy": refusal(429, openai_error("Too many requests", "RateLimitError", 429), retry_after=str(RETRY_AFTER)),
    "broken": refusal(500, openai_error("EngineCore encountered an issue.", "InternalServerError", 500)),
    "overloaded": refusal(503, openai_error("The server is overloaded.", "ServiceUnavailableError", 503)),
    **STRANGERS,
}
OLLAMA = {
    "unauthorized": refusal(401, {"error": "unauthorized"}),
    "no_model": refusal(404, {"error": "model 'gone' not found"}),
    "too_long": refusal(400, {"error": TOO_LONG}),
    "busy": refusal(429, {"error": "you've reached your hourly usage limit"}, retry_after=str(RETRY_AFTER)),
    "broken": refusal(500, {"error": "llama runner process has terminated: exit status 2"}),
    "overloaded": refusal(503, {"error": BUSY}),
    **STRANGERS,
}
GROQ = {
    "unauthorized": refusal(
        401, {"error": {"message": "Invalid API Key", "type": "invalid_request_error", "code": "invalid_api_key"}}
    ),
    "no_model": refusal(
        404,
        {
            "error": {
                "message": "The model `gone` does not exist or you do not have access to it.",
                "type": "invalid_request_error",
                "code": "model_not_found",
            }
        },
    ),
    "too_long": refusal(
        400,
        {
            "error": {
                "message": "Please reduce the length of the messages or completion.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
    ),
    "busy": refusal(
        429,
        {
            "error": {
                "message": "Rate limit reached for model `openai/gpt-oss-20b` in organization `org_01` service tier "
                "`on_demand` on tokens per minute (TPM): Limit 8000, Used 7000, Requested 1443. Please try again in "
                "6.5s.",
                "type": "tokens",
                "code": "rate_limit_exceeded",
            }
        },
        retry_after=str(RETRY_AFTER),
    ),
    "broken": refusal(500, {"error": {"message": "Internal Server Error", "type": "internal_server_error"}}),
    "overloaded": refusal(503, {"error": {"message": "Service Unavailable", "type": "internal_server_error"}}),
    **STRANGERS,
}
