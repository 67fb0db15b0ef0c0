"""`miyabi bench compare`: what two documents have in common, what differs, and what may be chance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from miyabi_cli.bench.comparing import Change, compare
from miyabi_cli.bench.document import read_document
from miyabi_cli.bench.statistics import compare_intervals, compare_pairs, mcnemar, wilson_interval
from miyabi_cli.errors import MachineError, UsageError
from tests.conftest import Miyabi
from tests.support.schemas import validate
from tests.test_bench_documents import ENVIRONMENT, document, level, read, trial


def write(folder: Path, **documents: Any) -> None:
    for name, data in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(data))


def change_of(first: Any, second: Any, figure: str) -> Change:
    changes = compare(read(first), read(second)).changes
    return next(change for change in changes if change.figure == figure)


def test_a_slower_server_is_a_regression(miyabi: Miyabi, tmp_path: Path) -> None:
    other = {**ENVIRONMENT, "model": "other|model", "hardware": {**ENVIRONMENT["hardware"], "cores": 4}}
    write(
        tmp_path,
        a=document("serve", level(1, 100, 2), level(10, 200, 4), level(99, 5)),
        b=document("serve", level(10, 202, 4), level(1, 140, 2, errors={"timeout": 30}), environment=other),
    )
    shown = miyabi("bench", "compare", "a.json", "b.json")
    assert (shown.code, shown.stderr) == (1, "")  # 40 % of 5, and not by chance
    assert "regressions of more than 5 %, and not by chance" in shown.stdout
    for words in ("model differs: a-model, then other|model", "hardware, cores differs: 2, then 4", "99 in parallel"):
        assert words in shown.stdout
    same = miyabi("bench", "compare", "a.json", "a.json", "--fail-on-regression", "0")
    assert (same.code, "0 regressions of more than 0 %" in same.stdout, "REGRESSION" in same.stdout) == (0, True, False)
    assert miyabi("bench", "compare", "a.json", "b.json", "--fail-on-regression", "nan").code == 2
    failing = ("bench", "compare", "a.json", "b.json", "--fail-on-regression", "30")
    ran = miyabi(*failing, "-o", "c.json", "--html", "c.html")
    assert ran.code == 1
    rows = [line.split("  ") for line in ran.stdout.splitlines() if line.endswith("REGRESSION")]
    assert {row[0] for row in rows} == {"1 in parallel"}
    assert "13 regressions of more than 30 %" in ran.stdout
    data = json.loads((tmp_path / "c.json").read_text())
    validate(data, "bench_compare")
    assert data["summary"]["regressed"] is True
    assert data["summary"]["only_in_first"] == ["99 in parallel"]
    ten = {one["figure"]: one["verdict"] for one in data["results"] if one["group"] == "10 in parallel"}
    assert (ten["e2e_ms p50"], ten["errors"]) == ("same", "same")
    failed = next(one for one in data["results"] if (one["group"], one["figure"]) == ("1 in parallel", "errors"))
    assert (failed["before"], failed["after"], failed["change_percent"], failed["regression"]) == (0, 0.3, None, True)
    page = (tmp_path / "c.html").read_text()
    for words in ("a.json p99", "b.json p99", "13 regressed", "REGRESSION"):
        assert words in page
    markdown = miyabi(*failing, "-f", "markdown")
    assert markdown.code == 1
    assert "| 1 in parallel | `first token mean, ms` | 100 | 140 | +40.0 % | +37.2 to +42.8 |" in markdown.stdout
    assert "other\\|model" in markdown.stdout


def test_lost_tasks_are_told_and_chance_is_not_a_regression(miyabi: Miyabi, tmp_path: Path) -> None:
    names = [f"task-{number}" for number in range(20)]
    write(
        tmp_path,
        all=document("codegen", *(trial(name, True) for name in names)),
        most=document("codegen", *(trial(name, name != "task-3") for name in names)),
        half=document("codegen", *(trial(name, number % 2 > 0, 0.02) for number, name in enumerate(names))),
    )
    ran = miyabi("bench", "compare", "all.json", "most.json", "--fail-on-regression", "1", "-f", "json")
    assert ran.code == 0
    data = json.loads(ran.stdout)
    validate(data, "bench_compare")
    assert (data["summary"]["lost"], data["summary"]["won"]) == (["task-3"], [])
    rate = data["results"][0]
    assert (rate["figure"], rate["before"], rate["after"], rate["p_value"]) == ("pass_rate", 1, 0.95, 1)
    assert (rate["significant"], rate["verdict"], rate["method"]) == (False, "same", "McNemar")
    ran = miyabi("bench", "compare", "all.json", "half.json", "--fail-on-regression", "10", "--html", "page.html")
    assert ran.code == 1
    rows = {line.split("  ")[0] for line in ran.stdout.splitlines() if line.endswith("REGRESSION")}
    assert rows == {"pass rate", "cost, USD"}
    assert "passed before, fails now: task-0, task-2" in ran.stdout
    assert re.search(r"^pass rate +100.0 % +50.0 % +-50.0 % +-70.1 to -24.3 points ", ran.stdout, re.MULTILINE)
    page = (tmp_path / "page.html").read_text()
    for words in ("Pass rate by effort", "Cost against pass rate", "all.json, a-model: 100.0 %"):
        assert words in page


def test_what_can_not_be_compared_is_said(miyabi: Miyabi, tmp_path: Path) -> None:
    newer = {**document("serve", level(1, 5)), "version": 2}
    write(tmp_path, a=document("serve", level(1, 5)), b=document("triage", trial("x", True)), c=newer)
    ran = miyabi("bench", "compare", "a.json", "b.json", "-f", "json")
    assert ran.code == 2
    assert json.loads(ran.stdout)["error"]["kind"] == "usage"
    validate(json.loads(ran.stdout), "error")
    assert "of bench serve and one of bench triage can't be compared\nhint: " in ran.stderr
    ran = miyabi("bench", "compare", "a.json", "c.json", "-o", "a.json")
    assert (ran.code, ran.stdout, ran.stderr.partition("\n")[0]) == (2, "", "error: a.json would be written over")
    with pytest.raises(UsageError, match="is of version 2"):
        read_document(tmp_path / "c.json")
    with pytest.raises(MachineError, match="can't read"):
        read_document(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="no level of load in common"):
        compare(read(document("serve", level(1, 5))), read(document("serve", level(2, 5))))


def test_where_nothing_tells_chance_apart_the_percentage_decides() -> None:
    bare = [document("serve", level(1, mean)) for mean in (100, 150)]
    slower = change_of(*bare, "e2e_ms mean")
    assert (slower.verdict, slower.percent, slower.is_regression(40), slower.is_regression(60)) == (
        "unclear",
        50,
        True,
        False,
    )
    few = [document("codegen", trial("a", passed)) for passed in (True, False)]
    assert change_of(*few, "pass_rate").is_regression(10)
    unbounded = [document("serve", level(1, mean, 5)) for mean in (100, 150)]
    for one in unbounded:
        one["results"][0]["e2e_ms"]["intervals"]["p99"] = None
    noisy = change_of(*unbounded, "e2e_ms p99")
    assert (noisy.verdict, noisy.is_regression(10)) == ("unclear", False)
    answered_none = {name: None for name in ("mean", "p50", "p90", "p99")}
    dead = document("serve", level(1, 5, errors={"refused": 100}, e2e_ms=answered_none, goodput=0.0))
    found = {one.figure: one for one in compare(read(document("serve", level(1, 5))), read(dead)).changes}
    assert found["e2e_ms p50"].percent is None
    assert found["errors"].is_regression(50)
    assert found["goodput"].is_regression(50)


def test_trials_of_one_task_count_as_one_task() -> None:
    first = document("codegen", *(trial(f"t{n % 8}", True, trial=1 + n // 8) for n in range(24)))
    second = document("codegen", *(trial(f"t{n % 8}", n % 8 > 0, trial=1 + n // 8) for n in range(24)))
    rate = change_of(first, second, "pass_rate")
    assert (rate.before, rate.after, rate.difference.method) == (1, 0.875, "bootstrap")
    assert rate.verdict == "same"  # three trials lost, but of one task in eight


def test_the_figures_are_those_of_other_implementations() -> None:
    """Expected are scipy 1.17 (binomtest), and Newcombe 1998, table II, rows (a) and (e), method 10.

    Of pairs: Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33, 2850, airways and transplants.
    """
    assert wilson_interval(7, 10) == pytest.approx((0.39677814746114526, 0.8922087325936989))
    assert wilson_interval(0, 5) == pytest.approx((0, 0.43448246478317465))
    assert wilson_interval(0, 0) is None
    assert mcnemar(20, 10, 2, 18).p_value == pytest.approx(0.03857421875)
    assert mcnemar(0, 0, 6, 0).p_value == pytest.approx(0.03125)
    assert mcnemar(1, 1, 7, 12).interval == pytest.approx((0.026, 0.507), abs=5e-4)
    assert compare_pairs([1.0, 3.0] * 600).interval == pytest.approx((2 - 0.0566, 2 + 0.0566), abs=1e-4)
    shares = [(56, 70, 48, 80, (0.0524, 0.3339)), (5, 56, 0, 29, (-0.0381, 0.1926))]
    for part, whole, other, others, expected in shares:
        ends = wilson_interval(other, others), wilson_interval(part, whole)
        assert ends[0] is not None
        assert ends[1] is not None
        found = compare_intervals(other / others, ends[0], part / whole, ends[1]).interval
        assert found == pytest.approx(expected, abs=5e-5)


def test_the_figures_are_those_of_textbooks() -> None:
    # Agresti, Categorical Data Analysis, 2nd edition, 10.1: of 1,600 people 150 and 86 changed their opinion
    found = mcnemar(794, 150, 86, 570)
    assert found.p_value == pytest.approx(3.1e-5, rel=0.3)  # z is -4.17, where ours is exact
    assert found.interval == pytest.approx((-0.059, -0.021), abs=0.003)
    # Efron and Tibshirani, An Introduction to the Bootstrap, tables 2.1 and 2.2: seven mice, standard error 23.36
    ends = compare_pairs([94, 197, 16, 38, 99, 141, 23]).interval
    assert ends is not None
    assert (ends[1] - ends[0]) / (2 * 1.96) == pytest.approx(23.36, rel=0.06)
    assert sum(ends) / 2 == pytest.approx(86.86, rel=0.06)


def guess(name: str, truth: str, said: str) -> dict[str, Any]:
    return trial(name, truth == said, expected=truth, type=said)


def case(name: str, met: int, alarms: int, *, comments: int = 1, findings: int = 2) -> dict[str, Any]:
    measures = {"comments_met": met, "comments": comments, "false_alarms": alarms, "changed_lines": 50}
    measures |= {"rejected_hits": 0, "rejected_comments": 0, "anchors_valid": findings, "findings": findings}
    return trial(name, met > 0 if comments else alarms == 0, measures={**measures, "complete": True}, digest=name)


def test_triage_and_review_are_compared_by_their_own_figures(miyabi: Miyabi, tmp_path: Path) -> None:
    kinds = ("bug", "feature", "question")
    issues = [(f"o/r#{number}", kinds[number % 3]) for number in range(30)]
    cases = [(f"case-{number}", 0 if number % 5 == 0 else 2) for number in range(20)]
    write(
        tmp_path,
        right=document("triage", *(guess(name, truth, truth) for name, truth in issues)),
        bugs=document(
            "triage", *(guess(name, truth, "bug" if truth == "question" else truth) for name, truth in issues)
        ),
        keen=document("review", *(case(name, int(many > 0), 0, comments=many) for name, many in cases)),
        noisy=document("review", *(case(name, int(many > 0), 3, comments=many) for name, many in cases)),
    )
    ran = miyabi("bench", "compare", "right.json", "bugs.json", "-f", "json")
    assert ran.code == 1
    data = json.loads(ran.stdout)
    validate(data, "bench_compare")
    found = {one["figure"]: one for one in data["results"]}
    assert {name: one["after"] for name, one in found.items() if "f1" in name} == {
        "macro_f1": pytest.approx((1 + 2 / 3) / 3),
        "f1 bug": pytest.approx(2 / 3),
        "f1 feature": 1,
        "f1 question": 0,
    }
    assert {name for name, one in found.items() if one["regression"]} == {
        "pass_rate",
        "macro_f1",
        "f1 bug",
        "f1 question",
    }
    assert (found["macro_f1"]["method"], found["f1 feature"]["verdict"]) == ("bootstrap", "same")
    slow = document("triage", *({**guess(name, truth, truth), "seconds": 9.0} for name, truth in issues))
    write(tmp_path, slow=slow)
    # time is the machine's as much, so that somebody has to ask for it
    assert miyabi("bench", "compare", "right.json", "slow.json").code == 0
    assert miyabi("bench", "compare", "right.json", "slow.json", "--fail-on-regression", "5").code == 1
    ran = miyabi("bench", "compare", "keen.json", "noisy.json", "--html", "page.html")
    assert ran.code == 1
    rows = {line.split("  ")[0]: line for line in ran.stdout.splitlines()}
    for figure, verdict in (
        ("false alarms per 100 lines", "REGRESSION"),
        ("clean rate", "REGRESSION"),
        ("detection", "same"),
    ):
        assert rows[figure].endswith(verdict)
    assert "rejected hit rate" not in rows  # nothing was rejected
    assert "false alarms per 100 lines" in (tmp_path / "page.html").read_text()
    assert miyabi("bench", "compare", "noisy.json", "keen.json").code == 0


def test_a_task_that_is_another_is_not_compared() -> None:
    first = document("review", case("a", 1, 0), case("b", 1, 0), trial("c", True))
    second = document("review", {**case("a", 0, 9), "digest": "other"}, case("b", 1, 0), trial("c", True))
    found = compare(read(first), read(second))
    assert found.matched == ("b", "c")
    assert found.warnings == ("left out, for they are not the same in both: a",)
    assert not any(change.is_regression(0) for change in found.changes)
    with pytest.raises(UsageError, match="no task in common"):
        compare(read(document("review", case("a", 1, 0))), read(document("review", second["results"][0])))
    half = document("review", trial("b", None), trial("c", True))
    assert compare(read(second), read(half)).warnings[0] == "without a result in the second: b"
    none = document("review", trial("b", None), trial("c", None))
    with pytest.raises(UsageError, match="the first document has no result of any task in common"):
        compare(read(none), read(second))
    assert not compare(read(none), read(none)).warnings
    odd = document("triage", guess("a", "bug", "bug"), {**trial("b", True), "expected": 3, "type": None})
    assert next(one for one in compare(read(odd), read(odd)).changes if one.figure == "macro_f1").before == 1


COUNT = some.integers(0, 40)


@given(COUNT, COUNT, COUNT, COUNT)
def test_mcnemar_is_the_same_from_both_sides(both: int, lost: int, won: int, neither: int) -> None:
    one, two = mcnemar(both, lost, won, neither), mcnemar(both, won, lost, neither)
    assert one.p_value == two.p_value
    if one.interval:
        low, high = one.interval
        assert -1 <= low <= (won - lost) / (both + lost + won + neither) <= high <= 1
    if both + lost + won + neither < 6:
        assert one.is_significant is None
    elif lost == won:
        assert one.p_value == pytest.approx(1)
    if one.interval and two.interval:
        assert one.interval == pytest.approx((-two.interval[1], -two.interval[0]))


@settings(deadline=None, max_examples=15)
@given(some.lists(some.floats(-1e6, 1e6), min_size=6, max_size=12), some.floats(1, 1e3))
def test_a_bootstrap_is_repeatable_and_sees_what_is_plain(values: list[float], shift: float) -> None:
    assert compare_pairs(values) == compare_pairs(values)
    plain = compare_pairs([shift + abs(value) for value in values])
    assert plain.is_significant
    assert plain.interval is not None
    assert plain.interval[0] > 0
    assert compare_pairs(values[:5]).is_significant is None
