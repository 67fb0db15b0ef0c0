"""Faults of the machine that can be had on order: a git that kills who calls it, and a disk with no room."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.support.users import User


class KillingGit:
    """A `git` ahead of the real one on PATH: at the call of a given number it kills its parent, and works on.

    That is the worst of kill -9: what the dead process has begun goes on behind its back.
    """

    def __init__(self, user: User) -> None:
        self._user = user
        self._folder = user.home.parent / "killing"
        self._count, self._done = self._folder / "count", self._folder / "done"
        real = shutil.which("git", path=user.environment["PATH"])
        program = f"""#!/bin/sh
[ -w {self._folder} ] && exec 9>{self._folder}/lock && flock 9
number=$(($(cat {self._count} 2>/dev/null || echo 0) + 1))
[ -w {self._folder} ] && echo $number >{self._count}
exec 9>&-
[ "$number" = "$KILL_AT" ] || exec {real} "$@"
kill -9 $PPID
{real} "$@"
echo >{self._done}
"""
        user.shell(f'mkdir {self._folder}; echo "$PROGRAM" >git; chmod 755 git; mv git {self._folder}', PROGRAM=program)

    def run(self, *arguments: str, kill_at: int = 0) -> Ran:
        """Run miyabi with this git, and wait until the call that killed it has ended as well."""
        self._user.shell(f"rm -f {self._count} {self._done}")
        path = f"{self._folder}:{self._user.environment['PATH']}"
        ran = self._user.miyabi(*arguments, PATH=path, KILL_AT=str(kill_at))
        while ran.code == -9 and not self._done.exists():
            time.sleep(0.01)
        return ran

    @property
    def calls(self) -> int:
        """How often git was called in the last run."""
        return int(self._count.read_text())


def run_on_small_disk(user: User, folder: Path, size: int, script: str, **more: str) -> Ran:
    """Run a script of the shell while a disk of `size` bytes lies over a folder; skip where nobody can mount one."""
    argv = [*user.as_user, "unshare", "--mount", "--map-root-user"]
    if subprocess.run([*argv, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here, so no disk can be mounted")
    mount = f"mount -t tmpfs -o size={size} none {folder} || exit 99\n"
    return user.run("unshare", "--mount", "--map-root-user", "sh", "-c", mount + script, cwd=folder.parent, **more)
