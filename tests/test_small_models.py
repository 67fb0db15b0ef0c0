"""Models without tools, played by recordings: rewriting, infilling, writing anew, and actions as objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Miyabi, Ran
from tests.support.server import chat_server, say
from tests.test_codegen import FIX, TASK, result_of

Git = Callable[..., str]
SMALL = "qwen2.5-coder-1.5b"
SAME_LINE = "return a - b"  # what the first attempt gets for the one line that it leaves out


def play(miyabi: Miyabi, repository: Path, *texts: str, task: str = TASK, flags: Sequence[str] = ()) -> Ran:
    recording = repository.parent / "recording.jsonl"
    lines: list[dict[str, Any]] = [{"type": "run_started", "model": SMALL}, *({"text": text} for text in texts)]
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return miyabi(
        "codegen", task, "--provider", "replay", "--model", str(recording), "--format", "json", *flags, cwd=repository
    )


def events(miyabi: Miyabi) -> list[dict[str, Any]]:
    shown = json.loads(miyabi("runs", "show", "last", "--format", "json", "--events").stdout)
    found: list[dict[str, Any]] = shown["events"]
    return found


def fenced(body: str) -> str:
    return f"Here it is:\n```python\ndef add(a, b):\n    {body}\n```\nThat was it."


def test_a_small_model_is_shown_the_function_and_rewrites_it(repository: Path, miyabi: Miyabi) -> None:
    ran = play(miyabi, repository, SAME_LINE, fenced("return a + b"))
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert (result["status"], result["summary"], result["model"]) == ("verified", "rewrote calc.py", SMALL)
    assert (result["lines_added"], result["lines_removed"]) == (1, 1)
    _, opened = [event for event in events(miyabi) if event["type"] == "conversation_opened"]
    (message,) = opened["messages"]
    assert TASK in message["content"]
    assert "def add(a, b):\n    return a - b" in message["content"]
    assert "test_add" in message["content"]
    assert "test_double" not in message["content"]
    assert opened["functions"] == []


def test_lines_are_left_out_one_by_one_until_the_checks_pass(repository: Path, miyabi: Miyabi, git: Git) -> None:
    add = 'def add(a, b):\n    """Add."""\n    a = +a\n    b = +b\n    return a - b\n'
    (repository / "calc.py").write_text(f"{add}\n\ndef double(a):\n    return a * 2\n")
    git("commit", "-qam", "longer", cwd=repository)
    ran = play(miyabi, repository, "a = +a", "b = 0\nreturn 7", "return a + b")
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert [attempt["status"] for attempt in result["attempts"]] == ["verified"]
    assert git("diff", "HEAD", result["branch"], "--", "calc.py", cwd=repository).count("\n+    return a + b") == 1
    assert (result["lines_added"], result["lines_removed"]) == (1, 1)
    assert "changed line 5 of calc.py" in result["summary"]
    infilled = [event["call"]["arguments"] for event in events(miyabi) if event["type"] == "tool_started"]
    assert [json.loads(arguments)["code"] for arguments in infilled] == ["b = 0", "return a + b"]


def test_a_linter_that_fails_on_a_stub_is_no_bug_to_mend_by_a_line(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "ruff.toml").write_text("lint.select = ['F']\n")
    (repository / "calc.py").write_text("import os\n\n\ndef add(a, b): ...\n\n\ndef double(a):\n    return a * 2\n")
    (repository / "test_calc.py").write_text("from calc import double\n\n\ndef test(): assert double(2) == 4\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "a stub", cwd=repository)
    ran = play(miyabi, repository, fenced("return a + b"), task="Implement add", flags=["--attempts", "1"])
    result = result_of(ran)
    before = {check["name"]: check["before"] for check in result["checks"]}
    assert before == {"pytest": "pass", "ruff": "fail"}
    assert "+    return a + b" in result["patch"]
    assert not [event for event in events(miyabi) if event.get("call", {}).get("name") == "infill"]


def test_a_line_that_mends_one_test_is_kept_where_another_goes_on_failing(
    repository: Path, miyabi: Miyabi, git: Git
) -> None:
    (repository / "test_other.py").write_text("def test_of_old():\n    assert False\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "a test that failed before", cwd=repository)
    ran = play(miyabi, repository, "return a + b", "never asked")
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert [attempt["status"] for attempt in result["attempts"]] == ["verified"]
    tests = result["checks"][0]["tests"]
    assert (len(tests["fixed"]), len(tests["still_failing"])) == (1, 1)


def test_a_test_that_never_ends_leaves_time_for_the_work(repository: Path, miyabi: Miyabi, git: Git) -> None:
    loop = "def add(a, b):\n    while True: a += b\n\n\ndef double(a):\n    return a * 2\n"
    (repository / "calc.py").write_text(loop)
    git("commit", "-qam", "loop", cwd=repository)
    ran = play(miyabi, repository, "return a + b", flags=["--max-time", "16", "--attempts", "1"])
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert (result["status"], result["lines_added"]) == ("verified", 1)
    assert 3 < next(event["seconds"] for event in events(miyabi) if event["type"] == "check_ended") < 8


def test_what_was_tried_and_put_back_is_not_reported(repository: Path, miyabi: Miyabi) -> None:
    result = result_of(play(miyabi, repository, "return a * b", flags=["--attempts", "1"]))
    assert (result["status"], result["patch"]) == ("failed", "")
    assert [(check["before"], check["after"]) for check in result["checks"]] == [("fail", "fail")]
    assert result["tests_added"] == 0
    assert result["warnings"] == []


def test_then_the_function_is_written_anew_without_the_old_body(repository: Path, miyabi: Miyabi) -> None:
    copy = fenced("return a - b")
    ran = play(miyabi, repository, SAME_LINE, copy, fenced("return b + a"))
    assert ran.code == 0, ran.stderr
    assert [attempt["status"] for attempt in result_of(ran)["attempts"]] == ["failed", "failed", "verified"]
    heads = [event["messages"] for event in events(miyabi) if event["type"] == "conversation_opened"]
    assert "return a - b" in heads[1][0]["content"]
    assert "return a - b" not in heads[2][0]["content"]
    assert "def add(a, b):\n    ..." in heads[2][0]["content"]


def test_where_all_attempts_fail_the_best_one_is_kept_as_unverified(repository: Path, miyabi: Miyabi) -> None:
    wrong = fenced("return a * b")
    ran = play(miyabi, repository, SAME_LINE, wrong, wrong, fenced("return 0"), task="Mend test_calc.py")
    assert ran.code == 1, ran.stderr
    result = result_of(ran)
    assert result["status"] == "unverified"
    assert [attempt["status"] for attempt in result["attempts"]] == ["failed", "unverified", "unverified", "unverified"]
    assert result["branch"]


def test_a_feature_is_asked_for_where_nothing_fails(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "calc.py").write_text((repository / "calc.py").read_text().replace("a - b", "a + b"))
    git("commit", "-qam", "mended", cwd=repository)
    half = "```python\nimport math\n\n\ndef half(a):\n    return math.floor(a / 2)\n```"
    ran = play(miyabi, repository, half, task="Add a function half to calc.py that rounds down")
    result = result_of(ran)
    assert (result["status"], result["files_modified"]) == ("verified", ["calc.py"])
    assert git("show", f"{result['branch']}:calc.py", cwd=repository).endswith("return math.floor(a / 2)")
    (opened,) = [event for event in events(miyabi) if event["type"] == "conversation_opened"]
    assert "functions that change or are new" in opened["messages"][0]["content"]


def test_the_code_goes_to_the_file_that_has_its_function(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "other.py").write_text("def triple(a):\n    return a * 4\n")
    (repository / "test_other.py").write_text(
        "from other import triple\n\n\ndef test_it():\n    assert triple(1) == 3\n"
    )
    git("add", ".", cwd=repository)
    git("commit", "-qm", "another", cwd=repository)
    right = "```python\ndef triple(a):\n    return a * 3\n```"
    ran = play(miyabi, repository, SAME_LINE, "return a * 4", right)
    assert result_of(ran)["files_modified"] == ["other.py"]


def test_prose_is_answered_once_with_what_is_wrong(repository: Path, miyabi: Miyabi) -> None:
    ran = play(miyabi, repository, SAME_LINE, "I can not do that.", fenced("return a + b"))
    assert result_of(ran)["status"] == "verified"
    (told,) = [event["message"]["content"] for event in events(miyabi) if event["type"] == "message_added"]
    assert "can't be used: the code is not Python" in told


def test_a_server_whose_model_has_no_tools_is_asked_for_objects(repository: Path, miyabi: Miyabi) -> None:
    patch = say(json.dumps({"tool": "apply_patch", "arguments": {"patch": FIX}}))
    finish = say(json.dumps({"tool": "finish", "arguments": {"summary": "Adds now."}}))
    with chat_server(patch, finish) as server:
        ran = miyabi(
            *("codegen", TASK, "--endpoint", server.url, "--model", "plain", "--format", "json"),
            cwd=repository,
            env={"MIYABI_LLM__OPENAI__TOOLS": "schema"},
        )
        first = server.requests[0].json
    assert ran.code == 0, ran.stderr
    assert result_of(ran)["summary"] == "Adds now."
    assert "tools" not in first
    names = [
        branch["properties"]["tool"]["const"] for branch in first["response_format"]["json_schema"]["schema"]["anyOf"]
    ]
    assert names[-1] == "finish"
    assert "apply_patch" in names
    assert "- apply_patch(patch)" in first["messages"][0]["content"]
    replayed = miyabi("runs", "replay", "last")
    assert (replayed.code, replayed.stdout) == (0, result_of(ran)["patch"]), replayed.stderr


def in_rust(body: str) -> str:
    return f"```rust\nfn add(a: i32, b: i32) -> i32 {{\n    {body}\n}}\n```"


def test_other_languages_are_filled_in_rewritten_and_written_anew(repository: Path, miyabi: Miyabi, git: Git) -> None:
    source = (
        "/// Adds.\npub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\npub fn two(a: i32) -> i32 {\n    a * 2\n}\n"
    )
    (repository / "src").mkdir()
    (repository / "src/lib.rs").write_text(source)
    git("add", ".", cwd=repository)
    git("commit", "-qm", "rust", cwd=repository)
    failing = "grep -q 'a + b' src/lib.rs || { echo src/lib.rs:3:5: assertion failed; exit 1; }"
    flags = ["--check", failing, "--attempts", "3"]
    replies = ("a - b // why", in_rust("a - b"), in_rust("a + b"))
    ran = play(miyabi, repository, *replies, task="Mend src/lib.rs", flags=flags)
    result = result_of(ran)
    assert [attempt["status"] for attempt in result["attempts"]] == ["failed", "failed", "verified"]
    told = source.replace("a - b", "a + b")
    assert git("show", f"{result['branch']}:src/lib.rs", cwd=repository) == told.strip()
    opened = [event for event in events(miyabi) if event["type"] == "conversation_opened"]
    rewriting, anew = [event["messages"][0]["content"] for event in opened[1:]]
    assert "```rust\n/// Adds.\npub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}" in rewriting
    assert "pub fn add(a: i32, b: i32) -> i32 {\n    …\n}\n```" in anew
    filled = play(miyabi, repository, "a + b", task="Mend src/lib.rs", flags=flags)
    assert "changed line 3 of src/lib.rs to `a + b`" in result_of(filled)["summary"]
