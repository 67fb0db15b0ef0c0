"""Diffs as git writes them are read back to the lines that came and went."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miyabi_cli.errors import UsageError
from miyabi_cli.workspace.diffs import FileDiff, parse_diff

ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git_diff(folder: Path, old: dict[str, bytes], new: dict[str, bytes]) -> bytes:
    """Return git's diff between two sets of files."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True, env=ENVIRONMENT)
    trees = []
    for files in (old, new):
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        subprocess.run(["git", "-C", folder, "add", "-A"], check=True, env=ENVIRONMENT)
        tree = subprocess.run(["git", "-C", folder, "write-tree"], check=True, env=ENVIRONMENT, capture_output=True)
        trees.append(tree.stdout.decode().strip())
        for path in files:
            (folder / path).unlink()
    command = ["git", "-C", str(folder), "diff-tree", "-r", "-p", "--binary", "-M", *trees]
    return subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True).stdout


def rebuilt(old: bytes, diff: FileDiff) -> bytes:
    """Apply a file's diff to its old content by the parsed line numbers."""
    lines = old.decode("utf-8", "surrogateescape").split("\n")
    result: list[str] = []
    at = 1
    for hunk in diff.hunks:
        first = hunk.old_start if any(line.kind != "+" for line in hunk.lines) else hunk.old_start + 1
        result += lines[at - 1 : first - 1]
        at = first
        for line in hunk.lines:
            if line.kind != "+":
                assert lines[at - 1] == line.text
                assert line.old == at
                at += 1
            if line.kind != "-":
                result.append(line.text)
                assert line.new == len(result)
    result += lines[at - 1 :]
    return "\n".join(result).encode("utf-8", "surrogateescape")


def test_what_comes_and_goes(tmp_path: Path) -> None:
    old = {"a.py": b"one\ntwo\nthree\n", "gone.txt": b"x\n", "old name.txt": b"1\n2\n3\n4\n5\n", "b.bin": b"\0\1"}
    new = {"a.py": b"one\n2\nthree\n", "new.txt": b"y", "new name.txt": b"1\n2\n3\n4\n6\n", "b.bin": b"\0\2"}
    found = {diff.path: diff for diff in parse_diff(git_diff(tmp_path, old, new))}
    assert {path: diff.status for path, diff in found.items()} == {
        "a.py": "modified",
        "b.bin": "modified",
        "gone.txt": "deleted",
        "new.txt": "created",
        "new name.txt": "renamed",
    }
    assert [(line.text, line.new) for line in found["a.py"].added] == [("2", 2)]
    assert [(line.text, line.old) for line in found["a.py"].removed] == [("two", 2)]
    assert found["b.bin"].binary
    assert found["b.bin"].hunks == ()
    assert found["new name.txt"].old_path == "old name.txt"
    assert [line.text for line in found["new.txt"].added] == ["y"]


@pytest.mark.parametrize("name", ["ä ö.txt", 'a"b.txt', "tab\there", "back\\slash", "b/a b/x", "new\nline", "\udcff.x"])
def test_names_as_git_quotes_them(tmp_path: Path, name: str) -> None:
    (found,) = parse_diff(git_diff(tmp_path, {name: b"1\n"}, {name: b"2\n"}))
    assert (found.path, found.old_path) == (name, name)


def test_a_rename_alone_and_a_mode_alone() -> None:
    text = (
        b"diff --git a/x y.txt b/z.txt\nsimilarity index 100%\nrename from x y.txt\nrename to z.txt\n"
        b"diff --git a/run b/run\nold mode 100644\nnew mode 100755\n"
    )
    moved, mode = parse_diff(text)
    assert (moved.path, moved.old_path, moved.status) == ("z.txt", "x y.txt", "renamed")
    assert (mode.path, mode.status, mode.hunks) == ("run", "modified", ())


def test_a_diff_of_another_tool_with_prose_around_it() -> None:
    header = b"Subject: x\n\n--- a/one.c\t2024-01-01 00:00:00\n+++ b/one.c\t2024-01-02\n"
    text = header + b"@@ -1 +1,2 @@ f\n-a\n+b\n+\n-- \n2.39\n"
    (found,) = parse_diff(text)
    assert (found.path, found.status, found.hunks[0].section) == ("one.c", "modified", "f")
    assert [(line.text, line.new) for line in found.added] == [("b", 1), ("", 2)]


def test_a_removed_line_that_looks_like_a_header() -> None:
    text = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- a/y\n+++ b/y\n @@ -1 +1 @@\n"
    (found,) = parse_diff(text)
    assert [line.text for line in found.removed] == ["-- a/y"]
    assert [line.text for line in found.added] == ["++ b/y"]


@pytest.mark.parametrize(
    "hunk", ["@@ -1,3 +1,3 @@\n a\n", "@@ -1 +1 @@\n a\n+b\n*c", "@@ nonsense\n a\n", "@@ -1 +1 @@\n+a\n+b\n-c\n"]
)
def test_a_hunk_that_is_not_one_is_refused(hunk: str) -> None:
    if hunk.startswith("@@ -1 +1 @@\n a"):
        hunk = hunk.replace("@@ -1 +1 @@", "@@ -1,2 +1,2 @@")
    with pytest.raises(UsageError, match="not a unified diff"):
        parse_diff(f"--- a/x\n+++ b/x\n{hunk}".encode())


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for text in (data, b"diff --git " + data, b"--- a\n+++ b\n@@ -1 +1 @@\n" + data):
        with contextlib.suppress(UsageError):
            assert all(line.text.count("\n") == 0 for found in parse_diff(text) for line in found.added)


LINES = st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=6), max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(LINES, LINES)
def test_the_new_file_is_the_old_one_with_the_diff(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str]
) -> None:
    before, after = (("\n".join(["first", *lines]) + "\n").encode() for lines in (old, new))
    if b"\0" in before + after:
        return
    found = parse_diff(git_diff(tmp_path_factory.mktemp("diff"), {"f": before}, {"f": after}))
    assert (rebuilt(before, found[0]) if found else before) == after
