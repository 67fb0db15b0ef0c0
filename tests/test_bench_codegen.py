"""`bench codegen`: suites of tasks with hidden tests, what counts as solved, the report, kills, and going on."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from miyabi_cli.bench.document import Document
from miyabi_cli.bench.journal import Journal
from miyabi_cli.bench.scoring import pass_at, summarise
from miyabi_cli.bench.suites import LOADERS, load_suite
from miyabi_cli.bench.tasks import LINE_LIMIT, read_suite
from miyabi_cli.commands.bench_endings import shortfall
from miyabi_cli.errors import MiyabiError, UsageError
from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support.schemas import validate
from tests.support.server import call, chat_server, say, send_error, stream
from tests.test_codegen import FIX, model

BUGGY = "def add(a, b):\n    return a - b\n"
TESTS = "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n    assert add(1, 1) == 2\n"
FIXED = call("apply_patch", {"patch": FIX})
HARDCODED = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return 5\n*** End Patch"
# Rewrites the test that is there, adds one more, and settings that run none of the others.
CHEATING = """*** Begin Patch
*** Delete File: test_calc.py
*** Add File: test_calc.py
+def test_add():
+    pass
*** Add File: conftest.py
+def pytest_collection_modifyitems(items):
+    items[:] = [item for item in items if item.name == "test_other"]
*** Add File: test_other.py
+def test_other():
+    pass
*** End Patch"""
QUITTING = "*** Begin Patch\n*** Update File: calc.py\n@@\n-def add(a, b):\n+import os\n+os._exit(0)\n*** End Patch"
DONE = say("It adds now.")


@dataclass(frozen=True)
class Bench:
    folder: Path
    home: Path
    environment: Mapping[str, str]
    miyabi: Miyabi

    def write(self, *tasks: Mapping[str, Any]) -> str:
        file = self.folder / "suite.jsonl"
        file.write_text("".join(json.dumps(task) + "\n" for task in tasks))
        return str(file)

    def run(self, *arguments: str, **others: Any) -> Ran:
        return self.miyabi("bench", "codegen", *arguments, cwd=self.folder, timeout=300, **others)

    def leftovers(self) -> list[Path]:
        """Return what a benchmark that has ended must not leave."""
        folders = (self.home / "cache/bench").iterdir()
        return [*(path for path in folders if path.is_dir()), *self.folder.glob("*.journal")]

    def report(self, name: str = "report.json") -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / name).read_text())
        validate(report, "bench")
        return report


@pytest.fixture
def bench(tmp_path: Path, home: Path, environment: dict[str, str], miyabi: Miyabi, git: Any) -> Bench:
    folder = tmp_path / "work"
    folder.mkdir()
    return Bench(folder, home, environment, miyabi)


def task(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "task": f"{name}: make add() add",
        "files": {"calc.py": BUGGY},
        "tests": {"test_calc.py": TESTS},
    } | more


def by_task(**turns: tuple[Any, ...]) -> Callable[..., None]:
    """Play the turns of the task whose name is the first word; any other is mended at once."""

    def play(handler: Any, request: Any) -> None:
        messages = request.json["messages"]
        if "## Description" not in messages[1]["content"]:
            stream(handler, say('{"findings": []}'))  # a review
            return
        said = sum(message["role"] == "assistant" for message in messages)
        word = messages[1]["content"].partition("## Description\n")[2].split()[0].rstrip(":")
        own = turns.get(word, (FIXED, DONE))
        turn = own[min(said, len(own) - 1)]
        turn(handler, request) if callable(turn) else stream(handler, turn)

    return play


def without_times(report: Mapping[str, Any]) -> Any:
    """Return a report without what no two runs have in common."""
    text = json.dumps({name: report[name] for name in ("kind", "settings", "results", "summary")})
    return json.loads(re.sub(r'"(seconds\w*|run_id)": (?:[\d.e-]+|"[^"]*")', r'"\1": 0', text))


def test_hidden_tests_decide_and_nothing_that_a_patch_does_to_tests_counts(bench: Bench) -> None:
    suite = bench.write(
        task("right"),
        task("hardcoded"),
        task("cheating", visible=True),
        task("quitting"),
        task("idle"),
        task("shell", tests={"check.sh": "grep -q 'a + b' calc.py\n"}, test_command="sh check.sh", visible=True),
    )
    turns = by_task(
        hardcoded=(call("apply_patch", {"patch": HARDCODED}), DONE),
        cheating=(call("apply_patch", {"patch": CHEATING}), DONE),
        quitting=(call("apply_patch", {"patch": QUITTING}), DONE),
        idle=(call("exec", '{"cmd": '), call("exec", {"cmd": "ls"}), say("I can't.")),
    )
    output = ("--output", "report.json", "--format", "json", "--jobs", "2", "--attempts", "1")
    with chat_server(turns) as server:
        ran = bench.run("--suite", suite, *model(server), *output, "--min-pass-rate", "50", "--no-tests")
        sent = [request.json["messages"] for request in server.requests]
    assert ran.code == 1, ran.stderr  # below the rate that was asked for
    report = bench.report()
    assert ran.stdout == ""  # it has a file
    rows = {row["id"]: row for row in report["results"]}
    assert list(rows) == ["right", "hardcoded", "cheating", "quitting", "idle", "shell"]
    assert {name: (row["passed"], row["failure"]) for name, row in rows.items()} == {
        "right": (True, None),
        "hardcoded": (False, "hidden_tests"),
        "cheating": (False, "hidden_tests"),
        "quitting": (False, "hidden_tests"),
        "idle": (False, "nothing_changed"),
        "shell": (True, None),
    }
    assert (rows["shell"]["status"], rows["right"]["status"]) == ("verified", "unverified")  # only one had a check
    summary = report["summary"]
    assert (summary["tasks"], summary["passed"], summary["pass_rate"]) == (6, 2, 0.333333)
    assert summary["pass_rate_interval"] == [0.096771, 0.700007]  # Wilson's
    assert summary["failures"] == {"hidden_tests": 3, "nothing_changed": 1}
    assert (rows["idle"]["tool_calls"], rows["idle"]["valid_tool_calls"], rows["idle"]["steps"]) == (2, 1, 4)
    assert summary["tool_call_validity"] == pytest.approx(1 - 1 / summary["tool_calls"], abs=1e-6)
    assert rows["right"]["lint_clean"] is True
    assert (summary["review_score"], summary["review_score_reason"]) == (None, "no reviewer was asked")
    assert summary["tokens_per_solved"] == sum(
        row["usage"]["input_tokens"] + row["usage"]["output_tokens"] for row in rows.values()
    ) / 2  # fmt: skip
    told = {line.split(" (")[0] for line in ran.stderr.splitlines() if ", " in line and " of 6" in line}
    assert {"right: passed", "hardcoded: hidden_tests"} <= told
    # the hidden tests were in nobody's prompt or repository; those that are visible are named
    texts = {
        message[1]["content"].partition("## Description\n")[2].split(":")[0]: json.dumps(message) for message in sent
    }
    assert ("assert add" in texts["right"], "These tests have to pass: check.sh" in texts["shell"]) == (False, True)
    assert bench.leftovers() == []
    earlier = bench.folder / "report.json"
    with chat_server(by_task(right=(say("no"),))) as server:
        more = ("--against", str(earlier), "--limit", "3", "--seed", "2", "--output", "new.json", "--review")
        ran = bench.run("--suite", suite, *model(server), *more, "--attempts", "1", "--no-tests")
    new = bench.report("new.json")
    against, names = new["summary"]["against"], {row["id"] for row in new["results"]}
    assert (ran.code, against["tasks"], len(names)) == (0, 3, 3), ran.stderr
    assert set(against["gained"]) == names & {"hardcoded", "cheating", "quitting", "idle"}
    assert (new["summary"]["review_score"], new["summary"]["review_score_reason"]) == (100.0, None)
    assert "pass rate" in ran.stdout


def test_a_killed_one_goes_on_where_it_was_and_its_report_is_that_of_one_that_was_not(bench: Bench) -> None:
    suite = bench.write(*(task(name) for name in ("a", "slow")))
    arguments = ("--suite", suite, "--trials", "2", "--attempts", "1", "--no-tests", "--output")
    running: list[int] = []

    def kill(handler: Any, request: Any) -> None:
        if running:
            os.kill(running.pop(), signal.SIGKILL)
        stream(handler, DONE)

    turns = by_task(slow=(call("apply_patch", {"patch": HARDCODED}), kill))
    with chat_server(turns) as server:
        # the same port, which is a part of what was asked
        begun = subprocess.Popen(
            [PYTHON, "-m", "miyabi_cli", "bench", "codegen", *model(server), *arguments, "killed.json"],
            cwd=bench.folder,
            env={**bench.environment, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        running.append(begun.pid)
        _, said = begun.communicate(timeout=240)
        assert begun.returncode == -signal.SIGKILL, said
        journal = bench.folder / "killed.json.journal"
        assert [json.loads(line).get("id") for line in journal.read_text().splitlines()] == [None, "a"]
        with journal.open("a") as file:
            file.write('{"id": "slow", "tri')  # as a kill leaves it
        asked = len(server.requests)
        other = bench.run(*model(server), *arguments, "killed.json", "--effort", "low")
        assert (other.code, "a benchmark that was asked otherwise" in other.stderr) == (2, True)
        ran = bench.run(*model(server), *arguments, "killed.json")
        assert (ran.code, len(server.requests) - asked) == (0, 2 * 3), ran.stderr  # all but a's first trial
        assert "1 result in killed.json.journal: not done again" in ran.stderr
        whole = bench.run(*model(server), *arguments, "whole.json")
    assert whole.code == 0, whole.stderr
    assert without_times(bench.report("killed.json")) == without_times(bench.report("whole.json"))
    summary = bench.report("killed.json")["summary"]
    assert {k: one["value"] for k, one in summary["pass_at"].items()} == {"1": 0.5, "2": 0.5}
    assert bench.leftovers() == []


def test_a_server_that_is_away_for_all_ends_it_early_and_a_cap_keeps_the_work(bench: Bench) -> None:
    suite = bench.write(*(task(str(number)) for number in range(6)))
    with chat_server(send_error(401, {"error": {"message": "no such key"}})) as server:
        ran = bench.run("--suite", suite, *model(server), "--output", "report.json")
        assert len(server.requests) == 3
    assert (ran.code, "error: 3 trials in a row: " in ran.stderr) == (3, True), ran.stderr
    assert [row["failure"] for row in bench.report()["results"]] == ["provider_refused"] * 3
    assert (bench.report()["summary"]["complete"], bench.report()["summary"]["pass_rate"]) == (False, None)
    with chat_server(by_task()) as server:
        more = ("--endpoint", server.url, "--model", "gpt-oss-20b", "--max-cost", "0", "--limit", "4")
        ran = bench.run("--suite", suite, *more, env={"MIYABI_PRICES": '{"gpt-oss-20b": {"input": 1, "output": 1}}'})
        assert (ran.code, server.requests) == (5, []), ran.stderr
    with chat_server(lambda *_: time.sleep(3)) as server:  # time that is over is the task's own failure
        ran = bench.run("--suite", suite, *model(server), "--max-time", "1", "--limit", "1", "--output", "late.json")
        assert (ran.code, bench.report("late.json")["results"][0]["failure"]) == (0, "limit"), ran.stderr


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("exercism-pyton:x", "no suite is named 'exercism-pyton'"),
        ("quixbugs", "where is quixbugs?"),
        ("quixbugs:/nowhere", "/nowhere is not there"),
        ("nowhere.jsonl", "can't read nowhere.jsonl"),
        ("humaneval:.", "there is no HumanEval.jsonl.gz in ."),
        ("quixbugs:tests", "there is no program of QuixBugs in tests"),
        ("exercism-go:.", "there is no exercise of the track go in ."),
        ("humanevalfix-go:.", "can't read go.jsonl"),
        ("humanevalfix-go:README.md", "README.md, line 1: not JSON"),
    ],
)
def test_what_is_wrong_with_a_suite_is_named(name: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(MiyabiError, match=re.escape(problem)) as told:
        load_suite(name)
    assert told.value.hint or "not JSON" in problem


def test_what_is_asked_wrongly_is_said_before_anything_runs(bench: Bench) -> None:
    away = ("--endpoint", "http://127.0.0.1:9", "--model", "m", "--output", "r.json")
    for arguments, code, problem in (
        (("--suite", "exercism-pyton:x"), 2, "hint: did you mean exercism-python:PATH?"),
        (("--from-history", "3"), 2, "error: --from-history needs a repository"),
    ):
        ran = bench.run(*arguments, *away)
        assert (ran.code, ran.stdout, problem in ran.stderr) == (code, "", True), ran.stderr
    assert not list(bench.folder.iterdir())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (task("a", test="x"), "unknown key 'test' (did you mean 'tests'?)"),
        (task("a", files={"../x": ""}), "files is to be"),
        (task("a", tests={".git/hooks/x": ""}), "tests is to be"),
        (task("a", tests={}), "tests is to be"),
        (task("a", task="\n"), "task is to be words"),
        (task("a", repository="."), "files, or a repository"),
        ({"task": "x", "files": {}}, "it needs tests, or gold"),
        (task("a", timeout=float("inf")), "timeout is to be"),
        (task("a", files={"calc": "", "calc/add.py": ""}), "files is to be"),
        (task("a", id=False), "id is to be"),
        (" " * LINE_LIMIT + "{}", "longer than 16 MiB"),
    ],
)
def test_a_line_with_a_mistake_is_named(tmp_path: Path, line: Any, problem: str) -> None:
    file = tmp_path / "suite.jsonl"
    file.write_text("\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(UsageError, match="line 2: .*" + re.escape(problem)):
        read_suite(file)


VALUES = some.sampled_from(
    (
        None,
        True,
        -1,
        1.5,
        "",
        "x",
        "\ud800",
        "Python/0",
        "add",
        [],
        ["a.py"],
        [[1]],
        [[[1], 2]],
        {},
        {"a.py": "x"},
        {"..": 1},
    )
)
NAMES = "id task files tests instructions solution_files test_files task_id prompt test buggy_solution "
NAMES += "canonical_solution entry_point buggy correct cases pytest reference"
KEYS = some.sampled_from(NAMES.split())


@settings(max_examples=40)
@given(some.lists(some.dictionaries(KEYS, VALUES), max_size=3))
def test_no_line_of_a_stranger_s_ends_in_anything_but_an_error_of_ours(tmp_path_factory: Any, lines: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8", errors="surrogatepass")
    messages: list[str] = []
    for name in ("", *(f"{loader}:" for loader in LOADERS)):
        try:
            load_suite(f"{name}{file}")
        except MiyabiError as error:
            messages.append(error.message)
    assert not any("\n" in message for message in messages)


def exercise(folder: Path, name: str, *, stub: str, tests: str, example: str) -> None:
    """Write an exercise as Exercism's tracks have it."""
    (folder / ".meta").mkdir(parents=True)
    (folder / ".docs").mkdir()
    (folder / ".docs/instructions.md").write_text("# Instructions\n\nAdd two numbers.\n")
    (folder / ".docs/instructions.append.md").write_text("# Instructions append\n\nAs integers.\n")
    files = {"solution": [f"{name}.py"], "test": [f"{name}_test.py"], "example": [".meta/example.py"]}
    (folder / ".meta/config.json").write_text(json.dumps({"files": files}))
    (folder / f"{name}.py").write_text(stub)
    (folder / f"{name}_test.py").write_text(tests)
    (folder / ".meta/example.py").write_text(example)


def test_the_suites_of_others_are_read_and_their_own_solutions_pass(bench: Bench) -> None:
    right = BUGGY.replace("-", "+")
    unittests = "import unittest\n\nfrom sum_up import add\n\n\nclass SumTest(unittest.TestCase):\n"
    unittests += "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n"
    checkout = bench.folder / "polyglot"
    exercise(checkout / "python/exercises/practice/sum-up", "sum_up", stub=BUGGY, tests=unittests, example=right)
    bugs = bench.folder / "QuixBugs"
    for place, text in (("python_programs", BUGGY), ("correct_python_programs", right)):
        (bugs / place).mkdir(parents=True)
        (bugs / place / "add.py").write_text(text)
        (bugs / place / "graph.py").write_text(text.replace("add", "graph"))
    (bugs / "json_testcases").mkdir()
    (bugs / "json_testcases/add.json").write_text("[[2, 3], 5]\n[[1, 1], 2]\n")
    (bugs / "python_testcases").mkdir()
    own = "import pytest\nfrom node import Node\n\nif pytest.use_correct:\n"
    own += (
        "    from correct_python_programs.graph import graph\nelse:\n    from python_programs.graph import graph\n\n\n"
    )
    (bugs / "python_testcases/test_graph.py").write_text(
        own + "def test_it():\n    assert graph(Node(2).value, 3) == 5\n"
    )
    fix = {
        "task_id": "Python/0",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "buggy_solution": "    return a - b\n",
        "canonical_solution": "    return a + b\n",
        "test": "\n\ndef check(add):\n    assert add(2, 3) == 5\n\ncheck(add)",
        "entry_point": "add",
    }
    (bench.folder / "fix").mkdir()
    (bench.folder / "fix/python.jsonl").write_text(json.dumps(fix) + "\n")
    problem = {**fix, "task_id": "HumanEval/0", "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n"}
    (bench.folder / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(problem).encode()))
    suites = (
        "exercism-python:polyglot",
        "quixbugs:QuixBugs",
        "humanevalfix-python:fix",
        "humaneval:HumanEval.jsonl.gz",
    )
    given = [word for suite in suites for word in ("--suite", suite)]
    ran = bench.run(*given, "--reference", "--output", "report.json", "--save-suite", "all.jsonl")
    report = bench.report()
    assert ran.code == 0, ran.stderr + json.dumps(report["results"])
    names = ["python/sum-up", "quixbugs/add", "quixbugs/graph", "Python/0", "HumanEval/0"]
    assert [row["id"] for row in report["results"] if row["passed"]] == names
    saved = {task.id: task for task in read_suite(bench.folder / "all.jsonl")}
    assert list(saved) == names
    asked = saved["python/sum-up"].task
    assert asked.index("Add two numbers.") < asked.index("As integers.")
    assert [saved[name].visible for name in names] == [False, True, True, True, False]
    assert "sum_up_test.py" not in saved["python/sum-up"].files
    before = bench.write(*({**json.loads(task.line()), "solution": task.files} for task in saved.values()))
    ran = bench.run("--suite", before, "--reference", "--format", "json", "--limit", "2")
    assert [row["failure"] for row in json.loads(ran.stdout)["results"]] == ["hidden_tests"] * 2  # the suite is no sham


@pytest.mark.parametrize(
    "lines",
    [
        b"\xff",
        b"[]\n",
        b'{"journal": 2}\n',
        b'{"journal": 1, "settings": "s"}\n{"id": "a"}\n',
        b'{"journal": 1, "settings": "s"}\n{"id": 1, "digest": "", "trial": 1, "status": "", "seconds": 1}\n',
    ],
)
def test_a_journal_that_is_none_is_left_alone(tmp_path: Path, lines: bytes) -> None:
    file = tmp_path / "report.json.journal"
    file.write_bytes(lines)
    with pytest.raises(UsageError, match="no journal of a benchmark"):
        Journal(file, "s")
    assert file.read_bytes() == lines


def test_pass_at_k_is_the_share_of_draws_that_hold_one_that_passed() -> None:
    assert pass_at(1, 5, 2) == pytest.approx(0.4)
    assert pass_at(3, 5, 2) == pytest.approx(0.9)  # of 10 draws of 3 only one has none of the two
    assert (pass_at(4, 5, 2), pass_at(5, 5, 0)) == (1.0, 0.0)


def test_trials_of_one_task_are_no_samples_of_their_own() -> None:
    def rows(*tasks: str) -> list[dict[str, Any]]:
        usage = {"requests": 1, "input_tokens": 10, "cached_tokens": 0, "output_tokens": 5, "reasoning_tokens": 0}
        common = {"status": "verified", "failure": None, "seconds": 1.0, "usage": {**usage, "cost_usd": 0.5}}
        return [
            {"id": str(number), "trial": trial, "passed": letter == "+", **common}
            for number, letters in enumerate(tasks)
            for trial, letter in enumerate(letters, 1)
        ]

    mixed = summarise(rows("++", "+-", "--", "--"), planned=8)
    assert (mixed["pass_rate"], mixed["cost_per_solved_usd"], mixed["tokens_per_solved"]) == (0.375, 1.333333, 40.0)
    assert {k: one["value"] for k, one in mixed["pass_at"].items()} == {"1": 0.375, "2": 0.5}
    low, high = mixed["pass_rate_interval"]
    assert (low, high) == (0.0, 0.75)  # by drawing four tasks, not eight trials
    assert summarise(rows("++", "++"), planned=4)["pass_rate_interval"] == [0.342380, 1.0]  # Wilson's of two
    agreeing = summarise(rows("++", "--"), planned=4)  # as on the page: drawing two tasks anew would say 0 to 1
    assert agreeing["pass_rate_interval"] == summarise(rows("+", "-"), planned=2)["pass_rate_interval"]
    document = Document("codegen", {}, {}, (), mixed)
    assert [shortfall(document, least) for least in (None, 0, 0.375, 37.5)] == [""] * 4
    assert shortfall(document, 38) == "the pass rate is 37.5 %, and has to be at least 38 %\n"
    assert mixed["complete"] is True
    assert summarise(rows("+"), planned=2)["complete"] is False


def test_a_summary_of_nothing_and_of_errors_alone_has_no_rates() -> None:
    assert summarise([], planned=2)["pass_rate"] is None
