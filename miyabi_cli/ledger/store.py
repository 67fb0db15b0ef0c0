"""The ledger: every request to a model in one SQLite file, and the caps that hold for all processes together.

A request reserves the most that it can cost before it is sent, in the transaction that looks at the caps, so that any
number of processes together stay below them. It is settled with what it has cost. Money is counted in whole nano-US-
dollars (a token costs some tens of them); days and months are UTC's, as providers bill.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from miyabi_cli.errors import MachineError
from miyabi_cli.ledger.records import Amount, Caps, Origin, Refusal, Reservation, Scope
from miyabi_cli.messages import Timing, Usage

VERSION = 1
FILE = "ledger.sqlite3"
BUSY_SECONDS = 20.0  # how long a process waits for the others' transactions of a millisecond
STALE_SECONDS = 3_600.0  # no request is under way for longer

P = ParamSpec("P")
T = TypeVar("T")

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
);
"""

_INSERT = """
INSERT INTO requests (moment, day, month, provider, model, command, repository, run_id, process, reserved_nano,
    reserved_tokens)
VALUES (:moment, :day, :month, :provider, :model, :command, :repository, :run_id, :process, :reserved_nano,
    :reserved_tokens)
"""
_UPDATE = """
UPDATE requests SET settled = 1, input_tokens = ?, cached_tokens = ?, output_tokens = ?, reasoning_tokens = ?,
    cost_nano = ?, first_token_seconds = ?, seconds = ?, error = ?
WHERE id = ? AND settled = 0
"""


class Ledger:
    """The ledger in a file, made on demand; for any number of processes and threads. `clock` gives Unix seconds.

    Every operation raises MachineError where the file can't be read or written, or is of a later version.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    def reserve(self, origin: Origin, amount: Amount, caps: Caps | None = None) -> Reservation | Refusal:
        """Put the most that a request can cost to the accounts of its month and its run, unless a cap forbids it."""
        moment = self._clock()
        accounts = (f"month {_month(moment)}", *((f"run {origin.run_id}",) if origin.run_id else ()))
        with self._transaction() as connection:
            refusal = _refusal(connection, accounts, amount, caps or Caps())
            if refusal and refusal.may_come:
                self._settle_dead(connection, moment)
                refusal = _refusal(connection, accounts, amount, caps or Caps())
            if refusal:
                return refusal
            for account in accounts:
                connection.execute("INSERT OR IGNORE INTO totals (account) VALUES (?)", (account,))
                _add(connection, account, reserved=amount)
            spent, reserved = _totals(connection, accounts[0])
            row = {**dataclasses.asdict(origin), "moment": moment, "day": _day(moment), "month": _month(moment)}
            row |= {"process": os.getpid(), "reserved_nano": amount.nano, "reserved_tokens": amount.tokens}
            number = connection.execute(_INSERT, row).lastrowid
        return Reservation(number or 0, accounts, amount, spent.nano + reserved.nano)

    def settle(
        self, reservation: Reservation, usage: Usage, cost: Amount, *, timing: Timing | None = None, error: str = ""
    ) -> None:
        """Put what a request has cost in the place of what was reserved for it; a second time changes nothing.

        `usage.cost_usd` None is kept as a price that is not known; `error` is the kind of the error that ended it.
        """
        timing = timing or Timing()
        nano = None if usage.cost_usd is None else cost.nano
        tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
        row = (*tokens, nano, timing.first_token, timing.total, error, reservation.id)
        with self._transaction() as connection:
            changed = connection.execute(_UPDATE, row).rowcount
            for account in reservation.accounts if changed else ():
                _add(connection, account, spent=cost, reserved=reservation.amount.negative)

    def spent(self, *, run_id: str | None = None) -> Amount:
        """Return what this month, or a run, has cost so far."""
        account = f"month {_month(self._clock())}" if run_id is None else f"run {run_id}"
        with self._transaction() as connection:
            return _totals(connection, account)[0]

    def rows(self, statement: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query of `miyabi usage`."""
        with self._transaction() as connection:
            return list(connection.execute(statement, parameters))

    def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run something on the ledger in its own thread: who waits for the file holds no thread that others need."""
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="ledger")
        work = functools.partial(function, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Give the file back, when all is done that was begun in its thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _settle_dead(self, connection: sqlite3.Connection, moment: float) -> None:
        """Count the requests of processes that died as having cost all that they might: nobody knows any better."""
        open_ones = connection.execute("SELECT * FROM requests WHERE settled = 0").fetchall()
        for row in open_ones:
            if row["moment"] > moment - STALE_SECONDS and _is_alive(row["process"]):
                continue
            amount = Amount(row["reserved_nano"], row["reserved_tokens"])
            cost = row["reserved_nano"] if not row["reserved_tokens"] else None
            statement = "UPDATE requests SET settled = 1, error = 'lost', cost_nano = ? WHERE id = ?"
            connection.execute(statement, (cost, row["id"]))
            for account in (f"month {row['month']}", *((f"run {row['run_id']}",) if row["run_id"] else ())):
                _add(connection, account, spent=amount, reserved=amount.negative)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within a transaction that writes, which no other process's can come between."""
        with self._lock:
            try:
                connection = self._connection = self._connection or self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                hint = "move the file away to begin a new one, or let MIYABI_DATA_DIR name another folder"
                raise MachineError(f"the ledger {self.path} can't be used: {error}", hint=hint) from None

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
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise MachineError(f"the ledger {self.path} is of a later miyabi", hint="update miyabi")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def _refusal(connection: sqlite3.Connection, accounts: tuple[str, ...], amount: Amount, caps: Caps) -> Refusal | None:
    scopes: tuple[tuple[Scope, Amount | None], ...] = (("month", caps.month), ("run", caps.run))
    for (scope, cap), account in zip(scopes, accounts, strict=False):
        if cap is None:
            continue
        spent, reserved = _totals(connection, account)
        alone = _passes(spent, amount, cap)
        if alone or _passes(spent, Amount(reserved.nano + amount.nano, reserved.tokens + amount.tokens), cap):
            return Refusal(scope, cap, spent, may_come=not alone)
    return None


def _passes(spent: Amount, more: Amount, cap: Amount) -> bool:
    """Say whether the cap would be passed in that of the two in which something is asked for."""
    return (more.nano > 0 and spent.nano + more.nano > cap.nano) or (
        more.tokens > 0 and spent.tokens + more.tokens > cap.tokens
    )


def _totals(connection: sqlite3.Connection, account: str) -> tuple[Amount, Amount]:
    row = connection.execute("SELECT * FROM totals WHERE account = ?", (account,)).fetchone()
    if row is None:
        return Amount(), Amount()
    return Amount(row["spent_nano"], row["spent_tokens"]), Amount(row["reserved_nano"], row["reserved_tokens"])


_NOTHING = Amount()


def _add(
    connection: sqlite3.Connection, account: str, *, spent: Amount = _NOTHING, reserved: Amount = _NOTHING
) -> None:
    connection.execute(
        "UPDATE totals SET spent_nano = spent_nano + ?, spent_tokens = spent_tokens + ?, "
        "reserved_nano = reserved_nano + ?, reserved_tokens = reserved_tokens + ? WHERE account = ?",
        (spent.nano, spent.tokens, reserved.nano, reserved.tokens, account),
    )


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


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _month(moment: float) -> str:
    return _day(moment)[:7]
