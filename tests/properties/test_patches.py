"""Patches: one that was made of two trees makes the second of the first, and none leaves the tree."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as some

from miyabi_cli.errors import MiyabiError, PatchConflict
from miyabi_cli.workspace.patch_matching import change_text
from miyabi_cli.workspace.patch_parsing import FileChange, Hunk, parse_patch
from miyabi_cli.workspace.patches import apply_patch
from miyabi_cli.workspace.paths import Root
from tests.properties.strategies import ANY_TEXT

# What ends a line for one reader and not for another, what looks like a patch, and what is left of a diff.
LINES = some.lists(
    some.sampled_from(["", " ", "\t", "a", "b", "@@ a", "--- a", "+++ b", "- x", "+ y", "\f", "\x85", "\u2028", "}"])
    | some.text(some.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=6),
    max_size=12,
)
PATHS = some.sampled_from(["a.py", "b/c.py", "b/d e.txt", "ü/漢.md", "-x", "--output=y", "a b/ c"])
TREES = some.dictionaries(PATHS, LINES, max_size=4)


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def section(path: str, before: list[str] | None, after: list[str] | None) -> list[str]:
    """Return a patch's section for one file, with all of its lines as context."""
    if after is None:
        return [f"*** Delete File: {path}"]
    if before is None:
        return [f"*** Add File: {path}", *(f"+{line}" for line in after)]
    diff = list(difflib.unified_diff(before, after, n=len(before), lineterm=""))[3:]
    return [f"*** Update File: {path}", "@@", *diff]


@settings(deadline=None)
@given(TREES, TREES)
def test_a_patch_of_two_trees_makes_the_second_of_the_first(
    before: dict[str, list[str]], after: dict[str, list[str]]
) -> None:
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    sections = [line for path in changed for line in section(path, before.get(path), after.get(path))]
    with TemporaryDirectory() as folder:
        root = Root(Path(folder))
        for path, lines in before.items():
            root.write(path, text(lines).encode())
        if changed:
            summary = apply_patch("\n".join(["*** Begin Patch", *sections, "*** End Patch"]), root)
            assert set(summary.paths) == set(changed)
        assert {path for path in {**before, **after} if root.exists(path)} == set(after)
        assert {path: root.read(path).decode() for path in after} == {path: text(after[path]) for path in after}


@settings(deadline=None)
@given(LINES, LINES)
@example(["a", "b"] * 300, ["b", "a", "c"] * 300)
@example([f"{number}" for number in range(300)] * 2, ["x", *(f"{number}" for number in range(300)), "y"] * 2)
def test_lines_that_stay_keep_the_file_s_own_bytes(before: list[str], after: list[str]) -> None:
    lines = [*(("-", line) for line in before), *(("+", line) for line in after)]
    if before != after and before:
        change = FileChange("update", "f", (Hunk(tuple(lines), ()),))  # type: ignore[arg-type]
        assert change_text(text(before), change) == text(after)


HOSTILE = some.one_of(
    some.sampled_from(
        ["../x", "/etc/x", "a/../../x", "out/x", "out", ".git/config", ".GIT/x", "~/x", "C:\\x", "a\\..\\x"]
    ),
    some.lists(some.sampled_from(["..", ".", "", "out", "a", ".git", " ", "\\", "x"]), max_size=5).map("/".join),
    ANY_TEXT,
)
FORMS = some.sampled_from(
    [
        "*** Add File: {}\n+x",
        "*** Update File: {}\n@@\n-a\n+x",
        "*** Delete File: {}",
        "*** Update File: a\n*** Move to: {}\n@@\n-a\n+x",
        "--- /dev/null\n+++ {}\n@@ -0,0 +1 @@\n+x",
        "diff --git a/a b/{}\nsimilarity index 100%\nrename from a\nrename to {}",
        "--- a\n+++ {}\n@@ -1 +1 @@\n-a\n+x",
    ]
)


@settings(deadline=None)
@given(some.lists(some.tuples(FORMS, HOSTILE), min_size=1, max_size=3), some.booleans())
def test_no_path_of_a_patch_leads_out_of_the_tree(files: list[tuple[str, str]], enveloped: bool) -> None:
    patch = "\n".join(form.replace("{}", path) for form, path in files)
    with TemporaryDirectory() as folder:
        outside, tree = Path(folder) / "outside", Path(folder) / "tree"
        (tree / ".git").mkdir(parents=True)
        (tree / ".git" / "config").write_text("a\n")
        outside.mkdir()
        (outside / "x").write_text("a\n")
        (tree / "a").write_text("a\n")
        (tree / "out").symlink_to(outside)
        try:
            apply_patch(f"*** Begin Patch\n{patch}\n*** End Patch" if enveloped else patch, Root(tree))
        except MiyabiError:  # a path that is refused, or a patch that does not fit
            assert (tree / "a").read_text() == "a\n"
        assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("x", "a\n")]
        assert (tree / ".git" / "config").read_text() == "a\n"
        assert sorted(path.name for path in (tree / ".git").iterdir()) == ["config"]
        assert sorted(path.name for path in Path(folder).iterdir()) == ["outside", "tree"]


@given(
    ANY_TEXT
    | some.lists(some.sampled_from(["*** ", "Begin Patch", "@@", "{", '{"patch": "', '"}', "\n", "\r\n", "<<EOF"])).map(
        "".join
    )
)
def test_any_text_is_read_as_a_patch_or_refused(given: str) -> None:
    with contextlib.suppress(PatchConflict):
        assert all(isinstance(change, FileChange) for change in parse_patch(given))
