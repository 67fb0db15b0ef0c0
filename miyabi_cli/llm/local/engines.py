"""Finding the running engine for a model, or having one started: one for all runs of a user on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from miyabi_cli import __version__
from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.launch import EngineOptions, launch, launch_failure
from miyabi_cli.llm.local.machine import default_threads
from miyabi_cli.llm.local.models import KnownModel, find_model
from miyabi_cli.locks import is_taken, lock, locked, open_lock
from miyabi_cli.places import data_dir

DEFAULT_CONTEXT = 16384
DEFAULT_KEEP_ALIVE = 300.0
POLL_SECONDS = 0.05
STARTS = 3
# A 12 GB file from a slow disk takes minutes; an engine that serves answers at once, if the machine is not stuck.
LOADING_SECONDS = 900.0
ANSWER_SECONDS = 60.0

Progress = Callable[[str], None]
State = Mapping[str, Any]


@dataclass
class Engine:
    """A running engine and a lease on it: while it is open, the engine stays. `url` has no path."""

    url: str
    key: str = field(repr=False)
    pid: int
    lease: int = field(repr=False)

    def close(self) -> None:
        """Let the engine go; it ends when nobody has used it for the time to stay idle."""
        if self.lease >= 0:
            os.close(self.lease)
            self.lease = -1

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def ensure_engine(
    model: KnownModel | Path,
    *,
    threads: int | None = None,
    context: int = DEFAULT_CONTEXT,
    keep_alive: float = DEFAULT_KEEP_ALIVE,
    progress: Progress = lambda _: None,
    patience: float = ANSWER_SECONDS,
) -> Engine:
    """Return the engine that serves a model with these options, started if none runs, with a lease on it.

    `threads` None: as many as suit the machine. `keep_alive`: seconds that the engine stays when nobody uses it, as
    its last user wants it; negative: for ever. `patience`: seconds after which an engine that serves but does not
    answer is killed and replaced. After a broken connection, close the old one and call this again.
    Raises MachineError: no model, no xllamacpp, too little memory, or the engine fails to start.
    """
    options = EngineOptions(_resolved(model), threads or default_threads(), context)
    folder = _folder(options)
    lease = open_lock(folder / "lease")
    try:
        state = await _ensured(options, folder, lease, keep_alive, progress, patience)
    except BaseException:
        os.close(lease)
        raise
    return Engine(state["url"], state["key"], state["pid"], lease)


async def stop_engines() -> int:
    """End every running engine of this user, also those in use; return how many there were."""
    stopped = 0
    for folder in data_dir("engines").iterdir():
        async with locked(folder / "lock"):
            stopped += await _end(folder)
    return stopped


def _resolved(model: KnownModel | Path) -> Path:
    path = (find_model(model.name) if isinstance(model, KnownModel) else model.expanduser()).resolve()
    if not path.is_file():
        raise MachineError(f"no such model: {path}", hint="miyabi model list shows what there is")
    return path


def _folder(options: EngineOptions) -> Path:
    """Return the folder of the engine that serves just this file with just these options and this version."""
    about = options.model.stat()
    parts = (str(options.model), about.st_size, about.st_mtime_ns, options.threads, options.context, __version__)
    text = json.dumps((*parts, os.uname().nodename))  # a home directory may be shared by machines
    return data_dir("engines", hashlib.sha256(text.encode()).hexdigest()[:16])


async def _ensured(
    options: EngineOptions, folder: Path, lease: int, keep_alive: float, progress: Progress, patience: float
) -> State:
    for _ in range(STARTS):
        async with locked(folder / "lock"):
            # The lease is taken under the lock: an engine that is about to end has either ended, or sees it.
            await lock(lease, shared=True)
            os.pwrite(lease, f"{keep_alive if keep_alive >= 0 else float('inf'):<20}".encode(), 0)
            started = await _started(options, folder)
        state = await _served(folder, progress, patience)
        if state is not None:
            return state
        if started:
            break
    raise launch_failure(folder, options)


async def _started(options: EngineOptions, folder: Path) -> bool:
    """Start an engine if none lives, and say so. To be called under the folder's lock."""
    life = open_lock(folder / "life")
    try:
        if is_taken(life):
            return False
        await lock(life)
        os.ftruncate(life, 0)  # no pid of an earlier engine is ever taken for this one's
        _forget_state(folder)
        await launch(options, folder, life)
        return True
    finally:
        os.close(life)  # the engine has its own copy, which keeps the lock


async def _served(folder: Path, progress: Progress, patience: float) -> State | None:
    """Return the state of an engine once it answers, or None when it has died or was ended for not answering."""
    life = open_lock(folder / "life")
    since, limit, told = time.monotonic(), LOADING_SECONDS, False
    try:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=min(5.0, patience)) as client:  # noqa: S501 - loopback
            while is_taken(life):
                state = _read_state(folder)
                if state and await _answers(client, state):
                    return state
                if state and limit == LOADING_SECONDS:
                    since, limit = time.monotonic(), patience
                if time.monotonic() - since > limit:
                    await _end(folder)
                if not told:
                    progress("loading model")
                    told = True
                await asyncio.sleep(POLL_SECONDS)
    finally:
        os.close(life)
    return None


def _read_state(folder: Path) -> State | None:
    try:
        state: State = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return state


def _forget_state(folder: Path) -> None:
    for name in ("state.json", "state.json.new"):
        (folder / name).unlink(missing_ok=True)


async def _answers(client: httpx.AsyncClient, state: State) -> bool:
    """Ask for the list of models, which only the right key gets."""
    try:
        response = await client.get(f"{state['url']}/v1/models", headers={"authorization": f"Bearer {state['key']}"})
    except httpx.HTTPError:
        return False
    return response.status_code == 200


async def _end(folder: Path) -> bool:
    """Kill the engine of a folder if it lives, and wait until it has ended; say whether it lived."""
    life = open_lock(folder / "life")
    try:
        while is_taken(life):
            pid = os.pread(life, 20, 0).strip()
            if pid and _kill(int(pid), life):
                await lock(life)
                _forget_state(folder)
                return True
            await asyncio.sleep(POLL_SECONDS)  # it has only just started
        return False
    finally:
        os.close(life)


def _kill(pid: int, life: int) -> bool:
    """Kill a process, provided that it is still the one that holds the lock."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            # From here on the descriptor means one process, whoever gets the pid next.
            if is_taken(life):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False
