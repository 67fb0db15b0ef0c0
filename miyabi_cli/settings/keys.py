"""The secrets that settings hold."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

from miyabi_cli.redaction import Secret


def secrets_in_settings(settings: BaseModel) -> tuple[Secret, ...]:
    """Return keys and tokens with their places, such as `llm.groq.api_key`; no address may hold a password."""
    return tuple(_secrets(settings, ""))


def _secrets(section: BaseModel, place: str) -> Iterator[Secret]:
    for name, value in section:
        path = f"{place}.{name}".removeprefix(".")
        if isinstance(value, SecretStr):
            yield path, value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value, path)
