"""`miyabi bench review`: the real CLI against a server that plays the reviewer, and the measures by themselves."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.bench.review_measures import Comment, ReviewCase, Reviewed, measure, read_cases, summarise
from miyabi_cli.errors import UsageError
from tests.conftest import Miyabi
from tests.support.schemas import validate
from tests.support.server import chat_server, send_error
from tests.test_review_model import BUG, Reviewer

CORRECT = "def last(items):\n    if not items:\n        return None\n    return items[-1]\n"
PLANTED = {"id": "last", "path": "last.py", "correct": CORRECT, "buggy": CORRECT.replace("[-1]", "[-2]")}
REVIEWED = {
    "id": "pull 7",
    "files": 1,  # a key that other data have, and that says nothing here
    "diff": "--- a/app.go\n+++ b/app.go\n@@ -1,2 +1,3 @@\n a := 1\n+b := 2\n c := 3\n",
    "comments": [{"path": "app.go", "from_line": None, "to_line": 3, "note": "b is never used"}],
    "negative_comments": [{"path": "app.go", "from_line": 40, "to_line": 41, "note": "rename it"}],
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_reviewer_is_measured(miyabi: Miyabi, tmp_path: Path) -> None:
    data = write(tmp_path / "cases.jsonl", PLANTED, REVIEWED)
    found = {**BUG, "quote": "return items[-2]", "problem": "the last but one"}
    model = Reviewer({"last.py": [found], "app.go": [{**BUG, "quote": "b := 2"}, {**BUG, "quote": "nowhere"}]})
    model.same = {"b is never used": False}
    with chat_server(model) as server:
        given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--data", str(data), "--near", "1"]
        ran = miyabi("bench", "review", *given, "--format", "json", "--html", "page.html")
        compared = miyabi("bench", "review", *given, "--compared", "--format", "json")
        text = miyabi("bench", "review", *given, "--limit", "1", "--seed", "3", "--quiet")
        model.faults = {"File app.go": send_error(401, {"error": {"message": "no key"}})}
        kept = ["--format", "json", "--output", "report.json"]
        refused = miyabi("bench", "review", *given, *kept)
        model.faults = {}
        model.asked.clear()
        whole = miyabi("bench", "review", *given, *kept)
    assert ran.code == 0, ran.stderr
    document = json.loads(ran.stdout)
    validate(document, "bench")
    rows = {row["id"]: row for row in document["results"]}
    assert {name: row["passed"] for name, row in rows.items()} == {
        "last (bug)": True,
        "last (fix)": False,  # the line goes there, and the same is said of it
        "pull 7": True,
    }
    assert rows["pull 7"]["measures"] == {
        "changed_lines": 1,
        "comments": 1,
        "comments_met": 1,
        "rejected_comments": 1,
        "rejected_hits": 0,
        "findings": 1,
        "false_alarms": 0,
        "anchors_valid": 1,
        "dropped": 1,
        "complete": True,
    }
    summary = document["summary"]
    assert (summary["detection"], summary["anchor_validity"], summary["false_alarms_per_100_lines"]) == (1.0, 1.0, 20.0)
    assert (summary["clean_rate"], summary["rejected_hit_rate"], summary["complete_rate"]) == (0.0, 0.0, 1.0)
    assert summary["failures"] == {"false_alarm": 1}
    assert summary["usage"]["requests"] == 3 + 3
    assert "bench review" in (tmp_path / "page.html").read_text()
    told = json.loads(compared.stdout)
    assert {row["id"]: row["failure"] for row in told["results"]} == {
        "last (bug)": None,  # a comment without words is met by what stands on its line
        "last (fix)": "false_alarm",
        "pull 7": "missed",
    }
    assert told["summary"]["usage"]["requests"] == 3 + 3 + 1
    assert (text.code, "detection" in text.stdout, text.stderr) == (0, True, "")
    assert (refused.code, whole.code) == (3, 0), whole.stderr
    assert "error: 1 trial of which nothing can be told: " in refused.stderr
    assert [kind for kind, _ in model.asked] == ["file", "judge"]  # what was there already is not done again
    assert [row["id"] for row in json.loads((tmp_path / "report.json").read_text())["results"]] == list(rows)
    assert not (tmp_path / "report.json.journal").exists()


def test_a_provider_that_refuses_all_is_not_asked_for_each_case(miyabi: Miyabi, tmp_path: Path) -> None:
    data = write(tmp_path / "cases.jsonl", *({**REVIEWED, "id": number} for number in range(1, 8)))
    with chat_server(send_error(401, {"error": {"message": "no key"}})) as server:
        ran = miyabi(
            "bench", "review", "--endpoint", server.url, "--model", "m", "--data", str(data), "-q", "-f", "json"
        )
    assert ran.code == 3
    assert "error: 7 trials of which nothing can be told: " in ran.stderr
    assert json.loads(ran.stdout)["summary"]["failures"] == {"provider_refused": 7}
    assert len(server.requests) == 3


def test_a_case_whose_time_is_over_counts_with_what_was_found(miyabi: Miyabi, tmp_path: Path) -> None:
    two = REVIEWED["diff"] + REVIEWED["diff"].replace("app.go", "slow.go")
    clean = {"id": "clean", "diff": REVIEWED["diff"].replace("app.go", "slow.go"), "comments": []}
    data = write(tmp_path / "cases.jsonl", {**REVIEWED, "diff": two}, clean)
    released = threading.Event()
    model = Reviewer({"app.go": [{**BUG, "quote": "b := 2"}]})
    model.faults = {"File slow.go": lambda *_: released.wait(60)}
    with chat_server(model) as server:
        given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--data", str(data), "--output", "report.json"]
        cut = miyabi("bench", "review", *given, "--format", "json", "--max-time", "3")
        asked = len(model.asked)
        again = miyabi("bench", "review", *given, "--format", "json", "--max-time", "3")
        assert len(model.asked) == asked
        released.set()
        model.faults = {}
        whole = miyabi("bench", "review", *given, "--format", "json", "--max-time", "60")
    document = json.loads((tmp_path / "report.json").read_text())
    assert (cut.code, again.code, whole.code) == (5, 5, 0), cut.stderr + again.stderr + whole.stderr
    assert "pull 7: passed (" in cut.stderr
    assert "clean: limit (" in cut.stderr  # silence about what was not read is no good review
    assert [row["status"] for row in document["results"]] == ["reviewed", "reviewed"]
    assert document["summary"]["complete_rate"] == 1.0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "it needs a diff, or correct and buggy"),
        ({"diff": "hello"}, "diff changes no file"),
        ({"diff": "--- a/x\n+++ b/x\n@@ -1 +1,9 @@\n"}, "not a unified diff"),
        ({**REVIEWED, "comments": [{"path": "a"}]}, "each of comments needs a path, a from_line and a to_line"),
        ({**REVIEWED, "negative_comments": "x"}, "negative_comments is to be a list of objects"),
        ({"correct": "a\n", "buggy": "a\n"}, "correct and buggy are the same"),
        ({**PLANTED, "path": "../x.py"}, "path is to be a path within the repository"),
        ({**REVIEWED, "texts": {"a": 1}}, "texts is to be an object of paths and texts"),
    ],
)
def test_a_line_that_is_no_case(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=r"line 2: ") as refused:
        read_cases(write(tmp_path / "cases.jsonl", PLANTED, row))
    assert words in refused.value.message


LINE = st.integers(1, 30)


@settings(max_examples=60, deadline=None)
@given(found=st.lists(LINE, max_size=6), good=st.lists(LINE, max_size=4), rejected=st.lists(LINE, max_size=4))
def test_measures_add_up(found: list[int], good: list[int], rejected: list[int]) -> None:
    def comments(lines: list[int]) -> tuple[Comment, ...]:
        return tuple(Comment("a.py", line, line + 1) for line in lines)

    diff = b"--- a/a.py\n+++ b/a.py\n@@ -1,0 +1,10 @@\n" + b"+x\n" * 10
    case = ReviewCase("a", diff, comments(good), comments(rejected))
    row = measure(case, Reviewed(comments(found)), near=0)
    measured = row["measures"]
    near = {line for place in good for line in (place - 1, place, place + 1)}
    assert measured["false_alarms"] == sum(line not in near for line in found)
    assert measured["comments_met"] <= len(good)
    assert measured["rejected_hits"] <= measured["false_alarms"] * len(rejected)
    assert measured["anchors_valid"] == sum(line <= 10 for line in found)
    summary = summarise([row, {**row, "failure": "budget", "passed": None}])
    assert summary["findings"] == len(found)
    assert summary["failures"]["budget"] == 1
