"""What a benchmark ran on: model, server, prices, machine. No secret, no name of a user or of this machine."""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from miyabi_cli import __version__
from miyabi_cli.errors import MiyabiError
from miyabi_cli.http import one_line
from miyabi_cli.ledger.records import NANO
from miyabi_cli.llm.inspecting.table import inspect
from miyabi_cli.llm.local.machine import usable_processors
from miyabi_cli.llm.prices import find_price
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.repository import open_repository

SERVER_SECONDS = 5.0
GPU_SECONDS = 10.0
_LONGEST_NAME = 200
_PRICED_TOKENS = 1000
_GPU_QUESTION = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")


async def describe_environment(
    settings: Settings,
    *,
    provider: str | None,
    model: str | None,
    flags: Sequence[str],
    seeds: Sequence[int],
    repository: Path | None,
    environ: Mapping[str, str],
    server_version: str | None = None,
) -> dict[str, Any]:
    """Return the `environment` of a document, as schemas/bench.json describes it; nothing that fails raises.

    `provider` and `model` are those that answer: None where no model is asked. `flags` are the arguments of the
    command; the user's home is `~` in them. Where `server_version` is not known the server is asked for it.
    """
    section = getattr(settings.llm, provider, None) if provider else None
    endpoint = _without_credentials(getattr(section, "endpoint", None))
    if provider and not server_version:
        server_version = await _server_version(settings, provider)
    return {
        "miyabi": __version__,
        "python": platform.python_version(),
        "os": _system(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "provider": provider,
        "model": _without_home(model, environ) if model else None,
        "endpoint": endpoint,
        "server_version": server_version or None,
        "flags": [_without_home(flag, environ) for flag in flags],
        "hardware": await asyncio.to_thread(_hardware, environ),
        "commit": await asyncio.to_thread(_commit, repository),
        "seeds": list(seeds),
        "prices": _prices(settings, provider, model, endpoint or ""),
    }


async def _server_version(settings: Settings, provider: str) -> str | None:
    try:
        return one_line((await inspect(settings, provider, seconds=SERVER_SECONDS)).version)[:_LONGEST_NAME]
    except (MiyabiError, TimeoutError):
        return None


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = platform.system()
    return f"{name} ({platform.system()} {platform.release()} {platform.machine()})"


def _hardware(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        "processor": _field_of("/proc/cpuinfo", "model name") or platform.processor() or None,
        "cores": usable_processors(),
        "memory_bytes": _memory(),
        "gpus": _gpus(environ),
    }


def _memory() -> int | None:
    words = (_field_of("/proc/meminfo", "MemTotal") or "").split()
    return int(words[0]) * 1024 if words and words[0].isdecimal() else None


def _field_of(path: str, name: str) -> str | None:
    """Return the first value of a name in a file of lines `name : value`, as Linux tells what it has."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            found = (line.partition(":")[2] for line in lines if line.partition(":")[0].strip() == name)
            return " ".join(next(found, "").split())[:_LONGEST_NAME] or None
    except OSError:
        return None


def _gpus(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what NVIDIA's tool says; [] where there is none."""
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None or not Path(program).is_absolute():
        return []
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:  # in the file system's root: no repository's file chooses what runs
        done = subprocess.run([program, *_GPU_QUESTION], cwd="/", timeout=GPU_SECONDS, check=False, **pipes)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []
    return [gpu for line in lines if (gpu := _gpu(line))]


def _gpu(line: str) -> dict[str, Any] | None:
    """Read a line `NVIDIA H200, 143771, 570.86`; the memory is in MiB."""
    name, *rest = (one_line(part)[:_LONGEST_NAME] for part in line.split(","))
    if len(rest) != 2:
        return None
    memory, driver = rest
    return {"name": name, "memory_bytes": int(memory) << 20 if memory.isdecimal() else None, "driver": driver or None}


def _commit(repository: Path | None) -> str | None:
    try:
        found = open_repository(repository) if repository else None
    except MiyabiError:
        return None
    return found.head if found else None


def _prices(settings: Settings, provider: str | None, model: str | None, endpoint: str) -> dict[str, Any] | None:
    """Return US dollars for a million tokens, those of input, of cached input and of output."""
    price = find_price(provider, model, endpoint, settings.prices) if provider and model else None
    if price is None:
        return None
    shares = {"input": (1, 0, 0), "cached_input": (1, 1, 0), "output": (0, 0, 1)}
    million = 1_000_000 // _PRICED_TOKENS
    rates = {
        name: price.nano(*(share * _PRICED_TOKENS for share in counts)) * million / NANO
        for name, counts in shares.items()
    }
    return {**rates, "source": price.source, "since": price.since.isoformat() if price.since else None}


def _without_credentials(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _without_home(text: str, environ: Mapping[str, str]) -> str:
    """Return a flag or a file's name without the user's home: it mostly holds their name."""
    home = environ.get("HOME", "").rstrip("/")
    return re.sub(re.escape(home) + r"(?=/|$)", "~", text) if home else text
