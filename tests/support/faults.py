"""Faults of the machine that can be had on order: a git that kills who calls it, and a disk with no room."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.support.hostile import Victim


class KillingGit:
    """A `git` ahead of the real one on PATH: at the call of a given number it kills its parent, and works on.

    That is the worst of kill -9: what the dead process has begun goes on behind its back.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count, self._done = folder / "count", folder / "done"
        real = shutil.which("git")
        folder.mkdir()
        program = folder / "git"
        program.write_text(
            f"""#!/bin/sh
number=$(($(cat {self._count} 2>/dev/null || echo 0) + 1))
[ -w {folder} ] && echo $number >{self._count}
[ "$number" = "$KILL_AT" ] || exec {real} "$@"
kill -9 $PPID
{real} "$@"
echo >{self._done}
"""
        )
        program.chmod(0o755)

    def run(self, victim: Victim, *arguments: str, kill_at: int = 0) -> Ran:
        """Run miyabi with this git, and wait until the call that killed it has ended as well."""
        for path in (self._count, self._done):
            path.unlink(missing_ok=True)
        path = f"{self._folder}:{victim.environment['PATH']}"
        ran = victim.run(victim.python, "-m", "miyabi_cli", *arguments, PATH=path, KILL_AT=str(kill_at))
        while ran.code == -9 and not self._done.exists():
            time.sleep(0.01)
        return ran

    @property
    def calls(self) -> int:
        """How often git was called in the last run."""
        return int(self._count.read_text())


def run_on_small_disk(victim: Victim, folder: Path, size: int, script: str, **more: str) -> Ran:
    """Run a script of the shell while a disk of `size` bytes lies over a folder; skip where nobody can mount one."""
    argv = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*argv, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here, so no disk can be mounted")
    mount = f"mount -t tmpfs -o size={size} none {folder} || exit 99\n"
    return victim.run(*argv, "sh", "-c", mount + script, cwd=folder.parent, **more)
