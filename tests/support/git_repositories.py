"""Real git repositories of every shape, and what a test needs to see that one was left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_git(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run git as the user would, in the environment that the test has set."""
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


def commit_files(root: Path, files: dict[str, str], message: str = "change") -> str:
    """Write files, commit all that is there, and return the commit."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    run_git("add", "-A", cwd=root)
    run_git("commit", "-q", "-m", message, cwd=root)
    return run_git("rev-parse", "HEAD", cwd=root)


def make_repository(root: Path, files: dict[str, str] | None = None) -> Path:
    """Make a repository with one commit."""
    root.mkdir(parents=True)
    run_git("init", "-q", "-b", "main", cwd=root)
    commit_files(root, files or {"calc.py": "def add(a, b):\n    return a - b\n", "README.md": "# calc\n"}, "first")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Return each file below a folder with its bytes, links with their targets, folders with nothing."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = b"/"
    return found
