"""`miyabi usage`: sums over the ledger, in each grouping and format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.ledger.records import NANO, Amount, Origin, Reservation
from miyabi_cli.ledger.store import Ledger
from miyabi_cli.ledger.summary import GROUPINGS, Spending, projection, spending, total
from miyabi_cli.messages import Timing, Usage
from miyabi_cli.report.usage import write_csv
from tests.conftest import Miyabi, Ran
from tests.support.schemas import validate

DAY = 86_400.0
Usages = Callable[..., Ran]
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def put(ledger: Ledger, origin: Origin, tokens: int, usd: float | None, error: str = "") -> None:
    one = ledger.reserve(origin, Amount(NANO))
    assert isinstance(one, Reservation)
    cost = Amount(round((usd or 0) * NANO))
    ledger.settle(one, Usage(1, tokens, 0, 10, 0, usd), cost, timing=Timing(0.1, 2.0), error=error)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder whose ledger has ten days of requests up to noon of 2026-03-10."""
    moment = [0.0]
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: moment[0])
    for day in range(12):
        moment[0] = NOW.timestamp() - day * DAY
        put(ledger, Origin("groq", "gpt-oss-20b", "codegen", "/a", f"r{day}"), 1000, 0.5)
        put(ledger, Origin("vllm", "gpt-oss-20b", "review", "/b", f"r{day}"), 2000, 0.0)
    moment[0] = NOW.timestamp()
    put(ledger, Origin("openai", "\x1b[31mevil", "triage", "/c", "x"), 50, None, "provider_overloaded")
    ledger.close()
    return tmp_path


@pytest.fixture
def usage(miyabi: Miyabi) -> Usages:
    """Run the command over the ledger in a data folder."""
    return lambda data, *arguments: miyabi("usage", *arguments, env={"MIYABI_DATA_DIR": str(data)})


def test_groups_and_their_sums(data: Path) -> None:
    ledger = Ledger(data / "ledger.sqlite3")
    rows = spending(ledger, "provider")
    assert [(row.key, row.requests, row.cost_usd, row.unpriced, row.failed) for row in rows] == [
        ("groq", 12, 6.0, 0, 0),
        ("vllm", 12, 0.0, 0, 0),
        ("openai", 1, None, 1, 1),
    ]
    days = spending(ledger, "day", since=date(2026, 3, 8), until=date(2026, 3, 9))
    assert [(row.key, row.requests, row.input_tokens, row.seconds) for row in days] == [
        ("2026-03-08", 2, 3000, 4.0),
        ("2026-03-09", 2, 3000, 4.0),
    ]
    for grouping in GROUPINGS:
        assert sum(row.requests for row in spending(ledger, grouping)) == total(ledger).requests == 25
    ledger.close()


def test_where_the_month_is_going(data: Path) -> None:
    ledger = Ledger(data / "ledger.sqlite3")
    found = projection(ledger, NOW)
    assert (found.month, found.spent_usd, found.days_gone, found.days) == ("2026-03", 5.0, 9.5, 31)
    assert found.projected_usd == pytest.approx(5.0 / 9.5 * 31)
    early = projection(ledger, datetime(2026, 3, 1, 1, tzinfo=UTC))
    assert early.projected_usd == pytest.approx(5.0 * 31), "the first hour of a month is no whole day"
    ledger.close()


def test_json_is_as_its_schema_says(data: Path, usage: Usages) -> None:
    done = usage(data, "--by", "model", "--all", "--format", "json")
    assert (done.code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    validate(found, "usage")
    assert found["total"]["requests"] == 25
    assert (found["total"]["cost_usd"], found["total"]["unpriced"]) == (6.0, 1)
    assert [row["cost_usd"] for row in found["rows"]] == [6.0, None], "what nobody knows is not 0"
    assert found["month"]["budget_usd"] == 50


def test_csv_is_read_back_and_holds_no_formula(data: Path, tmp_path: Path, usage: Usages) -> None:
    file = tmp_path / "usage.csv"
    done = usage(data, "--by", "provider", "--all", "--format", "csv", "--output", str(file))
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[0]["provider"], rows[0]["requests"], rows[0]["cost_usd"]) == ("groq", "12", "6.0")
    assert {row["provider"]: row["cost_usd"] for row in rows} == {"groq": "6.0", "vllm": "0.0", "openai": ""}
    formula = Spending("=HYPERLINK(1)", 1, 0, 0, 0, 0, 0, 0, 0.0, 0, 0.0)
    text = io.StringIO()
    write_csv("model", [formula], text)
    assert text.getvalue().splitlines()[1].startswith("'=HYPERLINK(1),1,")


def test_the_table_is_plain(data: Path, usage: Usages) -> None:
    done = usage(data, "--by", "model", "--all")
    assert done.code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "requests", "failed", "input", "cached", "output", "cost", "USD"]
    assert lines[2].split() == ["gpt-oss-20b", "24", "0", "36,000", "0", "240", "6.0000"]
    assert (lines[3].split()[-1], lines[5].split()[-1]) == ("unknown", "6.0000+")
    assert "\x1b" not in done.stdout
    assert "1 request had no known price" in done.stdout
    assert "of 50 USD" in lines[-1]


def test_where_no_price_is_known_the_month_s_cost_is_not_known_either(tmp_path: Path, usage: Usages) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    put(ledger, Origin("openai", "m", run_id="r"), 50, None)
    ledger.close()
    found = json.loads(usage(tmp_path, "--format", "json").stdout)
    validate(found, "usage")
    assert (found["month"]["spent_usd"], found["month"]["projected_usd"], found["total"]["cost_usd"]) == (None,) * 3
    assert usage(tmp_path).stdout.endswith(": no price is known of what was asked\n")


def test_nothing_was_asked_yet(tmp_path: Path, usage: Usages) -> None:
    done = usage(tmp_path, "--format", "json")
    assert done.code == 0
    assert json.loads(done.stdout)["rows"] == []
    assert usage(tmp_path).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "--since yesterday is no day"),
        (("--since", "2026-02-02", "--until", "2026-02-01"), "is after"),
        (("--all", "--since", "2026-02-02"), "exclude each other"),
        (("--by", "hour"), "hour"),
    ],
)
def test_wrong_flags(tmp_path: Path, usage: Usages, arguments: tuple[str, ...], said: str) -> None:
    done = usage(tmp_path, *arguments)
    assert done.code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_damaged_ledger_is_an_error_with_a_hint(tmp_path: Path, usage: Usages) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"no database" * 1000)
    done = usage(tmp_path)
    assert done.code == 4
    assert done.stderr.startswith("error: the ledger ")
    assert "hint: " in done.stderr
