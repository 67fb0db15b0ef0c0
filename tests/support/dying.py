"""A miyabi that dies by kill -9 the moment an event is in its log, and before anything comes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import PYTHON, ROOT, Ran

# An event's line goes to stdout after it is in the log, and from the same thread; so that is where the process dies.
SCRIPT = """
import io, os, re, signal, sys
kind, number = sys.argv.pop(1), int(sys.argv.pop(1))

class Dying(io.TextIOWrapper):
    def write(self, text):
        global number
        if re.match('{"type":"(%s)"' % kind, text):
            number -= 1
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().write(text)

sys.stdout = Dying(sys.stdout.detach(), encoding="utf-8", write_through=True)
from miyabi_cli.__main__ import main
main()
"""


def codegen_until(
    kind: str, number: int, *arguments: str, environment: Mapping[str, str], repository: Path, code: int = -9
) -> Ran:
    """Run `miyabi codegen --format jsonl` until the event of that number among those of a `kind` (a pattern)."""
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, kind, str(number), "codegen", *arguments, "--format", "jsonl"],
        cwd=repository,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def log_of(home: Path) -> Path:
    """Return the log of the only run."""
    (log,) = (home / "data/runs").glob("*/events.jsonl")
    return log


def tear(log: Path, size: int, tail: bytes = b"") -> None:
    """Leave a log without its last `size` bytes, as where the disk did not get them or has something else there."""
    content = log.read_bytes()
    log.write_bytes(content[: len(content) - size] + tail)
