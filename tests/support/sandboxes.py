"""A repository with a worktree of its own, and commands that run on it in a real sandbox."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.bubblewrap import open_bubblewrap
from miyabi_cli.workspace.landlock import open_landlock
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.processes import Limits, Outcome
from miyabi_cli.workspace.sandbox import Sandbox, open_sandbox
from tests.support.trees import write_tree

CANARY = "canary-71c0ffee"


def git(folder: Path, *arguments: str) -> str:
    """Run the real git without the user's settings."""
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout


def make_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a git repository with one commit."""
    folder.mkdir(parents=True)
    write_tree(folder, files)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "start")
    return folder


@dataclass(frozen=True)
class Bench:
    """A user's repository, a worktree of it, and what is needed to run commands there."""

    repository: Path
    place: Place
    environ: Mapping[str, str]
    kind: Literal["bubblewrap", "landlock"] = "bubblewrap"

    def open(self, mode: Literal["auto", "off"] = "auto", **policy: Any) -> Sandbox:
        policy = {name: tuple(value) if isinstance(value, list) else value for name, value in policy.items()}
        if mode == "auto" and self.kind == "landlock":
            return open_landlock(repository=self.repository, environ=self.environ, policy=Policy(**policy))
        return open_sandbox(mode, repository=self.repository, environ=self.environ, policy=Policy(**policy))

    def run(self, command: str | Sequence[str], sandbox: Sandbox | None = None, **options: Any) -> Outcome:
        place = options.pop("place", self.place)
        limits = options.pop("limits", Limits(seconds=60))
        return asyncio.run((sandbox or self.open()).run(command, place, limits=limits, **options))

    def python(self, code: str, sandbox: Sandbox | None = None, **options: Any) -> Outcome:
        return self.run(["python", "-c", code], sandbox, **options)

    def with_scratch(self, folder: Path) -> Bench:
        return replace(self, place=replace(self.place, scratch=folder))


def make_bench(folder: Path, repository: Path | None = None, environ: Mapping[str, str] | None = None) -> Bench:
    """Make a repository, a clone of it as its worktree, and a home with a secret in it."""
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_ed25519").write_text(CANARY)
    repository = repository or folder / "repository"
    make_repository(repository, {"a.txt": "one\n", "package/module.py": "VALUE = 'worktree'\n"})
    tree = folder / "worktrees/1"
    git(folder, "clone", "-q", "--no-hardlinks", str(repository), str(tree))
    git(repository, "config", "remote.origin.url", f"https://user:{CANARY}@example.org/r.git")
    (repository / "package/module.py").write_text("VALUE = 'checkout'\n")
    base = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "GROQ_API_KEY": CANARY,
        "UNNAMED": CANARY,
        "LANG": "C.UTF-8",
    }
    return Bench(repository, Place(tree, repository), {**base, **(environ or {})})


def skip_without_bubblewrap(folder: Path) -> None:
    """Skip a test where no bwrap can run at all, and say why."""
    try:
        open_bubblewrap(repository=folder, environ={"PATH": os.defpath})
    except SandboxError as error:
        pytest.skip(error.message)


def skip_without_landlock(folder: Path) -> None:
    """Skip a test where the kernel has no Landlock that serves, and say why."""
    try:
        open_landlock(repository=folder, environ={"PATH": os.defpath}, policy=CLOSED)
    except SandboxError as error:
        pytest.skip(error.message)
