"""What git says of changes, and diffs in general: any name is read as it is, and any bytes are a diff or refused."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from miyabi_cli.errors import UsageError
from miyabi_cli.workspace.diffs import parse_diff
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.trees import compare_trees, patch_between
from tests.properties.strategies import mixed

ODD = some.sampled_from(
    [b"\xff", b"\n", b"\t", b'"', b"\\", b" ", b"b/", b"\xe2\x80\xae", b"a", b":", b"\x7f", b"-", b"\r"]
)
NAMES = (
    some.lists(ODD, min_size=1, max_size=5)
    .map(lambda parts: b"".join(parts).replace(b"/", b""))
    .filter(lambda name: name not in (b"", b".", b".."))
)
CONTENTS = some.sampled_from(
    [b"", b"a\n", b"a\nb\n", b"no end", b"\0\xff", b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n", b"\x85a\x0cb\n"]
)
TREES = some.dictionaries(NAMES, CONTENTS, max_size=3)


@pytest.fixture
def store(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A bare repository with the contents in it."""
    subprocess.run(["git", "init", "-q", "--bare", "."], cwd=tmp_path, env=environment, check=True)
    return tmp_path


def write_tree(store: Path, files: dict[bytes, bytes]) -> str:
    def git(*arguments: str, given: bytes) -> bytes:
        return subprocess.run(
            ["git", *arguments], cwd=store, input=given, capture_output=True, check=True
        ).stdout.strip()

    blobs = {name: git("hash-object", "-w", "--stdin", given=content) for name, content in files.items()}
    return git("mktree", "-z", given=b"".join(b"100644 blob %s\t%s\0" % (blobs[name], name) for name in files)).decode()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES, TREES)
def test_changes_between_trees_have_their_names(
    store: Path, before: dict[bytes, bytes], after: dict[bytes, bytes]
) -> None:
    old, new = write_tree(store, before), write_tree(store, after)
    expected = {os.fsdecode(name) for name in {**before, **after} if before.get(name) != after.get(name)}
    changes = compare_trees(Git(store), old, new)
    assert {change.path for change in changes} == expected
    for change in changes:
        name = os.fsencode(change.path)
        status = "created" if name not in before else "deleted" if name not in after else "modified"
        assert change.status == status
    patch = patch_between(Git(store), old, new)
    told = parse_diff(patch)
    renamed = {file.old_path for file in told if file.status == "renamed"}
    assert {file.path for file in told} | renamed == {name for name in expected}
    for file in told:
        if not file.binary and file.status == "created":
            written = "\n".join(line.text for line in file.added).encode("utf-8", "surrogateescape")
            assert written == after[os.fsencode(file.path)].removesuffix(b"\n")


DIFFS = mixed(
    *(
        "diff --git a/f b/f\n",
        "--- a/f\n",
        "+++ b/f\n",
        "--- /dev/null\n",
        "@@ -1 +1 @@\n",
        "@@ -1,9999 +1 @@\n",
        "-a\n",
    ),
    *(
        "+b\n",
        " c\n",
        "\\ No newline at end of file\n",
        "rename from x\n",
        "rename to y\n",
        "Binary files a and b differ\n",
    ),
    *("GIT binary patch\n", "literal 3\n", '"', "\\303\\", "\r\n", "\n", "new file mode 100644\n", "@@ -1 +1", "\x0c"),
    max_size=20,
)


@given(DIFFS.map(str.encode) | some.binary(max_size=80))
def test_any_bytes_are_a_diff_or_refused(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        for file in parse_diff(data):
            assert file.path
            assert not any("\n" in line.text for line in (*file.added, *file.removed))
