"""Users of this machine, each with a home and a repository: whoever runs the tests and, for root, an ordinary one too.

Commands run as the user, in the user's environment; `Repository.changes` tells what they did to the user's files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import ROOT, Ran

NOBODY = 65534
NEEDED = "import sys, typer, httpx, git, yaml, pydantic_settings, rich; sys.exit(sys.version_info < (3, 11))"
PYTHONS = (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3")
OWN = ("cache", "config", "data")  # miyabi's own folders in the home

# A branch of miyabi's, its log, and the folders on the way there.
NEW_BRANCH = re.compile(r"/\.git/(refs/heads/miyabi($|[/-])|logs($|/refs($|/heads($|/miyabi($|[/-])))))")

Snapshot = Mapping[str, str]


@dataclass(frozen=True)
class User:
    """`as_user` is how commands are started as this user."""

    home: Path
    repository: Path
    environment: Mapping[str, str]
    python: str
    as_user: tuple[str, ...] = ()

    def start(self, *argv: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """Start a command as the user, with further variables; its streams are pipes."""
        return subprocess.Popen(
            [*self.as_user, *argv],
            cwd=cwd or self.repository,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str, cwd: Path | None = None, **more: str) -> Ran:
        """Run a command as the user to its end."""
        process = self.start(*argv, cwd=cwd, **more)
        try:
            stdout, stderr = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return Ran(process.returncode, stdout, stderr)

    def start_miyabi(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return self.start(self.python, "-m", "miyabi_cli", *arguments, **more)

    def miyabi(self, *arguments: str, **more: str) -> Ran:
        """Run the real CLI to its end."""
        return self.run(self.python, "-m", "miyabi_cli", *arguments, **more)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git as the user would; return what it says."""
        ran = self.run("git", *arguments, cwd=cwd)
        assert ran.code == 0, ran.stderr
        return ran.stdout.strip()

    def shell(self, script: str, cwd: Path | None = None, **more: str) -> str:
        """Run a script of the shell that has to succeed; return what it says."""
        ran = self.run("sh", "-ec", script, cwd=cwd, **more)
        assert ran.code == 0, ran.stderr
        return ran.stdout

    def snapshot(self) -> Snapshot:
        """Return all that the user has, byte for byte: repository, git directory and home, but for miyabi's folders.

        What is not in it: git's objects. New ones do no harm, and git itself tells (fsck) where an old one is gone.
        """
        left_out = {self.home / name for name in OWN} | {self.repository / ".git/objects"}
        found: dict[str, str] = {}
        for top in (self.repository, self.home):
            found |= {str(path.relative_to(self.home.parent)): _about(path) for path in _walk(top, left_out)}
        return found

    def branches(self) -> list[str]:
        """Return the branches that miyabi has made."""
        return self.git("branch", "--list", "--format=%(refname:short)", "miyabi/*", "miyabi-*").split()

    def worktrees(self) -> list[Path]:
        """Return the worktrees that lie in miyabi's folder."""
        return list((self.home / "cache/worktrees").rglob("tree"))

    def run_folders(self) -> list[Path]:
        """Return the folders of all runs, the oldest first."""
        return sorted((self.home / "data/runs").glob("*"))


def changes(before: Snapshot, after: Snapshot) -> set[str]:
    """Return the paths that are new, gone or not what they were, but for new branches of miyabi's."""
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {path for path in changed if path in before or not NEW_BRANCH.search(path)}


def _walk(top: Path, left_out: set[Path]) -> Iterator[Path]:
    yield top
    for folder, names, files in os.walk(top):
        here = Path(folder)
        names[:] = [name for name in names if here / name not in left_out]
        yield from (here / name for name in (*names, *files))


def _about(path: Path) -> str:
    """Return kind, mode and content of a file; of a folder kind and mode."""
    about = path.lstat()
    content = b""
    if stat.S_ISLNK(about.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(about.st_mode):
        content = path.read_bytes()
    return f"{about.st_mode:o} {about.st_uid} {hashlib.sha256(content).hexdigest()}"


def make_user(
    top: Path, *, python: str = sys.executable, packages: str = str(ROOT), as_user: Sequence[str] = ()
) -> User:
    """Make the home and the repository of a user in a folder that is the user's own."""
    home, repository = top / "home", top / "project"
    environment = {
        "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "MIYABI_DATA_DIR": str(home / "data"),
        "MIYABI_CACHE_DIR": str(home / "cache"),
        "MIYABI_CONFIG_DIR": str(home / "config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONPATH": packages,
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ and not as_user},
    }
    user = User(home, repository, environment, python, tuple(as_user))
    user.shell(f"mkdir -p {home} {repository}", cwd=top)
    user.shell(
        f"""
printf '[user]\\n\\tname = Ada\\n\\temail = ada@example.org\\n[init]\\n\\tdefaultBranch = main\\n' >{home}/.gitconfig
printf 'def add(a, b):\\n    return a - b\\n' >calc.py; echo mine >README.md; echo '*.log' >.gitignore
git init -q; git add .; git commit -qm start
"""
    )
    return user


def copy_user(user: User, top: Path) -> User:
    """Return the same user with a copy of the repository in a new folder of the user's."""
    user.shell(f"mkdir {top}; cp -a {user.repository} {top}/project")
    return replace(user, repository=top / "project")


@contextmanager
def ordinary_user(top: Path) -> Iterator[User]:
    """Make a user who is not root; skip where root can't become one, or no Python serves both."""
    if os.geteuid() != 0:
        yield make_user(top)
        return
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is needed to become another user")
    # setpriv keeps root's rights until it starts a program, so that is one that any user may start.
    as_user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env")
    packages = f"{top}/packages:{sysconfig.get_path('purelib')}"
    top.chmod(0o755)
    shutil.copytree(ROOT / "miyabi_cli", top / "packages/miyabi_cli", ignore=shutil.ignore_patterns("__pycache__"))
    own = top / "user"
    own.mkdir()
    shutil.chown(own, NOBODY, NOBODY)
    environment = {"PYTHONPATH": packages, "HOME": str(own), "PATH": "/usr/bin:/bin"}
    for python in PYTHONS:
        argv = [*as_user, python, "-c", NEEDED]
        if subprocess.run(argv, env=environment, cwd=top, capture_output=True, check=False).returncode == 0:
            yield make_user(own, python=python, packages=packages, as_user=as_user)
            return
    pytest.skip("no Python that another user can run has what miyabi needs")
