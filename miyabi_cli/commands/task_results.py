"""The file of `codegen --tasks --output`: a result a line, and beside it what is needed to go on after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from miyabi_cli.codegen.backlog import BacklogTask
from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.locks import try_lock
from miyabi_cli.places import data_dir

BEGINNING = b'{"id":'


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that has its result: the digest of what was asked, "" where the line does not say; and its exit code."""

    digest: str
    exit_code: int


class TaskResults:
    """Appends results, each on the disk before `write` returns; until the block's end no other process may write them.

    A torn last line, as a kill leaves it, is dropped. Raises UsageError for a file that holds something else, and
    MachineError for one that can't be written or that another process writes.

    The runs that were begun are noted in miyabi's own folder, a line `{"id", "digest", "run_id"}` each; once a task has
    its result, the run is "".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished: dict[str, Finished] = {}
        self._started: dict[str, tuple[str, str]] = {}
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise MachineError(f"can't write {path}: {error.strerror}") from None
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        self._journal: IO[bytes] | None = None
        try:
            self._is_kept = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if self._is_kept:
                self._take_up()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the file; what is noted of the runs goes with it where none of them can go on."""
        self._file.close()
        if self._journal is not None:
            self._journal.close()
            if not self._started:
                self._journal_path.unlink(missing_ok=True)

    def write(self, line: dict[str, Any]) -> None:
        """Append one result."""
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if self._is_kept:
                os.fdatasync(self._file.fileno())
        except OSError as error:
            raise MachineError(f"can't write {self.path}: {error.strerror}") from None
        if is_final(line):
            self._note(line["id"], "", "")

    def is_done(self, task: BacklogTask) -> bool:
        """Say whether a task, as it is asked for now, has its result."""
        done = self.finished.get(task.id)
        return done is not None and done.digest in ("", task.digest)

    def begin(self, task: BacklogTask, run_id: str) -> None:
        """Note which run a task has, in case that it is killed."""
        self._note(task.id, task.digest, run_id)

    def begun(self, task: BacklogTask) -> str | None:
        """Return the run that an earlier process began for a task."""
        digest, run_id = self._started.get(task.id, ("", ""))
        return run_id if digest == task.digest else None

    def _take_up(self) -> None:
        if not try_lock(self._file.fileno()):
            raise MachineError(f"another process writes {self.path}", hint="wait until it has ended")
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    self._drop(line, whole, number)
                    break
                whole += len(line)
                self._read(_object(line) if line.strip() else {}, number)
        name = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:20]
        self._journal_path = data_dir("tasks") / f"{name}.jsonl"
        self._journal = self._journal_path.open("a+b", buffering=0)
        for entry in _objects(self._journal):
            self._take(str(entry.get("id")), str(entry.get("digest")), str(entry.get("run_id")))

    def _note(self, name: str, digest: str, run_id: str) -> None:
        if self._journal is not None:
            self._take(name, digest, run_id)
            with contextlib.suppress(OSError):  # it then begins anew
                entry = {"id": name, "digest": digest, "run_id": run_id}
                self._journal.write(json.dumps(entry).encode() + b"\n")

    def _take(self, name: str, digest: str, run_id: str) -> None:
        done = self.finished.get(name)
        if run_id and (done is None or done.digest != digest):
            self._started[name] = (digest, run_id)
        else:
            self._started.pop(name, None)

    def _read(self, line: dict[str, Any] | None, number: int) -> None:
        if line is None or (line and not isinstance(line.get("id"), str)):
            raise self._not_results(number)
        if line and is_final(line):
            code = line.get("exit_code")
            self.finished[line["id"]] = Finished(str(line.get("digest", "")), code if isinstance(code, int) else 1)

    def _drop(self, torn: bytes, whole: int, number: int) -> None:
        if not (torn.startswith(BEGINNING) or BEGINNING.startswith(torn)):
            raise self._not_results(number)
        self._file.truncate(whole)

    def _not_results(self, number: int) -> UsageError:
        return UsageError(f"{self.path} is no file of results: line {number}", hint="--output names a new file")


def is_final(line: dict[str, Any]) -> bool:
    """Say whether a task need not be done again: it has a result, and not only a cap that let nothing be asked."""
    match line:
        case {"status": "verified" | "unverified" | "failed"}:
            return True
        case {"status": "limit", "usage": {"requests": int(requests)}}:
            return requests > 0
    return False


def _objects(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    file.seek(0)
    yield from (found for line in file if (found := _object(line)) is not None)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
