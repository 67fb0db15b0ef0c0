"""Starting the process that ends what a killed miyabi leaves of bubblewrap; see `orphans`."""

from __future__ import annotations

import atexit
import secrets
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.policy import OFF_HINT

_GUARD = """
import sys
sys.path.append(sys.argv[1])
from miyabi_cli.workspace.orphans import end_orphans
end_orphans(sys.argv[2])
"""


@lru_cache(maxsize=1)
def guarded_mark() -> str:
    """Return what each bwrap of this process must have among its arguments; at the first call start the guard.

    It is a name that no variable has, so `--unsetenv` takes it and does nothing. Raises SandboxError where no process
    can be started.
    """
    mark = f"miyabi_{secrets.token_hex(8)}"
    try:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, str(Path(__file__).parents[2]), mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"no sandbox: {error.strerror}", hint=OFF_HINT) from None
    atexit.register(_dismiss, guard)
    return mark


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    """End the guard: all commands have ended."""
    guard.kill()
    guard.communicate()
