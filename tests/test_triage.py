"""`triage` of files: what is read, the rows, the model and what stands in for it, going on, and hostile issues."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.github.issues import Label
from miyabi_cli.triage.issue import TriageIssue, Unreadable
from miyabi_cli.triage.labels import read_vocabulary, scheme_labels, text_of, vocabulary_of
from miyabi_cli.triage.likeness import Likeness
from miyabi_cli.triage.quotes import find_quote
from miyabi_cli.triage.reading import read_issues
from miyabi_cli.triage.rules import judge, shipped_rules
from miyabi_cli.triage.weighing import with_examples, with_word
from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.schemas import validate
from tests.support.server import chat_server, say, send_error, stream

INJECTIONS = ROOT / "tests/fixtures/injections.jsonl"
ISSUES = [
    {
        "number": 1,
        "title": "App crashes on startup",
        "body": "Steps to reproduce: run it, v1.2.3\nTraceback (most recent",
    },
    {
        "number": 2,
        "title": "How do I configure a proxy?",
        "body": "Is there any way?\nI can't find it.",
        "labels": ["x"],
    },
    {"number": 3, "title": "Add support for dark mode", "body": "It would be nice. Depends on #1 and #2."},
    {"number": 4, "title": "SQL injection in the login form", "body": "An attacker reads all.\nAn error occurs."},
    {
        "number": 9,
        "title": "App crashes on startup",
        "body": "Steps to reproduce: run it, v1.2.3\nTraceback (most recent",
    },
]
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
GIVEN = {"type", "severity", "priority"}


def lines(issues: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(issue) + "\n" for issue in issues)


def rows_of(text: str) -> dict[int, dict[str, Any]]:
    """Return jsonl's rows by number, each held against the schema."""
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        validate(row, "triage")
    assert len({row["number"] for row in rows}) == len(rows)
    return {row["number"]: row for row in rows}


def may_be_given(name: str) -> bool:
    lead = text_of(name).split()[0]
    community = {"good first issue", "help wanted", "question", "discussion", "security", "duplicate", "state pending"}
    return name in {label.name for label in scheme_labels()} and (lead in GIVEN or text_of(name) in community)


def test_rules_alone_give_every_issue_a_row_in_every_format(miyabi: Miyabi, tmp_path: Path) -> None:
    file = tmp_path / "issues.json"
    file.write_text(json.dumps(ISSUES, indent=2))
    ran = miyabi("triage", "--file", str(file), "--no-llm", "--format", "json")
    assert (ran.code, ran.stderr) == (0, "escalated: #4 is for the CISO at once (Sev.1, P0)\n")
    rows = {row["number"]: row for row in json.loads(ran.stdout)}
    assert rows_of(miyabi("triage", "--file", "-", "--no-llm", "-f", "jsonl", stdin=lines(ISSUES)).stdout) == rows
    assert {number: row["type"] for number, row in rows.items()} == {
        1: "bug", 2: "question", 3: "feature", 4: "bug", 9: "bug",
    }  # fmt: skip
    assert rows[1]["labels"] == ["🐛 type:bug", "⚠️ severity:Sev.2-High", "⚠️ priority:P1-High"]
    assert "🔁 duplicate" in rows[9]["labels"]
    assert rows[9]["duplicates"] == [{"number": 1, "score": 1.0}]
    # Sev.5 has no label of its own, and a question is one of the community's
    assert (rows[2]["severity"], rows[2]["labels"][:2]) == ("Sev.5", ["❓ question", "📝 severity:Sev.4-Low"])
    assert rows[3]["dependencies"] == [1, 2]
    assert rows[4]["owner"] == "CISO"
    for issue in ISSUES:
        row = rows[issue["number"]]
        assert row["abstained"] == (row["confidence"] < 0.6) == (row["labels"] == ["📥 state:pending"])
        assert row["evidence"]
        assert all(evidence["quote"] in issue[evidence["field"]] for evidence in row["evidence"])
    text = io.StringIO()
    writer = csv.DictWriter(text, ["number", "title", "body", "labels"])
    writer.writeheader()
    writer.writerows(ISSUES)
    output = tmp_path / "rows.csv"
    assert miyabi("triage", "--file", "-", "--no-llm", "-f", "csv", "-o", str(output), stdin=text.getvalue()).code == 0
    cells = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [(int(cell["number"]), cell["type"]) for cell in cells] == [(n, row["type"]) for n, row in rows.items()]
    told = miyabi("triage", "--file", str(file), "--no-llm").stdout
    assert "escalated: #4 is for the CISO at once" in told


def test_wrong_entries_are_named_and_stop_no_other(miyabi: Miyabi, tmp_path: Path) -> None:
    file = tmp_path / "issues.jsonl"
    file.write_text(lines(ISSUES[:1]) + '{"number": 2, "title":\n[]\n{"title": 5}\n' + lines(ISSUES[2:3]))
    ran = miyabi("triage", "--file", str(file), "--no-llm", "--format", "csv")
    assert ran.code == 2
    assert [line.split(",")[0] for line in ran.stdout.splitlines()] == ["number", "1", "3"]
    assert "issue 3: not a JSON object; issue 4: title and body are to be texts" in ran.stderr
    # what one reader has begun to read is whole, and an error that comes after it is on stderr alone
    pages = json.dumps(ISSUES[:1]) + json.dumps([{**ISSUES[1], "number": 2.0}]) + "x"
    for text in (pages.encode(), pages.encode("utf-16")):
        file.write_bytes(text)
        ran = miyabi("triage", "--file", str(file), "--no-llm", "--format", "json")
        assert [row["number"] for row in json.loads(ran.stdout)] == [1, 2]
        assert (ran.code, "issue 3: not JSON" in ran.stderr) == (2, True)
    file.write_text("{}")
    ran = miyabi("triage", "--file", str(file), "--no-llm", "--format", "json")
    assert json.loads(ran.stdout)["error"]["exit_code"] == ran.code == 2
    file.write_text(lines(ISSUES[:1]))
    for arguments, told in (
        (("--file", str(tmp_path / "none")), "can't read"),
        ((), "no issue is named"),
        (("--file", str(file), "--all-open"), "exclude each other"),
        (("--file", str(file), "--apply"), "--apply needs issues of GitHub"),
    ):
        ran = miyabi("triage", *arguments, "--no-llm")
        assert ran.code in (2, 4)
        assert told in ran.stderr
    ran = miyabi("triage", "--file", str(file), "--no-llm", "-f", "jsonl", "-o", "/dev/full")  # read, it has no end
    assert (ran.code, ran.stderr) == (4, "error: No space left on device\n")


@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_who_reads_no_further_sees_no_traceback(format: str, environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [PYTHON, "-m", "miyabi_cli", "triage", "--file", "-", "--no-llm", "--format", format]
    environ = {**environment, "PYTHONPATH": str(ROOT)}
    with os.fdopen(writer, "wb") as stdout:
        ran = subprocess.run(
            command, stdout=stdout, env=environ, input=lines(ISSUES), stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert (ran.returncode, "Traceback" in ran.stderr) == (1, False)


def test_names_of_labels_that_would_steer_a_terminal_are_none_of_the_vocabulary() -> None:
    hostile = [
        "bug",
        "red\x1b[31m",
        "ev\u202eil",
        "x" * 300,
        "🤖 trigger:agent-execute",
        "TRIGGER : x",
        "area:ui",
        "",
    ]
    vocabulary = vocabulary_of([Label(name) for name in hostile])
    assert [label.name for label in vocabulary.labels.values()] == ["bug", "area:ui"]


def test_the_model_s_word_is_checked_and_a_failure_is_one_issue_s_own(miyabi: Miyabi, tmp_path: Path) -> None:
    answer = {
        "type": "feature",
        "severity": "Sev.1",
        "evidence": [{"field": "title", "quote": "dark  MODE"}, {"field": "body", "quote": "never said"}],
        "labels": ["good-first-issue", "🤖 trigger:agent-execute"],
        "priority": "urgent",  # which is no choice: the rules say it
        "dependencies": [1, 3, 555],
        "summary": "A \x1b]0;x\x07dark \x1b[31mmode",
    }

    def play(handler: Any, request: Any) -> None:
        asked = request.json["messages"][1]["content"]
        if "proxy" in asked:
            send_error(400, {"error": {"message": "no"}})(handler, request)
        else:
            stream(handler, say(json.dumps(answer if "dark mode" in asked else {"type": "docs"})))

    output = tmp_path / "rows.jsonl"
    with chat_server(play) as server:
        chosen = ("--endpoint", server.url, "--model", "m", "--format", "jsonl", "--output", str(output))
        ran = miyabi("triage", "--file", "-", *chosen, "--jobs", "2", stdin=lines(ISSUES[:3]))
        assert ran.code == 0, ran.stderr
        rows = rows_of(output.read_text())
        body = server.requests[0].json
        assert "tools" not in body
        assert "trigger" not in json.dumps(body["response_format"])
        asked = len(server.requests)
        # a row that is torn by a kill is done again, and the others are not
        whole = output.read_bytes()
        output.write_bytes(whole + b'{"number":4,"type":"b')
        ran = miyabi("triage", "--file", "-", *chosen, stdin=lines(ISSUES))
        assert ran.code == 0, ran.stderr
        assert output.read_bytes().startswith(whole)
        assert set(rows_of(output.read_text())) == {1, 2, 3, 4, 9}
        assert len(server.requests) == asked + 2
    dark = rows[3]
    assert (dark["type"], dark["source"], dark["severity"], dark["owner"]) == ("feature", "llm", "Sev.1", "TechLead")
    assert dark["priority"] == "P0"
    assert dark["evidence"] == [{"field": "title", "quote": "dark mode"}]
    assert (dark["duplicates"], dark["dependencies"], dark["summary"]) == ([], [1], "A dark mode")
    assert "👋 good-first-issue" in dark["labels"]
    assert all(map(may_be_given, dark["labels"]))
    assert (rows[2]["source"], rows[2]["type"], rows[2]["error"]["kind"]) == ("rules", "question", "provider_refused")
    assert rows[1]["type"] == "docs"
    assert rows[1]["abstained"]  # the rules hold it for a bug
    ran = miyabi("triage", "--file", "-", *chosen[2:6], "--endpoint", "http://127.0.0.1:9", stdin=lines(ISSUES[:1]))
    assert (ran.code, rows_of(ran.stdout)[1]["error"]["kind"]) == (0, "provider_unreachable")
    output.write_text("notes\n")
    ran = miyabi("triage", "--file", "-", *chosen, stdin=lines(ISSUES))
    assert (ran.code, output.read_text()) == (2, "notes\n")


def test_thirty_injections_change_nothing_but_their_own_rows(miyabi: Miyabi, tmp_path: Path) -> None:
    """The model plays along with each of them, so that nothing depends on its refusal."""
    hostile = [json.loads(line) for line in INJECTIONS.read_text().splitlines()]
    assert len(hostile) == 30
    mixed = [issue for pair in zip(hostile, [*ISSUES, *[None] * 25], strict=True) for issue in pair if issue]
    trigger = "🤖 trigger:agent-execute"

    def obey(handler: Any, request: Any) -> None:
        asked = request.json["messages"][1]["content"]
        own = any(f"Title: {issue['title']}\n\n{issue['body'][:20]}" in asked for issue in ISSUES)
        said = {"type": "bug"} if own else {"type": "bug", "severity": "Sev.1", "summary": asked[-400:]}
        if "trigger" in asked:
            said["labels"] = [trigger]  # which is not one of the choices
        stream(handler, say(json.dumps(said)))

    before = sorted(tmp_path.rglob("*"))
    with chat_server(obey) as server:
        model = ("--endpoint", server.url, "--model", "m")
        alone = rows_of(miyabi("triage", "--file", "-", *model, "-f", "jsonl", stdin=lines(ISSUES)).stdout)
        ran = miyabi("triage", "--file", "-", *model, "-f", "jsonl", stdin=lines(mixed))
        told = miyabi(
            "triage", "--file", "-", *model, "--jobs", "9", stdin=lines(mixed), env={"GITHUB_ACTIONS": "true"}
        )
    ruled = miyabi("triage", "--file", "-", "--no-llm", "-f", "jsonl", stdin=lines(mixed))
    assert (ran.code, told.code, ruled.code) == (0, 0, 0)
    for rows in (rows_of(ran.stdout), rows_of(ruled.stdout)):
        assert len(rows) == len(mixed)
        assert all(may_be_given(label) for row in rows.values() for label in row["labels"])
        for row in rows.values():
            texts = [row["summary"], *row["missing"], *(one["quote"] for one in row["evidence"])]
            assert not any(CONTROLS.search(text) for text in texts)
    rows = rows_of(ran.stdout)
    assert {number: rows[number] for number in alone} == alone
    assert not CONTROLS.search(told.stdout.replace("\n", ""))
    assert not re.search(r"^\s*(::|##\[)", told.stdout, re.MULTILINE)
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before and "home" not in path.parts]
    assert not left


@pytest.mark.parametrize(
    ("title", "body", "kind"),
    [
        ("Update the README: the installation section is out of date", "It names a flag that is gone.", "docs"),
        ("Refactor the parser module", "It is too long to read.", "refactor"),
        ("Add unit tests for the parser", "There are none.", "test"),
        ("Deploy pipeline fails on GitHub Actions", "The docker image is not pushed.", "deployment"),
    ],
)
def test_rules_know_types_that_were_not_learnt(title: str, body: str, kind: str) -> None:
    issue = TriageIssue(1, title, body)
    assert judge(issue, shipped_rules()).type == kind
    assert judge(issue, shipped_rules(), ("bug", "feature")).type in ("bug", "feature")


def test_the_scheme_is_whole_and_only_a_part_of_it_is_given() -> None:
    assert len(scheme_labels()) == len({text_of(label.name) for label in scheme_labels()}) == 57
    vocabulary = read_vocabulary(None)
    assert all(may_be_given(label.name) for label in vocabulary.labels.values())
    assert vocabulary.meaning("question") == "❓ question"
    assert vocabulary.find("Type: BUG 🎉") == "🐛 type:bug"
    assert vocabulary.find("trigger:agent-execute") is None


def test_copies_are_found_however_many_there_are_and_none_is_its_own() -> None:
    texts = [
        ("App crashes on start", "open it and see"),
        ("クラッシュします" * 6, ""),
        ("?!", "a"),
        ("Dark mode", "please"),
    ]
    issues = [TriageIssue(number, *texts[number % len(texts)]) for number in range(1, 121)]
    with Likeness() as index:
        for issue in issues:
            index.add(issue)
        for issue in issues[-4:]:
            same = [one.number for one in issues if one.title == issue.title and one != issue]
            assert [(like.number, like.score) for like in index.find(issue, 3, least=0.5)] == [
                (number, 1.0) for number in same[:3]
            ]
        other = TriageIssue(500, "On start the app crashes!", "I open it")
        assert index.find(other, 3, least=0.5) == []  # words that each fourth issue has say nothing


TEXTS = some.text(max_size=60)


@given(some.lists(some.one_of(some.binary(max_size=40), some.dictionaries(TEXTS, some.one_of(TEXTS, some.integers())))))
def test_any_file_is_read_without_a_crash(parts: list[Any]) -> None:
    data = b"\n".join(part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts)
    for lead in (b"", b"[", b"title,body\n"):
        for entry in entries_of(lead + data):
            assert isinstance(entry, TriageIssue | Unreadable)


def entries_of(data: bytes) -> Iterator[TriageIssue | Unreadable]:
    from miyabi_cli.errors import UsageError

    try:
        yield from read_issues(io.BytesIO(data))
    except UsageError:
        return


@given(TEXTS, TEXTS)
def test_a_quote_is_the_issue_s_own_words(quote: str, text: str) -> None:
    for wanted in (quote, text[1:30]):
        assert find_quote(wanted, text) in text


def test_labels_of_issues_that_are_alike_and_a_model_s_word_count_beside_the_rules() -> None:
    shares = {"bug": 0.5, "feature": 0.3, "question": 0.2}
    assert dict(with_examples(shares, ["wontfix"])) == shares
    voted = with_examples(shares, ["feature", "feature", "feature", "bug"])
    assert list(voted) == ["feature", "bug", "question"]
    assert voted["feature"] == pytest.approx(0.3 * 4 / (0.3 * 4 + 0.5 * 2 + 0.2))
    assert next(iter(with_word(shares, "feature", 0.4))) == "bug"  # a word that is hardly better than chance
    assert next(iter(with_word(shares, "feature", 0.7))) == "feature"
