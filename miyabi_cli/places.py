"""Where miyabi keeps its own files on this machine, and writing them whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from miyabi_cli.errors import MachineError


def data_dir(*parts: str) -> Path:
    """Return a folder for what must last (models, runs, trust), made on demand; `MIYABI_DATA_DIR` moves it."""
    return _made("MIYABI_DATA_DIR", "user_data_path", parts)


def cache_dir(*parts: str) -> Path:
    """Return a folder for what can be made again (check results, worktrees); `MIYABI_CACHE_DIR` moves it."""
    return _made("MIYABI_CACHE_DIR", "user_cache_path", parts)


def config_dir() -> Path:
    """Return the folder of the user's own settings file, which need not exist; `MIYABI_CONFIG_DIR` moves it."""
    return _base("MIYABI_CONFIG_DIR", "user_config_path")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, for its owner alone, or leave the old one as it is; on return it outlasts a power cut.

    Raises MachineError where the disk does not take it.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # the error that matters is on its way
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None


def _base(variable: str, function: str) -> Path:
    if set_by_user := os.environ.get(variable):
        return Path(set_by_user).expanduser().absolute()
    import platformdirs

    path: Path = getattr(platformdirs, function)("miyabi")
    return path


def _made(variable: str, function: str, parts: tuple[str, ...]) -> Path:
    path = _base(variable, function).joinpath(*parts)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = f"set {variable} to a writable folder"
        raise MachineError(f"can't make {path}: {error.strerror}", hint=hint) from None
    return path
