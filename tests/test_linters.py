"""What real linters wrote, read as findings; and which of them are new."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.check_records import Finding
from miyabi_cli.workspace.linters import LINTERS, linter_of, new_findings
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "runners"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python3 -m ruff check --no-fix", "ruff"),
        ("cd web && ruff check .", "ruff"),
        ("ruff format --check", None),
        (".venv/bin/python -m mypy --no-pretty src", "mypy"),
        ("cargo clippy --all-targets --message-format=json", "clippy"),
        ("cargo clippy", None),
        ("node_modules/.bin/eslint src --format json", "eslint"),
        ("npx eslint .", None),
        ("node_modules/.bin/tsc --noEmit --pretty false", "tsc"),
        ("go vet ./...", "go vet"),
        ("pytest -q", None),
        ("ruff check . && mypy .", None),
        ("make test", None),
        ("bandit -q --format json ./a.py ./mypy.py './b ruff check.py'", "bandit"),
    ],
)
def test_the_linter_of_a_command(command: str, name: str | None) -> None:
    linter = linter_of(command)
    assert (linter.name if linter else None) == name


def read(name: str, file: str) -> list[tuple[str, int, str, str]]:
    linter = next(linter for linter in LINTERS if linter.name == name)
    report = linter.read((FIXTURES / file).read_text())
    assert all(finding.source in (name, "rustc") and finding.message for finding in report.findings)
    assert all(
        f"{finding.path.removeprefix('/project/')}:{finding.line}:" in report.output for finding in report.findings
    )
    return [(one.path.removeprefix("/project/"), one.line, one.severity, one.rule) for one in report.findings]


def test_ruff() -> None:
    assert read("ruff", "ruff.txt") == [
        ("broken.py", 1, "error", "invalid-syntax"),
        ("broken.py", 2, "error", "invalid-syntax"),
        ("calc.py", 1, "warning", "F401"),
    ]


def test_mypy() -> None:
    assert read("mypy", "mypy.txt") == [("calc.py", 5, "error", "return-value"), ("calc.py", 8, "error", "arg-type")]


def test_clippy() -> None:
    assert read("clippy", "clippy.jsonl") == [
        ("src/lib.rs", 15, "warning", "unused_variables"),
        ("src/lib.rs", 16, "warning", "clippy::needless_return"),
    ]
    clippy = next(linter for linter in LINTERS if linter.name == "clippy")
    (_, found) = clippy.read((FIXTURES / "clippy.jsonl").read_text()).findings
    assert (found.message, found.suggestion) == ("unneeded `return` statement", "remove `return`")


def test_eslint_tsc_and_go_vet() -> None:
    assert read("eslint", "eslint.json") == [
        ("src/old.js", 1, "error", "no-unused-vars"),
        ("src/old.js", 3, "warning", "eqeqeq"),
    ]
    assert read("tsc", "tsc.txt") == [("src/add.ts", 1, "error", "TS2362")]
    assert read("go vet", "go_vet.txt") == [("broken/broken_test.go", 6, "error", ""), ("show.go", 5, "warning", "")]


def finding(line: int, message: str = "m", path: str = "a.py") -> Finding:
    return Finding(path, line, line, "warning", "R1", "ruff", message)


def test_a_finding_that_moved_is_not_new() -> None:
    before = [finding(1), finding(5, "other")]
    assert new_findings(before, [finding(8), finding(12, "other")]) == ()
    assert new_findings(before, [finding(8), finding(9)]) == (finding(9),)
    assert new_findings(before, [finding(1, path="b.py")]) == (finding(1, path="b.py"),)
    assert new_findings([], before) == tuple(before)


def test_what_is_not_read_is_told() -> None:
    reports = {linter.name: linter.read("Oops: no plugin\n") for linter in LINTERS}
    assert {name for name, report in reports.items() if report.unread} == {"eslint", "bandit"}  # the others print lines
    (eslint, bandit) = (next(one for one in LINTERS if one.name == name) for name in ("eslint", "bandit"))
    assert eslint.read("[]\n").unread == ""
    failed = {"errors": [{"filename": "./new.py", "reason": "syntax error"}], "results": []}
    assert bandit.read(json.dumps(failed)).unread == "new.py can't be parsed (1 in all)"
    # old findings of a large repository leave room for those of the change, which may come last
    ruff = next(linter for linter in LINTERS if linter.name == "ruff")
    old = "".join(f"a:b.py:{line}:1: F401 unused\n" for line in range(1, 9_000))
    *_, last = ruff.read(f"{old}z.py:1:1: F401 unused\n").findings
    assert (last.path, ruff.read(old).findings[-1].path) == ("z.py", "a:b.py")


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["reason", "message", "spans", "code", "level", "is_primary", "messages", "line", "severity"]
            ),
            part,
            max_size=4,
        )
    ),
)
TEXTS = st.lists(st.sampled_from(["a.py", ":", "1", ": ", "error", "(", "TS1", "  [x]", "\n", "[", "{", " ", "vet: "]))


@given(st.one_of(VALUES.map(json.dumps), TEXTS.map("".join), st.text(max_size=50)))
def test_any_output_is_read(text: str) -> None:
    for linter in LINTERS:
        for output in (text, f"[{text}]", f'{{"reason":"compiler-message","message":{text}}}'):
            report = linter.read(output)
            assert all(one.line >= 0 and one.end_line >= one.line for one in report.findings)


@pytest.mark.parametrize("piece", ["a:", "1:", "(", "a.go:1:", "error ", "  [", "[", '{"a":', ": note: "])
def test_long_lines_are_read_in_linear_time(piece: str) -> None:
    for linter in LINTERS:
        linter.read(piece * 200_000)
        linter.read(f"{piece}\n" * 50_000)
