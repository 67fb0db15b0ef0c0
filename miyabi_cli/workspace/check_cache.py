"""Keeps the results of the base's checks, so that they are run once a commit."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miyabi_cli import __version__
from miyabi_cli.errors import MachineError
from miyabi_cli.places import write_whole
from miyabi_cli.workspace.check_records import Check, CheckRun, Finding, TestFailure
from miyabi_cli.workspace.regular_files import read_regular
from miyabi_cli.workspace.toolchains import TOOLCHAINS

_VERSION = 3
_MAXIMUM_AGE = 30 * 24 * 3600.0  # seconds
_MAXIMUM_ENTRIES = 200
_MAXIMUM_BYTES = 32_000_000


def check_key(
    tree_id: str,
    checks: Sequence[Check],
    *,
    sandbox_kind: str,
    repository: Path,
    environ: Mapping[str, str],
    extra: Sequence[str] = (),
) -> str:
    """Return the key of what these checks give on a git tree: a hash of all that the result depends on.

    That is the tree, the checks, the sandbox, the tools found and the packages they have, PATH and the machine.
    `extra` is for what else a caller knows, such as the files that its set-up brings into a worktree.
    """
    parts = {
        "version": [_VERSION, __version__],
        "tree": tree_id,
        "checks": [asdict(check) for check in checks],
        "sandbox": sandbox_kind,
        "installed": [list(chain.installed(repository, environ)) for chain in TOOLCHAINS],
        "path": environ.get("PATH", ""),
        "machine": [platform.system(), platform.machine(), platform.release()],
        "extra": list(extra),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class CheckCache:
    """Check runs by key, one JSON file each in `directory`; what can't be read is a miss, what can't be kept is lost.

    Entries end after 30 days, and the oldest where there are more than 200.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> tuple[CheckRun, ...] | None:
        """Return the runs that were put, None where there are none, or they are too old, torn or of another version."""
        path = self._path(key)
        try:
            if time.time() - path.stat().st_mtime > _MAXIMUM_AGE:
                return None
            document = json.loads(read_regular(path, _MAXIMUM_BYTES) or b"")
            return tuple(_run(record) for record in document["runs"]) if document["version"] == _VERSION else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, runs: Sequence[CheckRun]) -> bool:
        """Keep the runs and tell whether they were kept: those with a time-out or a missing tool are not."""
        if not runs or not all(run.conclusive for run in runs):
            return False
        document = {"version": _VERSION, "runs": [asdict(run) for run in runs]}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path(key), json.dumps(document).encode())
            self._shrink()
        except (OSError, MachineError):
            return False
        return True

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _shrink(self) -> None:
        """Remove what is too old or too much, and what a killed run left half written."""
        now = time.time()
        entries = sorted(((_modified(path), path) for path in self._directory.iterdir()), reverse=True)
        kept = [path for when, path in entries if path.suffix == ".json" and now - when <= _MAXIMUM_AGE]
        fresh = {path for when, path in entries if path.suffix != ".json" and now - when < 3600}
        for _, path in entries:
            if path not in kept[:_MAXIMUM_ENTRIES] and path not in fresh:
                path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _run(record: dict[str, Any]) -> CheckRun:
    failures = tuple(TestFailure(**failure) for failure in record.pop("failures"))
    findings = tuple(Finding(**finding) for finding in record.pop("findings"))
    return CheckRun(**record, failures=failures, findings=findings)
