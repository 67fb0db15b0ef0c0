"""A patch that takes from the tests is told of; one that adds to them, or moves them, is not."""

from __future__ import annotations

import pytest

from miyabi_cli.codegen.weakening import weakened_tests
from miyabi_cli.workspace.diffs import parse_diff


def change(path: str, body: str, *, status: str = "") -> str:
    """Return the diff of one file with one hunk; `status` is one of git's extended headers."""
    old = sum(line[0] in " -" for line in body.splitlines())
    new = sum(line[0] in " +" for line in body.splitlines())
    return f"diff --git a/{path} b/{path}\n{status}--- a/{path}\n+++ b/{path}\n@@ -1,{old} +1,{new} @@\n{body}"


def told(diff: str) -> list[tuple[str, str]]:
    return [(found.path, found.message) for found in weakened_tests(parse_diff(diff.encode()))]


def test_a_deleted_test_file() -> None:
    diff = change("tests/test_a.py", "-def test_a():\n-    assert f() == 1\n", status="deleted file mode 100644\n")
    assert told(diff) == [("tests/test_a.py", "it deletes tests")]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("test_a.py", "@pytest.mark.skip(reason='later')"),
        ("test_a.py", "    @unittest.skipIf(True, 'x')"),
        ("test_a.py", "@pytest.mark.xfail"),
        ("test_a.py", "    pytest.skip('not now')"),
        ("tests/test_a.py", "        self.skipTest('x')"),
        ("src/lib.rs", "    #[ignore]"),
        ("src/lib.rs", '    #[ignore = "slow"]'),
    ],
)
def test_a_skip_that_comes(path: str, line: str) -> None:
    ((where, message),) = told(change(path, f" one\n+{line}\n two\n"))
    assert where == path
    assert message == f"it skips tests: {line.strip()}"


def test_fewer_and_other_assertions() -> None:
    fewer = change("test_a.py", " def test_a():\n-    assert f() == 1\n-    assert g() == 2\n+    f()\n")
    assert told(fewer) == [("test_a.py", "2 fewer assertions: assert f() == 1 and 1 more")]
    other = change("test_a.py", " def test_a():\n-    assert f() == 1\n+    assert f()\n")
    assert told(other) == [("test_a.py", "1 assertion is changed: assert f() == 1")]


def test_how_tests_are_run() -> None:
    ini = change("pytest.ini", " [pytest]\n+addopts = --deselect test_a.py::test_a\n")
    assert told(ini) == [("pytest.ini", "it changes which tests run, or how")]
    package = change("package.json", '-    "test": "vitest run",\n+    "test": "true",\n')
    assert told(package) == [("package.json", "it changes which tests run, or how")]
    assert told(change("pyproject.toml", '-version = "1.0"\n+version = "1.1"\n')) == []


def test_what_adds_or_moves_is_not_told_of() -> None:
    assert told(change("test_a.py", " def test_a():\n     assert f() == 1\n+    assert g() == 2\n")) == []
    moved = "-    assert f() == 1\n def test_a():\n+        assert f() == 1\n"
    assert told(change("test_a.py", moved)) == []
    assert told(change("a.py", "-    assert x\n+    assert y\n")) == []
    assert told(change("test_a.py", "+    # assert that this is not skipped: @skip\n one\n")) == []
    taken_away = "-@pytest.mark.skip\n def test_a():\n"
    assert told(change("test_a.py", taken_away)) == []
