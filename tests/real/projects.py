"""The historical bugs: which repository, which commits, which tests; and checkouts of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Git = Callable[..., str]

TABLE = "projects.json"
CONTEXT = 12  # lines around each change, so that it fits at one place alone
_TEST_PATH = re.compile(r"(?:^|/)tests?/|(?:^|/)tests?\.[a-z]+$|_test\.go$")
_HUNK = re.compile(r"^@@ .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Project:
    """A bug that was fixed: `fix` is the commit, with its tests, and `base` its parent.

    `tests`: parts of the names of tests that fail before and pass after. `added`: how many tests are new with it, 0
    where it changes the ones that are there. `rewrites`: it changes what an old test expects. `packages`: what of npm
    its tests need. `check`: a command, where its own test script needs more than that. `task`: the report.
    """

    repository: str
    url: str
    licence: str
    language: str
    base: str
    fix: str
    tests: tuple[str, ...]
    added: int
    task: str
    packages: tuple[str, ...] = ()
    check: str = ""
    rewrites: bool = False

    @property
    def folder(self) -> str:
        return self.repository.replace("/", "+")


def projects() -> list[Project]:
    """Read our table, and the one of the folder of repositories where it has its own."""
    tables = [Path(__file__).with_name(TABLE), *(folder / TABLE for folder in [repositories()] if folder)]
    records = [record for table in tables if table.exists() for record in json.loads(table.read_text())]
    lists = ("tests", "packages")
    return [Project(**record | {name: tuple(record.get(name, ())) for name in lists}) for record in records]


def repositories() -> Path | None:
    """Return the folder with a bare clone for each repository, `owner+name`, where there is one."""
    given = os.environ.get("MIYABI_TEST_REPOSITORIES")
    return Path(given).absolute() if given else None


def check_out(project: Project, source: Path, folder: Path, git: Git) -> Path:
    """Check out the commit before the fix."""
    root = folder / project.folder
    git("clone", "-q", "--no-checkout", str(source), str(root), cwd=folder)
    git("checkout", "-q", "-B", "main", project.base, cwd=root)
    return root


def fixed_paths(project: Project, root: Path, git: Git) -> tuple[list[str], list[str]]:
    """Return what the fix changes: sources (and all else), tests."""
    paths = git("diff", "--name-only", project.base, project.fix, cwd=root).splitlines()
    tests = [path for path in paths if _TEST_PATH.search(path)]
    return [path for path in paths if path not in tests], tests


def as_patch(project: Project, paths: list[str], root: Path, git: Git) -> str:
    """Return the changes of the fix to existing files, in the format of `apply_patch`."""
    parts = ["*** Begin Patch"]
    for path in paths:
        diff = git("diff", f"-U{CONTEXT}", project.base, project.fix, "--", path, cwd=root)
        hunks = diff[diff.index("\n@@ ") + 1 :]
        parts += [f"*** Update File: {path}", _HUNK.sub("@@", hunks)]
    return "\n".join([*parts, "*** End Patch"])
