"""What no module has turned into an error of miyabi's: a fault of the machine, else a bug, whose traceback is kept."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_cli.commands.begun import Begun
from miyabi_cli.errors import MiyabiError
from miyabi_cli.exits import ExitCode, exit_code_of

if TYPE_CHECKING:
    from types import TracebackType

# What is wrong with the machine, and no bug, wherever it shows: full, read-only, worn out, out of handles or memory.
MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a user is told of it."""

    kind: str
    message: str
    hint: str | None
    code: ExitCode


def explain(error: Exception, begun: Begun) -> Failure:
    """Return what a user is told of any error."""
    if isinstance(error, MiyabiError):
        return Failure(error.kind, error.message, error.hint, exit_code_of(error))
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
        where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)  # two of a copy
        return Failure("machine", f"{error.strerror}{': ' if where else ''}{where}", None, ExitCode.MACHINE)
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        message, hint = "the current folder is not there any more", "change to another folder"
        return Failure("machine", message, hint, ExitCode.MACHINE)
    where = _keep_traceback(error, begun)
    message = f"a bug in miyabi: {type(error).__name__}: {' '.join(begun.redactor.redact(str(error)).split())[:200]}"
    return Failure("bug", message, where, ExitCode.BUG)


def _is_somewhere() -> bool:
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _keep_traceback(error: Exception, begun: Begun) -> str:
    import tempfile
    import traceback

    from miyabi_cli.report.display import safe_text

    frames: TracebackType | None = error.__traceback__
    text = begun.redactor.redact("".join(traceback.format_exception(type(error), error, frames)))
    try:
        from miyabi_cli.places import data_dir

        folder: str | None = str(data_dir("crashes"))
    except MiyabiError:
        folder = None
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="crash-", dir=folder, delete=False) as file:
            file.write(text)
    except OSError:
        print(safe_text(text), file=sys.stderr)
        return "the traceback is above"
    return f"the traceback is in {file.name}"
