"""The ledger: every request to a model in one SQLite file, and the caps that hold for all processes together.

A request reserves the most that it can cost before it is sent, in the transaction that looks at the caps, so that any
number of processes together stay below them. It is settled with what it has cost; what a process has left open that
died counts with all that it might. Money is counted in whole nano-US-dollars (a token costs some tens of them); days
and months are UTC's, as providers bill.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from miyabi_cli.errors import MachineError
from miyabi_cli.ledger.database import Database
from miyabi_cli.ledger.holders import Holder, hold, is_held
from miyabi_cli.ledger.records import Amount, Caps, Origin, Refusal, Reservation, Scope
from miyabi_cli.messages import Timing, Usage

FILE = "ledger.sqlite3"
HOLDERS = "ledger-holders"  # the folder of a lock for each process that has reserved something
LOOK_SECONDS = 2.0  # between two looks of one process for others that died, while it waits for what they hold

P = ParamSpec("P")
T = TypeVar("T")

_INSERT = """
INSERT INTO requests (moment, day, month, provider, model, command, repository, run_id, process, holder, reserved_nano,
    reserved_tokens)
VALUES (:moment, :day, :month, :provider, :model, :command, :repository, :run_id, :process, :holder, :reserved_nano,
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
        self._database = Database(path)
        self._holders = path.parent / HOLDERS
        self._holder: Holder | None = None
        self._looked = -LOOK_SECONDS
        self._thread: ThreadPoolExecutor | None = None

    def reserve(self, origin: Origin, amount: Amount, caps: Caps | None = None) -> Reservation | Refusal:
        """Put the most that a request can cost to the accounts of its month and its run, unless a cap forbids it."""
        moment = self._clock()
        accounts = (f"month {_month(moment)}", *((f"run {origin.run_id}",) if origin.run_id else ()))
        with self._database.writing() as connection:
            refusal = _refusal(connection, accounts, amount, caps or Caps())
            if refusal and refusal.may_come and time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                _settle_dead(connection, self._holders)
                refusal = _refusal(connection, accounts, amount, caps or Caps())
            if refusal:
                return refusal
            for account in accounts:
                connection.execute("INSERT OR IGNORE INTO totals (account) VALUES (?)", (account,))
                _add(connection, account, reserved=amount)
            spent, reserved = _totals(connection, accounts[0])
            row = {**dataclasses.asdict(origin), "moment": moment, "day": _day(moment), "month": _month(moment)}
            self._holder = self._holder or hold(self._holders)
            row |= {"process": os.getpid(), "holder": self._holder.name}
            row |= {"reserved_nano": amount.nano, "reserved_tokens": amount.tokens}
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
        with self._database.writing() as connection:
            changed = connection.execute(_UPDATE, row).rowcount
            for account in reservation.accounts if changed else ():
                _add(connection, account, spent=cost, reserved=reservation.amount.negative)

    def spent(self, *, run_id: str | None = None) -> Amount:
        """Return what this month, or a run, has cost so far."""
        account = f"month {_month(self._clock())}" if run_id is None else f"run {run_id}"
        with self._database.reading() as connection:
            return _totals(connection, account)[0] if connection else Amount()

    def rows(self, statement: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query; no other process waits for it, and none are where there is no ledger yet."""
        with self._database.reading() as connection:
            return list(connection.execute(statement, parameters)) if connection else []

    def settle_dead(self) -> None:
        """Settle what processes have left open that died, where there is any and the file can be written."""
        with self._database.reading() as connection:
            if not connection or not _dead(connection, self._holders):
                return
        with contextlib.suppress(MachineError), self._database.writing() as connection:
            _settle_dead(connection, self._holders)

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
        self._database.close()
        if self._holder is not None:
            self._holder.release()
            self._holder = None


def _dead(connection: sqlite3.Connection, holders: Path) -> list[sqlite3.Row]:
    """Return the open requests whose process is not there any more; before version 2 they had no holder."""
    rows = connection.execute("SELECT * FROM requests WHERE settled = 0").fetchall()
    held = {holder: is_held(holders, holder) for holder in {row["holder"] for row in rows} if holder}
    return [row for row in rows if not (held[row["holder"]] if row["holder"] else _is_alive(row["process"]))]


def _settle_dead(connection: sqlite3.Connection, holders: Path) -> None:
    """Count the requests of processes that died as having cost all that they might: nobody knows any better."""
    for row in _dead(connection, holders):
        amount = Amount(row["reserved_nano"], row["reserved_tokens"])
        cost = row["reserved_nano"] if not row["reserved_tokens"] else None
        statement = "UPDATE requests SET settled = 1, error = 'lost', cost_nano = ? WHERE id = ?"
        connection.execute(statement, (cost, row["id"]))
        for account in (f"month {row['month']}", *((f"run {row['run_id']}",) if row["run_id"] else ())):
            _add(connection, account, spent=amount, reserved=amount.negative)


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
