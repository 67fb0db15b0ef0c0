"""The directory that every run leaves: its events, its patch, its result."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, MiyabiError, UsageError
from miyabi_cli.events import TRANSIENT, Event, RunEnded, ToolStarted, event_data
from miyabi_cli.locks import POLL_SECONDS, HeldLock, is_taken, take_lock
from miyabi_cli.places import data_dir, write_whole

EVENTS = "events.jsonl"
RESULT = "result.json"
PATCH = "patch.diff"
ERROR = "error.json"
START = "start.diff"  # the patch of an earlier run that this one goes on from
LOCK = "lock"
_TO_THE_SECOND = len("20261122-143501")  # of an id
SYNCED = (ToolStarted, RunEnded)
STOPPED = "stopped"
LIMIT = "limit"  # the status of a result that a larger limit may better
CLAIM_SECONDS = 0.5  # longer than a reader holds the lock, to see whether the run is at work


def new_run_id(now: datetime | None = None) -> str:
    """Return an id that sorts by time, such as `20261122-143501-7f3a9c`."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class RunLog:
    """Writes one run's directory, and holds its lock until `close`. Raises MachineError where the disk refuses.

    With `resume` it goes on with that of a run that was stopped, or ended by a limit. Raises UsageError where that has
    come to another end meanwhile.
    """

    def __init__(self, run_id: str, redact: Callable[[str], str] = str, *, resume: bool = False) -> None:
        self.run_id = run_id
        self._redact = redact
        self.directory = data_dir("runs", run_id)
        self._lock = _claim(self.directory)
        try:
            if resume:
                run = _load(self.directory)
                _refuse_finished(run)
                _drop_torn_lines(self.directory / EVENTS)
                for name in (ERROR,) if run.unpublished else (ERROR, RESULT):
                    (self.directory / name).unlink(missing_ok=True)
            self._file: BufferedWriter = (self.directory / EVENTS).open("ab")
        except OSError as error:
            self._lock.release()
            raise self._refused(error) from None
        except UsageError:
            self._lock.release()
            raise

    def write(self, event: Event) -> dict[str, Any]:
        """Append an event, and return it as data. A tool's start is on the disk before this returns."""
        data = event_data(event, run_id=self.run_id)
        if isinstance(event, TRANSIENT):
            return data
        try:
            self._file.write(json.dumps(data, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if isinstance(event, SYNCED):
                os.fdatasync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from None
        return data

    def _refused(self, error: OSError) -> MachineError:
        return MachineError(f"can't write the run's log in {self.directory}: {error.strerror}")

    def keep(self, name: str, content: bytes) -> None:
        """Write a file of the run's directory whole, or leave the old one as it is."""
        write_whole(self.directory / name, content)

    def fail(self, error: BaseException) -> None:
        """Note what ended the run before it had a result; a run in which nothing happened leaves nothing."""
        if not self._file.tell():
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        message = error.message if isinstance(error, MiyabiError) else str(error) or "interrupted"
        with contextlib.suppress(MachineError):
            self.keep(ERROR, json.dumps({"message": self._redact(message)}).encode())

    def close(self) -> None:
        """End the log; it may be read at any time before."""
        with contextlib.suppress(OSError):  # what a full disk did not take has been told by `write`
            self._file.close()
        self._lock.release()


@contextlib.contextmanager
def open_log(run_id: str, redact: Callable[[str], str] = str, *, resume: bool = False) -> Iterator[RunLog]:
    """Open a run's log until the block ends; an error that ends the block is noted in it, without secrets."""
    log = RunLog(run_id, redact, resume=resume)
    try:
        yield log
    except BaseException as error:
        log.fail(error)
        raise
    finally:
        log.close()


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it lies on the disk.

    `status` without a result: "running", or "stopped" by what `error` says, and where it says nothing by a kill.
    `came_from` is the id of the run from whose result it went on. `unpublished`: what it has come to was to become a
    pull request, and has not.
    """

    run_id: str
    directory: Path
    task: str
    repository: str
    status: str
    result: dict[str, Any] | None
    error: str | None = None
    came_from: str | None = None
    unpublished: bool = False

    @property
    def can_go_on(self) -> bool:
        """Whether `--resume` has something to go on from."""
        return bool(self.repository) and (self.unpublished or self.status in (STOPPED, LIMIT))


def list_runs(most: int | None = None) -> list[Run]:
    """Return all runs, or so many, the newest first."""
    folders = sorted((path for path in data_dir("runs").iterdir() if path.is_dir()), reverse=True)
    return [_load(folder) for folder in folders[:most]]


def find_run(name: str) -> Run:
    """Return a run by its id, by a beginning or an end of it that only it has, or the newest by `last`."""
    runs = [path for path in data_dir("runs").iterdir() if path.is_dir()]
    if name == "last":
        found = sorted(runs, key=_begun)[-1:]
    else:
        alike = [path for path in runs if name and (path.name.startswith(name) or path.name.endswith(name))]
        found = [path for path in alike if path.name == name] or alike
    if len(found) != 1:
        problem = "is not one run but several" if found else "is no run"
        raise UsageError(f"{name!r} {problem}", hint="miyabi runs list shows them")
    return _load(found[0])


def _begun(directory: Path) -> tuple[str, int]:
    """Return what sorts runs by their beginning: ids tell the second, and locks, which are never written, the rest."""
    lock = directory / LOCK
    return directory.name[:_TO_THE_SECOND], lock.stat().st_mtime_ns if lock.exists() else 0


def find_at_rest(name: str) -> Run:
    """Return a run by a name as `find_run` takes it. Raises MachineError for one that another process is at."""
    run = find_run(name)
    _claim(run.directory).release()
    return run


def find_stopped(name: str) -> Run:
    """Return a run that can go on, as it was stopped or a limit has ended it, by a name as `find_run` takes it.

    Raises UsageError for one that has ended or has no beginning, MachineError for one that another process is at.
    """
    run = find_at_rest(name)
    _refuse_finished(run)
    if not run.repository:
        raise UsageError(f"run {run.run_id} has no beginning to go on from", hint="begin the task anew")
    return run


def read_log(directory: Path, *, strict: bool = False) -> Iterator[dict[str, Any]]:
    """Yield a run's events. A torn line, as a killed run leaves at the end, is passed over.

    Where it is `strict`, MachineError is raised for it.
    """
    try:
        with (directory / EVENTS).open("rb") as file:
            for line in file:
                data = _object_of(line)
                if data is not None:
                    yield data
                elif strict:
                    raise MachineError(f"the log of run {directory.name} is damaged", hint="begin the task anew")
    except OSError:
        return


def read_patch(directory: Path, name: str = PATCH) -> bytes:
    """Return the patch that a run has kept so far, or the one that it began with; none where there is none."""
    try:
        return (directory / name).read_bytes()
    except OSError:
        return b""


def remove_run(run: Run) -> None:
    """Delete a run's directory. Raises MachineError."""
    try:
        shutil.rmtree(run.directory)
    except OSError as error:
        raise MachineError(f"can't remove {error.filename or run.directory}: {error.strerror}") from None


def _claim(directory: Path) -> HeldLock:
    deadline = time.monotonic() + CLAIM_SECONDS
    while (lock := take_lock(directory / LOCK)) is None:
        if time.monotonic() > deadline:
            raise MachineError(f"run {directory.name} is at work in another process", hint="wait until it has ended")
        time.sleep(POLL_SECONDS)
    return lock


def _is_running(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return is_taken(descriptor)
    finally:
        os.close(descriptor)


def _refuse_finished(run: Run) -> None:
    if run.result is not None and not run.unpublished and run.status != LIMIT:
        message = f"run {run.run_id} has come to its end: {run.status}"
        raise UsageError(message, hint=f"miyabi runs show {run.run_id} shows its result")


def _drop_torn_lines(path: Path) -> None:
    """Cut off what comes after the last whole event: half a line, or what a disk makes up when the power goes.

    It did not happen: an event that counts was whole on the disk.
    """
    with path.open("r+b") as file:
        whole = position = 0
        for line in file:
            position += len(line)
            if line.endswith(b"\n") and _object_of(line) is not None:
                whole = position
        file.truncate(whole)


def _load(directory: Path) -> Run:
    first = next((data for data in read_log(directory) if data.get("type") == "run_started"), {})
    result = _object(directory / RESULT)
    if result is not None and not isinstance(result.get("status"), str):
        result = None
    failure = _object(directory / ERROR)
    error = str(failure.get("message", "")) if failure else None
    status = str(result["status"]) if result else "running" if _is_running(directory) else STOPPED
    task, repository = str(first.get("task", "")), str(first.get("repository", ""))
    match first:
        case {"options": {"from": {"run_id": str(run_id)}}}:
            came_from: str | None = run_id
        case _:
            came_from = None
    return Run(
        directory.name, directory, task, repository, status, result, error, came_from, _is_unpublished(first, result)
    )


def _is_unpublished(first: dict[str, Any], result: dict[str, Any] | None) -> bool:
    match first, result or {}:
        case {"options": {"flags": {"draft_pr": True}}}, {"status": "verified", "branch": str(), **more}:
            return "pull_request" not in more
    return False


def _object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None where there is none."""
    try:
        return _object_of(path.read_bytes())
    except OSError:
        return None


def _object_of(text: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
