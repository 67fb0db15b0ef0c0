"""`bench codegen --from-history`: which commits make tasks, what an agent gets of them, and a suite of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.bench.history import task_words
from miyabi_cli.bench.repositories import make_repository
from miyabi_cli.bench.tasks import read_suite
from tests.conftest import Miyabi
from tests.support.git_repositories import commit_files
from tests.support.git_repositories import make_repository as new_repository
from tests.support.server import call, chat_server, say
from tests.test_codegen import FIX, model

SOURCE = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
RIGHT = SOURCE.replace("a - b", "a + b")
TEST = "from calc import double\n\n\ndef test_double():\n    assert double(4) == 8\n"
NEW_TEST = TEST.replace("import double", "import add, double") + "\n\ndef test_add():\n    assert add(2, 3) == 5\n"
MESSAGE = "Let add() add\n\nIt subtracted its second argument (#12).\n\nSigned-off-by: Ada <ada@example.org>\n"


@pytest.fixture
def history(tmp_path: Path, git: Any) -> Path:
    """A repository with one commit that makes a task, among such as don't."""
    root = new_repository(tmp_path / "project", {"calc.py": SOURCE, "test_calc.py": TEST})
    commit_files(root, {"README.md": "# calc\n"}, "Say what this is for")
    git("checkout", "-q", "-b", "side", cwd=root)
    commit_files(root, {"calc.py": RIGHT, "test_calc.py": NEW_TEST, "test_data/one.txt": "1\n"}, MESSAGE)
    git("checkout", "-q", "main", cwd=root)
    git("merge", "-q", "--no-ff", "-m", "Merge the side branch", "side", cwd=root)
    commit_files(
        root, {"calc.py": RIGHT + "\n\nONE = 1\n", "test_calc.py": NEW_TEST + "\n# one\n"}, "Add the constant ONE"
    )
    commit_files(root, {"test_calc.py": NEW_TEST}, "Tidy up the tests a bit")
    commit_files(root, {"calc.py": RIGHT, "test_calc.py": TEST}, "wip")
    return root


def test_a_commit_whose_tests_fail_before_and_pass_after_is_a_task(
    history: Path, tmp_path: Path, miyabi: Miyabi, git: Any
) -> None:
    before = git("for-each-ref", cwd=history) + git("status", "--porcelain", "--ignored", cwd=history)
    suite = tmp_path / "history.jsonl"
    with chat_server(call("apply_patch", {"patch": FIX}), say("It adds now.")) as server:
        arguments = ("--from-history", "5", *model(server), "--attempts", "1", "--save-suite", str(suite))
        ran = miyabi("bench", "codegen", *arguments, "--format", "json", "--no-tests", cwd=history)
        prompts = json.dumps([request.json["messages"] for request in server.requests])
    assert ran.code == 0, ran.stderr
    report = json.loads(ran.stdout)
    (row,) = report["results"]
    gold = git("rev-parse", "side", cwd=history)
    assert (row["id"], row["passed"], row["language"]) == (f"project@{gold[:12]}", True, "python")
    told = next(line for line in ran.stderr.splitlines() if "make a task" in line)
    for part in ("1 of 7 commits", "1 merge", "1 first commit", "1 changes no test", "1 message says too little"):
        assert part in told
    assert "1 its tests pass without it too" in told
    assert "1 changes no code beside tests" in told
    assert "Let add() add" in prompts
    assert not any(word in prompts for word in ("#12", "Signed-off", "test_add", gold[:12]))
    assert git("for-each-ref", cwd=history) + git("status", "--porcelain", "--ignored", cwd=history) == before
    (task,) = read_suite(suite)
    assert set(task.must_pass) == {"test_calc::test_add", "test_calc::test_double"}
    # the agent's repository holds the base's files and nothing of what came later
    repository = make_repository(task, tmp_path / "made")
    assert (repository.root / "test_calc.py").read_text() == TEST
    objects = git("cat-file", "--batch-check", "--batch-all-objects", cwd=repository.root)
    assert gold not in objects
    assert git("rev-list", "--all", "--count", cwd=repository.root) == "1"
    again = miyabi("bench", "codegen", "--suite", str(suite), "--reference", "--format", "json")
    assert [row["passed"] for row in json.loads(again.stdout)["results"]] == [True], again.stderr
    # the hidden tests are those that count, whoever leaves others
    none = miyabi("bench", "codegen", "--from-history", "5", "--commits", "3", "--reference", cwd=history)
    assert (none.code, "no commit of" in none.stderr, "--commits looks further back" in none.stderr) == (4, True, True)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (MESSAGE, "Let add() add\n\nIt subtracted its second argument."),
        ("Fix it (fixes #3)\n\nCo-authored-by: B <b@c>\nChange-Id: I1\n", "Fix it"),
        ("See #4 for more, closes #5.", "See #4 for more,"),
        ("#" * 100_000, "#" * 8_000),
        ("", ""),
    ],
)
def test_a_message_is_a_task_without_what_says_nothing(message: str, words: str) -> None:
    assert task_words(message) == words


# As jest does it: options are read as it is loaded, and tests run later, in the same process.
JEST = """#!/usr/bin/env node
const options = process.argv.slice(2);
setImmediate(() => setTimeout(() => {
  const status = require(process.cwd() + '/sum.test.js')() ? 'passed' : 'failed';
  const assertionResults = [{ ancestorTitles: [], title: 'adds', fullName: 'adds', status }];
  const name = process.cwd() + '/sum.test.js';
  const file = options.find((one) => one.startsWith('--outputFile=')).slice('--outputFile='.length);
  require('fs').writeFileSync(file, JSON.stringify({ testResults: [{ name, status, assertionResults }] }));
  process.exit(status === 'passed' ? 0 : 1);
}));
"""
PACKAGE = '{"scripts": {"test": "node node_modules/jest/bin/jest.js"}, "devDependencies": {"jest": "29"}}'
SUM = "module.exports = (a, b) => process.argv.length > 2 ? 0 : a - b;\n"
SUM_TEST = "module.exports = () => require('./sum.js')(%s) === %s;\n"


def test_tests_of_a_command_line_do_not_see_the_options_that_their_runner_is_given(
    tmp_path: Path, miyabi: Miyabi
) -> None:
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    files = {"package.json": PACKAGE, "sum.js": SUM, "sum.test.js": SUM_TEST % ("2, 0", "2"), ".gitignore": "n*\n"}
    root = new_repository(tmp_path / "sums", files)
    changed = {"sum.js": SUM.replace("a - b", "a + b"), "sum.test.js": SUM_TEST % ("2, 3", "5")}
    commit_files(root, changed, "Let the sum be one")
    (root / "node_modules/jest/bin").mkdir(parents=True)
    (root / "node_modules/jest/bin/jest.js").write_text(JEST)
    ran = miyabi("bench", "codegen", "--from-history", "1", "--reference", "--format", "json", cwd=root)
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)["summary"]["passed"] == 1
    (root / "node_modules/jest/bin/jest.js").write_text("console.error('error: no such engine'); process.exit(1)")
    ran = miyabi("bench", "codegen", "--from-history", "1", "--reference", cwd=root)
    assert (ran.code, "error: no such engine\n" in ran.stderr) == (4, True)  # and not only that no commit would do
