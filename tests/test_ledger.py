"""The ledger: caps that many processes can't pass together, months that end, requests whose process died."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.ledger import database
from miyabi_cli.ledger.holders import is_held
from miyabi_cli.ledger.records import NANO, Amount, Caps, Origin, Refusal, Reservation
from miyabi_cli.ledger.store import HOLDERS, Ledger
from miyabi_cli.messages import Timing, Usage
from tests.support.disks import largest_file

ORIGIN = Origin("groq", "openai/gpt-oss-20b", "codegen", "/repo", "r1")

# Each asks thirty times for up to ten, and spends from four to ten; it prints what it has spent.
SPENDER = """
import sys
from pathlib import Path
from miyabi_cli.ledger.records import Amount, Caps, Origin, Refusal
from miyabi_cli.ledger.store import Ledger
from miyabi_cli.messages import Usage
ledger, spent = Ledger(Path(sys.argv[1])), 0
for number in range(30):
    origin = Origin("groq", "m", "codegen", "/r", f"run{sys.argv[2]}")
    got = ledger.reserve(origin, Amount(10), Caps(month=Amount(2000), run=Amount(90)))
    if isinstance(got, Refusal):
        continue
    cost = 4 + (number * 7 + int(sys.argv[2])) % 7
    ledger.settle(got, Usage(1, 5, 0, 5, 0, cost / 1e9), Amount(cost))
    spent += cost
print(spent)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "data" / "ledger.sqlite3")


def reserved(ledger: Ledger, amount: Amount, caps: Caps | None = None, origin: Origin = ORIGIN) -> Reservation:
    found = ledger.reserve(origin, amount, caps)
    assert isinstance(found, Reservation)
    return found


def test_what_is_settled_is_counted(ledger: Ledger) -> None:
    one = reserved(ledger, Amount(500))
    assert ledger.spent() == Amount()
    usage = Usage(1, 1000, 200, 50, 10, 300 / NANO)
    ledger.settle(one, usage, Amount(300), timing=Timing(0.25, 1.5))
    ledger.settle(one, usage, Amount(300))
    assert ledger.spent() == ledger.spent(run_id="r1") == Amount(300)
    assert ledger.spent(run_id="r2") == Amount()
    (row,) = ledger.rows("SELECT * FROM requests")
    kept = {key: row[key] for key in ("provider", "command", "repository", "input_tokens", "cached_tokens", "seconds")}
    assert kept == {
        "provider": "groq",
        "command": "codegen",
        "repository": "/repo",
        "input_tokens": 1000,
        "cached_tokens": 200,
        "seconds": 1.5,
    }
    assert (row["cost_nano"], row["first_token_seconds"], row["error"]) == (300, 0.25, "")
    ledger.close()
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_a_cap_refuses_what_could_pass_it(ledger: Ledger) -> None:
    caps = Caps(month=Amount(1000))
    one = reserved(ledger, Amount(600), caps)
    refused = ledger.reserve(ORIGIN, Amount(600), caps)
    assert refused == Refusal("month", Amount(1000), Amount(), may_come=True)
    ledger.settle(one, Usage(1, cost_usd=500 / NANO), Amount(500))
    assert ledger.reserve(ORIGIN, Amount(501), caps) == Refusal("month", Amount(1000), Amount(500), may_come=False)
    reserved(ledger, Amount(500), caps)
    ledger.close()


def test_a_run_has_a_cap_of_its_own(ledger: Ledger) -> None:
    caps = Caps(month=Amount(1000), run=Amount(100))
    reserved(ledger, Amount(100), caps)
    refused = ledger.reserve(ORIGIN, Amount(1), caps)
    assert isinstance(refused, Refusal)
    assert refused.scope == "run"
    reserved(ledger, Amount(100), caps, Origin("groq", "m", run_id="r2"))
    ledger.close()


def test_tokens_are_capped_where_there_is_no_price(ledger: Ledger) -> None:
    caps = Caps(month=Amount(nano=10, tokens=5000))
    one = reserved(ledger, Amount(tokens=4000), caps)
    ledger.settle(one, Usage(1, 3000, 0, 500, 0, None), Amount(tokens=3500))
    assert isinstance(ledger.reserve(ORIGIN, Amount(tokens=1501), caps), Refusal)
    reserved(ledger, Amount(nano=10), caps)
    assert ledger.rows("SELECT cost_nano FROM requests WHERE settled")[0][0] is None
    ledger.close()


def test_a_month_that_ends_frees_its_cap(tmp_path: Path) -> None:
    now = [1_764_547_199.0]  # 2025-11-30 23:59:59 UTC
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: now[0])
    caps = Caps(month=Amount(100))
    before = reserved(ledger, Amount(100), caps)
    now[0] += 1.0
    after = reserved(ledger, Amount(100), caps)
    ledger.settle(before, Usage(1, cost_usd=90 / NANO), Amount(90))  # a request belongs to the month of its start
    assert ledger.spent() == Amount()
    ledger.settle(after, Usage(1, cost_usd=20 / NANO), Amount(20))
    assert ledger.spent() == Amount(20)
    assert [row["month"] for row in ledger.rows("SELECT month FROM requests")] == ["2025-11", "2025-12"]
    ledger.close()


def test_fifty_processes_stay_below_the_cap_together(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    command = [sys.executable, "-c", SPENDER, str(path)]
    spenders = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE) for number in range(50)]
    spent = [int(spender.communicate()[0]) for spender in spenders]
    assert [spender.returncode for spender in spenders] == [0] * 50
    ledger = Ledger(path)
    assert sum(spent) == ledger.spent().nano
    assert 2000 - 10 < sum(spent) <= 2000
    assert max(spent) <= 90
    (open_ones,) = ledger.rows("SELECT COUNT(*) FROM requests WHERE NOT settled")[0]
    assert open_ones == 0
    ledger.close()


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    granted: list[int] = []

    def spend() -> None:
        for _ in range(20):
            found = ledger.reserve(ORIGIN, Amount(10), Caps(month=Amount(500)))
            if isinstance(found, Reservation):
                granted.append(found.id)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == len(set(granted)) == 50
    ledger.close()


def test_a_process_that_died_has_cost_what_it_might(ledger: Ledger) -> None:
    dies = f"""
import os
from pathlib import Path
from miyabi_cli.ledger.records import Amount, Origin
from miyabi_cli.ledger.store import Ledger
Ledger(Path({str(ledger.path)!r})).reserve(Origin("groq", "m", run_id="dead"), Amount(700))
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", dies], check=False)
    caps = Caps(month=Amount(1000))
    assert ledger.reserve(ORIGIN, Amount(400), caps) == Refusal("month", Amount(1000), Amount(700), may_come=False)
    reserved(ledger, Amount(300), caps)
    assert ledger.spent(run_id="dead") == Amount(700)
    assert ledger.rows("SELECT error FROM requests WHERE run_id = 'dead'")[0][0] == "lost"
    (own,) = (ledger.path.parent / HOLDERS).iterdir()
    assert is_held(own.parent, own.name), "what the dead one has left is swept away"
    ledger.close()
    assert not own.exists()


def test_what_is_open_is_held_by_a_lock_whatever_the_clock_and_the_numbers_of_processes_say(tmp_path: Path) -> None:
    now = [1_764_547_199.0]
    path = tmp_path / "ledger.sqlite3"
    ledger, other = (Ledger(path, clock=lambda: now[0]) for _ in range(2))
    reserved(ledger, Amount(700))
    now[0] += 86_400.0
    other.settle_dead()
    assert [row["settled"] for row in other.rows("SELECT settled FROM requests")] == [0]
    ledger.close()  # this process goes on, and its number with it
    other.settle_dead()
    (row,) = other.rows("SELECT * FROM requests")
    assert (row["settled"], row["error"], row["cost_nano"], row["process"]) == (1, "lost", 700, os.getpid())
    other.close()


def test_a_ledger_of_version_1_is_brought_up_with_all_its_rows(tmp_path: Path) -> None:
    """The table as version 1 made it: an open row of a live process is held, that of a dead one is lost."""
    path = tmp_path / "ledger.sqlite3"
    old = sqlite3.connect(path)
    for statement in database.STEPS[0].split(";"):
        old.execute(statement)
    old.execute("PRAGMA user_version = 1")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    row = "INSERT INTO requests VALUES (NULL, 1.0, '2025-11-30', '2025-11', 'groq', 'm', '', '', 'r', ?, ?, 0, ?"
    row += ", '', 0, 0, 0, 0, ?, NULL, NULL)"
    for process, reserve, settled, cost in ((1, 0, 1, 9), (os.getpid(), 70, 0, None), (gone.pid, 80, 0, None)):
        old.execute(row, (process, reserve, settled, cost))
    old.execute("INSERT INTO totals VALUES ('month 2025-11', 9, 150, 0, 0), ('run r', 9, 150, 0, 0)")
    old.commit()
    old.close()
    ledger = Ledger(path)
    assert ledger.spent(run_id="r") == Amount(9)
    ledger.settle_dead()
    rows = ledger.rows("SELECT * FROM requests ORDER BY id")
    assert [(row["settled"], row["cost_nano"], row["error"]) for row in rows] == [
        (1, 9, ""),
        (0, None, ""),
        (1, 80, "lost"),
    ]
    assert ledger.spent(run_id="r") == Amount(89)
    reserved(ledger, Amount(1))
    assert ledger.rows("PRAGMA user_version")[0][0] == database.VERSION
    ledger.close()


def test_readers_wait_for_no_writer_and_make_no_file(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.sqlite3"
    reader = Ledger(path)
    assert (reader.spent(), reader.rows("SELECT * FROM requests"), path.parent.exists()) == (Amount(), [], False)
    writer = Ledger(path)
    reserved(writer, Amount(5))
    busy = sqlite3.connect(path, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    reader.settle_dead()
    assert len(reader.rows("SELECT * FROM requests")) == 1
    busy.execute("ROLLBACK")
    for one in (busy, reader, writer):
        one.close()


@pytest.mark.parametrize("content", [b"not a database at all, but a text" * 100, None])
def test_a_file_that_is_no_ledger_is_an_error_of_the_machine(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.sqlite3"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(MachineError, match="can't be used") as caught:
        Ledger(path).reserve(ORIGIN, Amount(1))
    assert caught.value.hint
    assert content is None or path.read_bytes() == content


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(MachineError, match="later"):
        Ledger(path).spent()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_read(ledger: Ledger) -> None:
    one = reserved(ledger, Amount(5))
    ledger.settle(one, Usage(1, cost_usd=4 / NANO), Amount(4))
    reserved(ledger, Amount(7))
    ledger.close()
    ledger.path.chmod(0o400)
    ledger.path.parent.chmod(0o500)
    try:
        ledger.settle_dead()
        assert ledger.spent() == Amount(4)
        with pytest.raises(MachineError, match="readonly") as caught:
            ledger.reserve(ORIGIN, Amount(1))
        assert "can be written" in (caught.value.hint or "")
    finally:
        ledger.path.parent.chmod(0o700)


def test_a_disk_that_is_full_is_an_error_and_keeps_what_is_there(ledger: Ledger) -> None:
    reserved(ledger, Amount(5))
    ledger.close()

    def fill() -> None:
        for _ in range(3000):
            reserved(ledger, Amount(1))

    with largest_file(200_000), pytest.raises(MachineError, match="can't be used") as caught:
        fill()
    assert caught.value.hint
    ledger.close()
    count = len(ledger.rows("SELECT * FROM requests"))
    assert count > 1
    reserved(ledger, Amount(1))
    assert len(ledger.rows("SELECT * FROM requests")) == count + 1
    ledger.close()
