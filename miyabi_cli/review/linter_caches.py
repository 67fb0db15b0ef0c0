"""Caches of the linters that go by what files hold, kept for a repository from one review to the next."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from miyabi_cli.places import cache_dir
from miyabi_cli.workspace.builds import KeptBuilds
from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.git import split_paths
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.worktrees import Worktree

# The variables by linter that its cache is named with; Go's own is among the toolchain's.
_VARIABLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "mypy": (("MYPY_CACHE_DIR", "{builds}/mypy"),),
    "go vet": (),
    "staticcheck": (("STATICCHECK_CACHE", "{builds}/staticcheck"),),
}
_FIRST_TIME = 946_684_800  # 2000-01-01, in seconds since 1970


def with_cache(check: Check, repository: Path, *, untrusted: bool) -> tuple[Check, KeptBuilds | None]:
    """Return a check as it runs with the cache that is kept for it, and that cache; None where there is none.

    The code of an `untrusted` change gets none: a plugin of a linter could write into it what later reviews believe.
    """
    linter = linter_of(check.command)
    if untrusted or linter is None or linter.name not in _VARIABLES:
        return check, None
    digest = hashlib.sha256(os.fsencode(repository)).hexdigest()[:16]
    kept = KeptBuilds(cache_dir("linters"), f"{digest}-{linter.name.replace(' ', '-')}")
    return replace(check, environment=(*check.environment, *_VARIABLES[linter.name])), kept


def steady_times(worktree: Worktree) -> None:
    """Give Python's files times that stand for what they hold, before anybody uses the worktree.

    For mypy a file of the same length and second as one that it knows is that one, which in two trees that are checked
    out one after the other it need not be; and a file of another time it has to read.
    """
    for row in split_paths(worktree.git.run("ls-files", "-z", "--stage", "--", "*.py", "*.pyi")):
        about, path = row.split("\t", 1)
        mode, blob, _ = about.split(" ")
        if mode.startswith("100"):
            second = _FIRST_TIME + int(blob[:7], 16)
            with contextlib.suppress(OSError):
                os.utime(worktree.tree / path, (second, second), follow_symlinks=False)
