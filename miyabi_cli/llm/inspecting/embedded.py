"""The embedded engine: whether it is installed, has its model, and has the memory to run it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from miyabi_cli.llm.inspecting.served import Advice, Served
from miyabi_cli.llm.local.launch import check_memory, require_engine
from miyabi_cli.llm.local.machine import available_memory
from miyabi_cli.llm.local.models import KNOWN_MODELS, find_model, model_path, needed_memory

ADVICE = Advice(
    set_up="miyabi model pull; where the engine is not installed, first: pip install 'miyabi[embedded]'",
    window="raise llm.embedded.context where the memory allows it",
)


def inspect_embedded(model: str, context: int) -> Served:
    """Look at what is on this machine; nothing is started. Raises MachineError, UsageError."""
    require_engine()
    path = find_model(model)
    check_memory(path.name, needed_memory(path, context), available_memory())
    pulled = tuple(known.name for known in KNOWN_MODELS if model_path(known).is_file())
    return Served(_engine_version(), pulled, has_model=True, window=context)


def _engine_version() -> str:
    try:
        return f"xllamacpp {version('xllamacpp')}"
    except PackageNotFoundError:
        return ""
