"""A model's window, as its server tells it: in the list of its models, and in the words of a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from miyabi_cli.errors import ProviderError

SMALLEST, LARGEST = 256, 100_000_000  # tokens: what is outside of it is not a window
MAX_TEXT = 4000
MAX_MODELS = 2000
WINDOW_KEYS = (
    "max_model_len",
    "loaded_context_length",
    "n_ctx",
    "context_window",
    "context_length",
    "max_context_length",
)

_NUMBER = r"(\d[\d,]{2,11})"
_AFTER = re.compile(
    r"(?:context[_ ](?:length|window|size|limit)|(?:model|sequence|total) length|configured limit|tokens allowed"
    rf"|max_model_len|allowed input length|max_new_tokens[`'\"]? must be)(?! by)[^\d.;]{{0,30}}?{_NUMBER}",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"{_NUMBER}(?: tokens?)? (?:maximum|max_?total)|(?:limit|maximum) (?:of|is) {_NUMBER} tokens", re.IGNORECASE
)
_PROMPT = re.compile(r"(\d[\d,]{0,11}) (?:in the (?:messages|prompt)|input tokens)", re.IGNORECASE)
_ANY_PROMPT = re.compile(rf"(?:prompt|request|messages|input)\b(?! length)[^\d.;]{{0,30}}?{_NUMBER}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Overflow:
    """What a refusal says of itself, in tokens; None where it does not say."""

    window: int | None
    prompt: int | None


def overflow(error: ProviderError) -> Overflow:
    """Read the figures of a request that was too large."""
    detail = error.detail
    text = _text(error)
    window = _number(detail.get("n_ctx")) or _first(_AFTER, text) or _first(_BEFORE, text)
    prompt = (
        _number(detail.get("n_prompt_tokens"), least=1) or _first(_PROMPT, text, least=1) or _first(_ANY_PROMPT, text)
    )
    return Overflow(window, prompt if prompt != window else None)


def listed_window(models: Mapping[str, Any], name: str) -> int | None:
    """Return the window of a model as `/v1/models` gives it, None where it does not.

    `max_model_len` is vLLM's and SGLang's, `context_window` Groq's, `context_length` OpenRouter's and others',
    `max_context_length` Mistral's, the loaded one LM Studio's.
    """
    return next((number for entry in _named(models, name) if (number := window_of(entry))), None)


def trained_window(models: Mapping[str, Any], name: str) -> int | None:
    """Return the window that llama.cpp says the model was trained with."""
    metas = (entry.get("meta") for entry in _named(models, name))
    return next((_number(meta.get("n_ctx_train")) for meta in metas if isinstance(meta, Mapping)), None)


def window_of(entry: Any) -> int | None:
    """Return the window in one model's object."""
    if not isinstance(entry, Mapping):
        return None
    return next((number for key in WINDOW_KEYS if (number := _number(entry.get(key)))), None)


def _named(models: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    data = models.get("data")
    entries = [entry for entry in data[:MAX_MODELS] if isinstance(entry, Mapping)] if isinstance(data, list) else []
    return [entry for entry in entries if entry.get("id") == name] or (entries if len(entries) == 1 else [])


def _text(error: ProviderError) -> str:
    """Return the server's own words, without the status before them."""
    said = error.detail.get("message")
    return (said if isinstance(said, str) else error.message.partition(": ")[2])[:MAX_TEXT]


def _first(pattern: re.Pattern[str], text: str, *, least: int = SMALLEST) -> int | None:
    for match in pattern.finditer(text):
        found = next(group for group in match.groups() if group)
        if number := _number(int(found.replace(",", "")), least=least):
            return number
    return None


def _number(value: Any, *, least: int = SMALLEST) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
    return value if fits else None
