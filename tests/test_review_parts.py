"""The parts of a review that take data and give data: scores, merging, what linters and SARIF tools print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import UsageError
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import AddedSecret, Finding
from miyabi_cli.review.hiding import hider_of
from miyabi_cli.review.merging import merge
from miyabi_cli.review.reading import files_of_diff
from miyabi_cli.review.scoring import band_of, deductions, score_of
from miyabi_cli.workspace.diffs import DiffHunk, DiffLine
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.linters.bandit import BANDIT
from miyabi_cli.workspace.linters.sarif import read_sarif
from miyabi_cli.workspace.linters.staticcheck import STATICCHECK


def finding(line: int = 1, source: str = "ruff", message: str = "wrong", **more: Any) -> Finding:
    given = {"severity": "warning", "category": "lint", "rule": "R1", **more}
    return Finding(path="a.py", line=line, end_line=line, source=source, message=message, **given)


def model(**more: Any) -> Finding:
    return finding(source="model", **{"category": "correctness", "rule": "", "confidence": 0.7, **more})


@pytest.mark.parametrize(
    ("found", "weights", "points"),
    [
        (finding(severity="error"), {}, -20),
        (finding(), {}, -10),
        (finding(severity="note"), {}, None),
        (finding(category="type", severity="error"), {}, -30),
        (finding(category="compile", severity="error"), {}, -30),
        (finding(category="compile"), {}, -10),
        (finding(category="secret", severity="error", level="critical"), {}, -40),
        (finding(category="security", severity="error", level="critical"), {}, -40),
        (finding(category="security", severity="error", level="high"), {}, -20),
        (finding(category="security", level="medium"), {}, -10),
        (finding(category="security", severity="note", level="low"), {}, -5),
        (model(severity="error", level="high"), {}, -14),
        (model(severity="error", level="critical", confidence=0.9), {}, -36),
        (model(severity="note", level="low", confidence=0.4), {}, -2),
        (finding(category="secret", severity="error", level="critical"), {"critical": 7, "error": 1}, -40),
        (finding(category="security", severity="error", level="high"), {"error": 1}, -20),
        (finding(), {"lint": 3}, -3),
        (finding(), {"warning": 4, "error": 50}, -4),
        (finding(), {"lint": 0, "warning": 4}, None),
        (finding(category="security", level="medium"), {"medium": 1, "security": 30}, -30),
        (model(level="high"), {"correctness": 10}, -7),
    ],
)
def test_what_a_finding_costs(found: Finding, weights: Mapping[str, float], points: int | None) -> None:
    told = deductions([found], weights)
    assert [one.points for one in told] == ([] if points is None else [points])


@given(st.lists(st.sampled_from(["error", "warning", "note"]), max_size=30))
def test_a_score_is_what_its_breakdown_says(severities: list[Any]) -> None:
    breakdown = deductions([finding(severity=severity) for severity in severities])
    assert all(one.points < 0 for one in breakdown)
    assert score_of(breakdown) == max(0, 100 + sum(one.points for one in breakdown))
    assert [band_of(score) for score in (100, 90, 89, 80, 79, 60, 59, 0)] == [
        *("good", "good", "fair", "fair", "weak", "weak", "poor", "poor")
    ]


def change_of(*lines: str) -> Change:
    hunk = DiffHunk(0, 1, "", tuple(DiffLine("+", text, None, number) for number, text in enumerate(lines, 1)))
    return Change("a change", (ChangedFile("a.py", "a.py", "created", (hunk,), "\n".join(lines)),))


def test_one_thing_is_told_once() -> None:
    found = [
        finding(message="Undefined name `total`", rule="F821"),
        finding(source="mypy", message='Name "total" is not defined', severity="error", category="type"),
        model(message="total is an undefined name here", line=2),
        finding(2, source="bandit", rule="B602", severity="error", category="security"),
        finding(2, rule="S602", message="something else", category="security"),
        finding(3, message="line too long", rule="E501"),
        model(line=3, message="divides by zero where the list is empty"),
        finding(3, source="bandit", rule="B105", message="Possible hardcoded password", category="security"),
        finding(3, source="secrets", rule="generic-password", category="secret", severity="error"),
    ]
    merged, dropped = merge(change_of("total()", "call()", "password"), found)
    assert [(one.line, one.source) for one in merged] == [
        *((1, "mypy"), (2, "bandit"), (3, "secrets"), (3, "ruff"), (3, "model"))
    ]
    assert [one.count for one in dropped] == [4]
    assert len({one.fingerprint for one in merged}) == 5
    moved, _ = merge(change_of("", "", "total()"), [finding(3, source="mypy")])
    there, _ = merge(change_of("total()"), [finding(1, source="mypy")])
    assert moved[0].fingerprint == there[0].fingerprint


def test_a_secret_is_hidden_wherever_it_stands() -> None:
    change = change_of("key = 'abcdefghij'", "again('abcdefghij')", "pin = 'ab1'", "about = 1")
    hider = hider_of([AddedSecret("a.py", 1, 1, "abcdefghij"), AddedSecret("a.py", 3, 3, "ab1")])
    (file,) = hider.change(change).files
    assert file.text == "key = '…'\nagain('…')\npin = '…'\nabout = 1"
    assert list(file.added.values()) == file.text.split("\n")
    assert hider.finding(finding(3, message="hardcoded: ab1")).message == "hardcoded: …"
    assert hider.finding(finding(4, message="ab1 is not hidden")).message == "ab1 is not hidden"


@pytest.mark.parametrize(
    "data",
    [
        b"diff --cc a.py\nindex 1,2..3\n--- a/a.py\n+++ b/a.py\n@@@ -1,1 -1,1 +1,2 @@@\n  x\n++y\n",
        b"\x1b[1mdiff --git a/a.py b/a.py\x1b[m\n\x1b[36m@@ -1 +1 @@\x1b[m\n",
        b" a.py | 2 ++\n 1 file changed\n",
        "diff --git a/a.py b/a.py\n".encode("utf-16"),
    ],
)
def test_what_is_no_unified_diff_does_not_pass_for_an_empty_one(data: bytes) -> None:
    assert files_of_diff(b" \n") == ()
    with pytest.raises(UsageError):
        files_of_diff(data)


def test_bandit_and_staticcheck_are_read() -> None:
    result = {"filename": "./a.py", "line_number": 3, "line_range": [3, 4], "issue_severity": "HIGH"}
    result |= {"issue_text": "shell", "test_id": "B602", "more_info": "https://x"}
    report = BANDIT.read("[main] INFO\n" + json.dumps({"results": [result]}, indent=1))
    (found,) = report.findings
    assert (found.path, found.line, found.end_line, found.severity) == ("a.py", 3, 4, "error")
    assert (found.rule, found.category, found.level) == ("B602", "security", "high")
    place = {"file": "/tree/a.go", "line": 5, "column": 1}
    line = {"code": "SA4006", "severity": "error", "location": place, "end": {"line": 6}, "message": "never used"}
    report = STATICCHECK.read(f"go: downloading\n{json.dumps(line)}\n{json.dumps({**line, 'code': 'compile'})}")
    assert [(one.line, one.end_line, one.severity, one.category) for one in report.findings] == [
        (5, 6, "warning", ""),
        (5, 6, "error", "compile"),
    ]
    for command, name in (("bandit -q --format json ./a.py", "bandit"), ("staticcheck -f json ./...", "staticcheck")):
        linter = linter_of(command)
        assert linter is not None
        assert linter.name == name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["runs", "tool", "driver", "rules", "results", "locations", "physicalLocation", "region", "startLine", "level",
         "artifactLocation", "uri", "message", "text", "properties", "ruleIndex", "location", "file", "line", "code",
         "filename", "line_number", "issue_severity", "line_range", "suppressions", "kind", "security-severity"]
    ), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.text(max_size=20))
def test_readers_take_anything(value: Any, noise: str) -> None:
    for text in (json.dumps({"runs": value}), json.dumps({"results": value}), json.dumps(value), noise):
        for printed in (text, f"{noise}\n{text}\n{noise}"):
            read_sarif(printed)
            for linter in (BANDIT, STATICCHECK):
                report = linter.read(printed)
                assert all(found.line <= found.end_line for found in report.findings)
