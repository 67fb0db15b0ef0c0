"""What a verified patch is still told of: tests that do not tell, weakened ones, new findings, no documentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Miyabi
from tests.support.schemas import validate
from tests.support.server import ChatServer, call, chat_server, say, send_error

FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"
LEFT = "This is left to wish for in your change:"

Git = Callable[..., str]


def adding(path: str, text: str) -> dict[str, Any]:
    """A turn that writes a file."""
    lines = "".join(f"+{line}\n" for line in text.splitlines())
    return call("apply_patch", {"patch": f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"})


def changing(path: str, old: str, new: str) -> dict[str, Any]:
    return call(
        "apply_patch", {"patch": f"*** Begin Patch\n*** Update File: {path}\n@@\n-{old}\n+{new}\n*** End Patch"}
    )


def new_test(name: str, body: str) -> dict[str, Any]:
    return adding(f"test_{name}.py", f"from calc import add, double\n\n\ndef test_{name}():\n    {body}\n")


def run(
    miyabi: Miyabi, repository: Path, *turns: Any, flags: tuple[str, ...] = ()
) -> tuple[int, dict[str, Any], ChatServer]:
    with chat_server(call("apply_patch", {"patch": FIX}), *turns) as server:
        given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--format", "json", *flags]
        ran = miyabi("codegen", "Fix the failing test", *given, cwd=repository)
    result = json.loads(ran.stdout)
    validate(result, "codegen")
    return ran.code, result, server


def said_to(server: ChatServer) -> list[str]:
    """Return what the model was told by miyabi itself, after the task."""
    messages = server.requests[-1].json["messages"]
    return [message["content"] for message in messages if message["role"] == "user"][1:]


def kinds(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(warning["kind"], warning["path"]) for warning in result["warnings"]]


def test_a_new_test_that_fails_on_the_base_is_counted(miyabi: Miyabi, repository: Path) -> None:
    code, result, server = run(miyabi, repository, new_test("sum", "assert add(1, 1) == 2"), say("done"))
    assert (code, result["status"], result["tests_added"]) == (0, "verified", 1)
    assert result["warnings"] == []
    assert len(server.requests) == 3
    task = server.requests[0].json["messages"][1]["content"]
    assert "## Acceptance\n- A test, beside those that are there, fails without your change" in task


def test_a_new_test_that_passes_on_the_base_is_reported_and_may_be_mended(miyabi: Miyabi, repository: Path) -> None:
    blind = new_test("sum", "assert add(1, 0) == 1")
    code, result, server = run(miyabi, repository, blind, say("done"), say("It tells enough."))
    assert (code, result["status"], result["tests_added"]) == (0, "verified", 1)
    ((kind, _),) = kinds(result)
    assert kind == "test_not_telling"
    assert "test_sum passes without the change too" in result["warnings"][0]["message"]
    (told,) = said_to(server)
    assert told.startswith(f"The checks pass. {LEFT}")
    assert result["summary"] == "done", "the first answer is the one about the change"

    mended = changing("test_sum.py", "    assert add(1, 0) == 1", "    assert add(1, 1) == 2")
    code, result, _ = run(miyabi, repository, blind, say("done"), mended, say("It tells now."))
    assert (code, result["warnings"], result["tests_added"]) == (0, [], 1)


def test_without_the_wish_no_test_is_asked_for_or_looked_at(miyabi: Miyabi, repository: Path) -> None:
    turns = (new_test("sum", "assert add(1, 0) == 1"), say("done"))
    code, result, server = run(miyabi, repository, *turns, flags=("--no-tests",))
    assert (code, result["warnings"], result["tests_added"]) == (0, [], 1)
    assert "Acceptance" not in server.requests[0].json["messages"][1]["content"]


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (changing("test_calc.py", "    assert double(4) == 8", "    assert double(4)"), "1 assertion is changed"),
        (changing("test_calc.py", "    assert double(4) == 8", "    double(4)"), "1 fewer assertions"),
        (adding("pytest.ini", "[pytest]\naddopts = --deselect test_calc.py::test_none"), "which tests run"),
    ],
)
def test_weakened_tests_are_flagged_though_verified(
    miyabi: Miyabi, repository: Path, turn: dict[str, Any], message: str
) -> None:
    code, result, server = run(miyabi, repository, turn, say("done"))
    assert (code, result["status"]) == (0, "verified")
    (warning,) = result["warnings"]
    assert warning["kind"] == "weakened_test"
    assert warning["path"] in (*result["files_modified"], *result["files_created"])
    assert message in warning["message"]
    assert len(server.requests) == 3


def test_a_deleted_test_is_flagged_and_not_verified(miyabi: Miyabi, repository: Path) -> None:
    gone = call("exec", {"cmd": "rm test_calc.py"})
    code, result, _ = run(miyabi, repository, gone, say("done"))
    assert (code, result["status"]) == (1, "unverified")
    assert ("weakened_test", "test_calc.py") in kinds(result)


@pytest.fixture
def linted(repository: Path, git: Git) -> Path:
    """The repository with a linter that finds something already."""
    (repository / "ruff.toml").write_text('lint.select = ["F", "E7"]\n')
    (repository / "old.py").write_text("import os\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "lint", cwd=repository)
    return repository


def test_new_findings_are_mended_in_one_round_or_reported(miyabi: Miyabi, linted: Path) -> None:
    untidy = changing("calc.py", '"""Sums."""', '"""Sums."""\n+import sys')
    code, result, server = run(miyabi, linted, untidy, say("done"), say("I leave it."))
    assert (code, result["status"]) == (0, "verified")
    lint = [warning for warning in result["warnings"] if warning["kind"] == "lint"]
    assert [(warning["path"], "`sys` imported but unused" in warning["message"]) for warning in lint] == [
        ("calc.py", True)
    ]
    (told,) = said_to(server)
    assert "old.py" not in told, "what was found before is not asked for"

    tidy = changing("calc.py", "import sys", "")
    code, result, _ = run(miyabi, linted, untidy, say("done"), tidy, say("It is gone."))
    assert (code, [kind for kind, _ in kinds(result) if kind == "lint"]) == (0, [])


def test_a_round_that_makes_it_worse_is_undone(miyabi: Miyabi, linted: Path, git: Git) -> None:
    untidy = changing("calc.py", '"""Sums."""', '"""Sums."""\n+import sys')
    worse = changing("calc.py", "    return a + b", "    return a * b")
    left = adding("left.py", "x = 1")
    code, result, _ = run(
        miyabi, linted, untidy, say("done"), worse, left, say("done again"), flags=("--keep-worktree",)
    )
    assert (code, result["status"], result["summary"]) == (0, "verified", "done")
    assert "return a + b" in git("show", f"{result['branch']}:calc.py", cwd=linted)
    assert result["files_created"] == []
    tree = Path(result["worktree"])
    assert "return a + b" in (tree / "calc.py").read_text()
    assert not (tree / "left.py").exists()


def test_a_provider_that_fails_in_that_round_costs_nothing_of_the_patch(miyabi: Miyabi, linted: Path) -> None:
    untidy = changing("calc.py", '"""Sums."""', '"""Sums."""\n+import sys')
    refusal = send_error(401, {"error": {"message": "the key has run out"}})
    code, result, _ = run(miyabi, linted, untidy, say("done"), refusal)
    assert (code, result["status"]) == (0, "verified")
    assert {"lint", "wishes"} <= {kind for kind, _ in kinds(result)}


def test_documentation_is_asked_for_and_looked_for(miyabi: Miyabi, repository: Path) -> None:
    bare = adding("more.py", "def triple(a):\n    return a * 3")
    code, result, _ = run(miyabi, repository, bare, say("done"), flags=("--docs",))
    assert (code, kinds(result)) == (0, [("undocumented", "more.py")])
    assert "triple" in result["warnings"][0]["message"]
    documented = changing("more.py", "def triple(a):", 'def triple(a):\n+    """Return three times a."""')
    code, result, server = run(miyabi, repository, bare, say("done"), documented, say("ok"), flags=("--docs",))
    assert (code, result["warnings"]) == (0, [])
    assert "documented in the code" in server.requests[0].json["messages"][1]["content"]
    code, result, _ = run(miyabi, repository, bare, say("done"))
    assert (code, result["warnings"]) == (0, [])


def test_who_bends_a_test_to_the_code_is_told_and_mends_the_code(miyabi: Miyabi, repository: Path) -> None:
    bent = call("exec", {"cmd": "sed -i.kept '/assert add/s/==/!=/' test_calc.py"})
    mended = call("exec", {"cmd": "mv test_calc.py.kept test_calc.py; sed -i 's/a - b/a + b/' calc.py"})
    with chat_server(bent, say("It passes."), mended, say("It adds now.")) as server:
        given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--format", "json"]
        ran = miyabi("codegen", "Fix add", *given, cwd=repository)
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"], result["files_modified"]) == (0, "verified", ["calc.py"])
    assert result["warnings"] == []
    (told,) = said_to(server)
    assert "judged with those as they were before" in told
    assert "test_add" in told
