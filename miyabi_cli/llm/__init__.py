"""Models: the provider protocol, one module for each wire, and what they share.

For scripts the constructors are here by name (docs/python.md); each is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miyabi_cli.llm.functions import GENERATE_CODE, GENERATE_DOCUMENTATION, GENERATE_TESTS
    from miyabi_cli.llm.groq import open_groq
    from miyabi_cli.llm.ollama import open_ollama
    from miyabi_cli.llm.openai import open_openai
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.llm.vllm import open_vllm

__all__ = [
    "GENERATE_CODE",
    "GENERATE_DOCUMENTATION",
    "GENERATE_TESTS",
    "Provider",
    "open_groq",
    "open_ollama",
    "open_openai",
    "open_vllm",
]

_MODULES = {"Provider": "provider", **{name: "functions" for name in __all__ if name.startswith("GENERATE_")}}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES.get(name) or name.removeprefix('open_')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
