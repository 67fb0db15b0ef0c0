"""The ledger's file: SQLite for any number of processes and threads, made on demand, and brought to this version."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from miyabi_cli.errors import MachineError

VERSION = 2
BUSY_SECONDS = 20.0  # how long a process waits for the others' transactions of a millisecond

# What SQLite says of a file, or a folder, that can't be written.
UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)

_SCHEMA = """
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, moment REAL NOT NULL, day TEXT NOT NULL, month TEXT NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, command TEXT NOT NULL, repository TEXT NOT NULL, run_id TEXT NOT NULL,
    process INTEGER NOT NULL, reserved_nano INTEGER NOT NULL, reserved_tokens INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    input_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER, first_token_seconds REAL, seconds REAL
);
CREATE INDEX requests_day ON requests (day);
CREATE INDEX requests_open ON requests (settled) WHERE settled = 0;
CREATE TABLE totals (
    account TEXT PRIMARY KEY, spent_nano INTEGER NOT NULL DEFAULT 0, reserved_nano INTEGER NOT NULL DEFAULT 0,
    spent_tokens INTEGER NOT NULL DEFAULT 0, reserved_tokens INTEGER NOT NULL DEFAULT 0
)
"""
# What leads from each version to the next: a new file goes the whole way.
STEPS: tuple[str, ...] = (_SCHEMA, "ALTER TABLE requests ADD COLUMN holder TEXT NOT NULL DEFAULT ''")


class Database:
    """The file at `path`. Every operation raises MachineError where it can't be used, or is of a later version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction that no other process's can come between."""
        with self._lock, self._faults():
            self._connection = self._connection or self._opened()
            with _transaction(self._connection, "IMMEDIATE"):
                yield self._connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection within a transaction that keeps nobody from writing; None: there is no file yet.

        A file that can't be written is read as well.
        """
        with self._lock, self._faults(), contextlib.ExitStack() as opened:
            if self._connection is None and not self.path.exists():
                yield None
                return
            try:
                connection = self._connection = self._connection or self._opened()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in UNWRITABLE:
                    raise
                connection = opened.enter_context(contextlib.closing(_read_only(self.path)))
            with _transaction(connection, "DEFERRED"):
                yield connection

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MachineError(f"the ledger {self.path} can't be used: {error}", hint=_hint(error)) from None

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            connection.row_factory = sqlite3.Row
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            self._bring_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or bring those of an earlier version to this one; no row is lost."""
        if self._version(connection) == VERSION:
            return
        with _transaction(connection, "IMMEDIATE"):
            for step in STEPS[self._version(connection) :]:
                for statement in step.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise MachineError(f"the ledger {self.path} is of a later miyabi", hint="update miyabi")
        return version


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # where the disk is full, SQLite has done it by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _read_only(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that can't be written, such as one on a read-only disk.

    Where it has a write-ahead log that is not empty, that is read too.
    """
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; another process may be at it, and SQLite does not wait for that by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                or time.monotonic() > deadline
            ):
                raise
            time.sleep(0.01)
        else:
            return


def _hint(error: Exception) -> str:
    code = (
        error.sqlite_errorcode & 0xFF if isinstance(error, sqlite3.Error) and hasattr(error, "sqlite_errorcode") else 0
    )
    if code == sqlite3.SQLITE_FULL:
        return "make room on the disk, or let MIYABI_DATA_DIR name another folder"
    if code in UNWRITABLE:
        return "see that the folder is yours and can be written, or let MIYABI_DATA_DIR name another one"
    return "move the file away to begin a new one, or let MIYABI_DATA_DIR name another folder"
