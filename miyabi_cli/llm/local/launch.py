"""Starting the embedded engine's process: what it is told, what it may see, and what its log says when it fails."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.machine import available_memory
from miyabi_cli.llm.local.models import MIB, needed_memory

MOST_CACHE_MIB = 2048
PASSED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
PASSED_PREFIXES = ("LC_", "PYTHON", "COVERAGE_", "GGML_", "OMP_", "GOMP_")
# The first is for any OpenMP; libgomp, which the wheels bring, then goes by the second.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300"}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine serves; `context` is in tokens and shared by its slots."""

    model: Path
    threads: int
    context: int


async def launch(options: EngineOptions, folder: Path, life: int) -> None:
    """Start an engine that keeps `life`, a descriptor of a locked file; return when it runs on its own.

    Raises MachineError: no xllamacpp, or too little memory.
    """
    require_engine()
    available = available_memory()
    needed = needed_memory(options.model, options.context)
    check_memory(options.model.name, needed, available)
    spare = MOST_CACHE_MIB if available is None else (available - needed) // MIB // 4
    arguments = _arguments(options, folder, life, min(MOST_CACHE_MIB, spare))
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=engine_environment(os.environ),
            pass_fds=(life,),
            start_new_session=True,
        )
        await process.wait()  # it forks at once
    finally:
        os.close(log)


def _arguments(options: EngineOptions, folder: Path, life: int, cache_mib: int) -> list[str]:
    # By its path, not its name: the folder of this package need not be importable, and nothing else is imported.
    arguments = [sys.executable, "-P", str(Path(__file__).with_name("engine.py"))]
    values = {
        "--folder": folder,
        "--model": options.model,
        "--life": life,
        "--threads": options.threads,
        "--context": options.context,
        "--cache-mib": cache_mib,
    }
    for name, value in values.items():
        arguments += [name, str(value)]
    return arguments


def engine_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the engine gets of an environment: no keys, no tokens, and threads that soon sleep when they wait.

    Left alone, libgomp's threads spin at every barrier. Measured on 2 cores with two threads, tokens a second written
    (quiet; with two or three other processes at work): spinning 33 and 1.6, sleeping at once 24 and 12, sleeping after
    300 turns 31 and 17; a single thread: 21 and 15. Prompts: 90, 86, 85 and 43 a second when quiet.
    """
    passed = {
        name: text for name, text in environ.items() if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
    }
    return {**WAITING, **passed}


def require_engine(find: Callable[[str], object | None] = importlib.util.find_spec) -> None:
    """Raise MachineError where the package that holds llama.cpp is not installed."""
    if find("xllamacpp") is None:
        raise MachineError("the embedded engine is not installed", hint="pip install 'miyabi[embedded]'")


def check_memory(name: str, needed: int, available: int | None) -> None:
    """Raise MachineError where the machine has less memory left than an engine takes; both in bytes."""
    if available is not None and available < needed:
        message = f"{name} needs {needed // MIB} MiB of memory, {available // MIB} MiB are available"
        raise MachineError(message, hint="end other programs, or use a smaller model or llm.embedded.context")


def launch_failure(folder: Path, options: EngineOptions) -> MachineError:
    """Return the error for an engine that did not come up, with what its log says."""
    try:
        lines = (folder / "log").read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    errors = [line.split(" E ", 1)[1] for line in lines if " E " in line] or [line for line in lines if line][-1:]
    reason = " ".join(errors[0].split())[:300] if errors else "it was killed; was there memory enough?"
    return MachineError(f"the engine failed with {options.model.name}: {reason}", hint=f"its log: {folder / 'log'}")
