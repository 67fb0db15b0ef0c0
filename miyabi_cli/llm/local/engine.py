"""The embedded engine: a process of its own that serves one model by llama.cpp until nobody has used it for a while.

It imports the standard library and `xllamacpp` alone, since it is also started as a bare file. In its folder lie
`life` (locked by it as long as it lives; its pid), `lease` (locked, shared, by every run that uses it; how long it
stays idle), `lock` (held while one starts or ends) and `state.json` (its address and key, once it serves).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SLOTS = 4
TICK_SECONDS = 0.5
DEFAULT_KEEP_ALIVE = 300.0
LOG_BYTES = 1024**2


def main(arguments: Sequence[str]) -> int:
    """Serve until idle; the starter waits only for the fork, so the engine is nobody's child. Returns an exit code."""
    options = _parser().parse_args(arguments)
    if os.fork():
        os._exit(0)
    os.pwrite(options.life, f"{os.getpid():<20}".encode(), 0)
    folder = Path(options.folder)
    os.chdir(folder)
    key = secrets.token_urlsafe(32)
    try:
        server = _serve(options, key)
    except Exception as error:
        sys.stderr.write(f"engine: {error}\n")
        return 1
    _write_state(folder, {"pid": os.getpid(), "url": server.listening_address, "key": key, "started": time.time()})
    _watch(folder, options.life)
    del server  # ends its threads
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="miyabi-engine")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--life", type=int, required=True, help="descriptor of the locked file `life`")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--cache-mib", type=int, required=True)
    return parser


def _serve(options: argparse.Namespace, key: str) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.api_keys = [key]
    parameters.port = 0
    parameters.ui = False
    parameters.use_jinja = True
    parameters.n_ctx = options.context
    # The slots share the context: one run alone has all of it.
    parameters.kv_unified = True
    parameters.n_parallel = SLOTS
    parameters.cache_ram_mib = options.cache_mib
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    # Edits copy most of their text from the prompt, so what followed the same words before is a good guess.
    kinds = xllamacpp.common_speculative_type
    parameters.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
    return xllamacpp.Server(parameters)


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    new = folder / "state.json.new"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(state, file)
    new.replace(folder / "state.json")


def _watch(folder: Path, life: int) -> None:
    """Return when the engine is to end. The locks that then keep others from using it are held until it has."""
    lease = os.open(folder / "lease", os.O_RDWR | os.O_CREAT, 0o600)
    idle_since: float | None = None
    while True:
        time.sleep(TICK_SECONDS)
        _bound_log()
        if not _is_ours(folder, life):
            return
        if not _try_lock(lease):
            idle_since = None
            continue
        fcntl.flock(lease, fcntl.LOCK_UN)
        now = time.monotonic()
        idle_since = now if idle_since is None else idle_since
        if now - idle_since >= _keep_alive(lease) and _retire(folder, lease):
            return


def _is_ours(folder: Path, life: int) -> bool:
    """Say whether the folder is still there with this engine in it: else nobody finds it, and it is of no use."""
    try:
        return os.path.samestat((folder / "life").stat(), os.fstat(life))
    except OSError:
        return False


def _keep_alive(lease: int) -> float:
    """Return the seconds that the last user asked for."""
    try:
        return float(os.pread(lease, 20, 0))
    except ValueError:
        return DEFAULT_KEEP_ALIVE


def _retire(folder: Path, lease: int) -> bool:
    """Take the engine out of use unless somebody is about to use it; the locks are held to the process's end."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    if _try_lock(lock) and _try_lock(lease):
        with contextlib.suppress(FileNotFoundError):
            (folder / "state.json").unlink()
        return True
    fcntl.flock(lease, fcntl.LOCK_UN)
    os.close(lock)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _bound_log() -> None:
    """Empty the log (stderr, opened to append) when it has grown too long."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size > LOG_BYTES:
            os.ftruncate(2, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
