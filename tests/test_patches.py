"""Patches as gpt-oss writes them, on real files."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.errors import MachineError, PatchConflict
from miyabi_cli.workspace.patches import FileChange, PatchSummary, apply_patch, parse_patch
from miyabi_cli.workspace.paths import Root
from tests.support.disks import largest_file

CLASSES = """\
class One:
    def name(self):
        return None

    def size(self):
        return 0


class Two:
    def name(self):
        return None

    def size(self):
        return 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path, (Path("/testbed"),))


def update(hunks: str, path: str = "f") -> str:
    return f"*** Begin Patch\n*** Update File: {path}\n{hunks}\n*** End Patch"


def changed(root: Root, before: str, hunks: str) -> str:
    """Return what a file with `before` in it reads after a patch."""
    root.write("f", before.encode())
    apply_patch(update(hunks), root)
    return root.read("f").decode()


def conflict(root: Root, before: str, hunks: str) -> PatchConflict:
    """Return the refusal of a patch, having seen that the file is as it was."""
    root.write("f", before.encode())
    with pytest.raises(PatchConflict) as caught:
        apply_patch(update(hunks), root)
    assert root.read("f") == before.encode()
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_kinds_at_once(root: Root) -> None:
    for name in ("changed", "gone", "old", "moved"):
        root.write(name, b"one\ntwo\n")
    (root.path / "old").chmod(0o755)
    patch = """\
*** Begin Patch
*** Add File: new/deep.txt
+first
+
+third
*** Update File: changed
@@
 one
-two
+2
*** Delete File: gone
*** Update File: old
*** Move to: fresh
@@
-one
+1
*** Update File: moved
*** Move to: away/moved
*** End Patch
"""
    assert apply_patch(patch, root) == PatchSummary(
        created=("new/deep.txt",),
        modified=("changed",),
        deleted=("gone",),
        moved=(("moved", "away/moved"), ("old", "fresh")),
    )
    assert files(root.path) == {
        "new/deep.txt": b"first\n\nthird\n",
        "changed": b"one\n2\n",
        "fresh": b"1\ntwo\n",
        "away/moved": b"one\ntwo\n",
    }
    assert (root.path / "fresh").stat().st_mode & 0o777 == 0o755


def test_summary_paths(root: Root) -> None:
    summary = PatchSummary(("c",), ("b",), ("a",), (("x", "y"),))
    assert summary.paths == ("a", "b", "c", "x", "y")


BARE = "*** Update File: f\n@@\n-old\n+new"
WHOLE = f"*** Begin Patch\n{BARE}\n*** End Patch"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE + "\n\n",
        BARE,
        f"*** Begin Patch\n{BARE}",
        f"{BARE}\n*** End Patch\nThat is all.",
        f"Here is the patch:\n{WHOLE}",
        f"apply_patch <<'EOF'\n{WHOLE}\nEOF\n",
        f'apply_patch <<"PATCH"\n{BARE}\nPATCH\n',
        f"cat <<EOF | apply_patch\n{BARE}\nEOF\necho done",
        f'apply_patch "{WHOLE}"',
        f"```diff\n{BARE}\n```\n",
        f"```\n{WHOLE}\n```",
        json.dumps({"patch": WHOLE}),
        json.dumps({"input": BARE}),
        '{"patch": "' + WHOLE + '"}',
        WHOLE.replace("\n", "\r\n"),
        "\ufeff" + WHOLE,
        WHOLE.replace("@@", "@@ -1,1 +1,1 @@"),
        WHOLE.replace("@@", "@@ -7 +7 @@ def not_there():"),
        WHOLE.replace("@@\n", ""),
        WHOLE.replace("@@", "@@ ... @@"),
        WHOLE.replace("@@", "--- a/f\n+++ b/f\n@@ -1 +1 @@"),
        WHOLE.replace("@@\n", "@@\n\n") + "\n",
        WHOLE.replace("+new\n", "+new\n\n"),
        WHOLE.replace("File: f", "file: `f`  "),
        WHOLE.replace("File: f", "File: /testbed/f"),
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n",
        "--- f\t2024-01-01\n+++ f\t2024-01-02\n@@\n-old\n+new\n",
        "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new",
        f"*** Begin Patch\n{BARE}\n*** End Patch\n*** Begin Patch\n*** Update File: f\n-new\n+new\n*** End Patch",
    ],
)
def test_envelopes(root: Root, text: str) -> None:
    root.write("f", b"old\n")
    assert apply_patch(text, root).modified == ("f",)
    assert root.read("f") == b"new\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diff --git a/x b/x\n--- ", "x does not exist"),
        ("", "the patch is empty"),
        ("  \n", "the patch is empty"),
        ("*** Begin Patch\n*** End Patch\n", "there is no patch"),
        ("hello", "there is no patch"),
        ("{}", "there is no patch"),
        ("{" * 5000, "there is no patch"),
        ("*** Begin Patch\nhello\n*** End Patch", "can't read the line 'hello'"),
        ("*** Update File: f\n@@\n", "changes no line of f"),
        ("*** Update File: f\n@@\n one\n two", "changes no line of f"),
        ("*** Update File:\n-a", "names no file"),
        ("*** Update File: f\n@@\n-a\nb", "the line 'b' of the patch has no prefix"),
        ("*** Add File: f\nhello", "does not begin with `+`"),
        ("*** Update File: ../f\n-a", "has `..` in it"),
        ("*** Add File: .git/hooks/x\n+a", "is git's own"),
        ("*** Add File: /etc/x\n+a", "outside of the repository"),
        ("*** Add File: x\n+\ud800", "lone surrogate"),
    ],
)
def test_what_is_no_patch(root: Root, text: str, message: str) -> None:
    with pytest.raises(PatchConflict, match=message.replace("`", ".").replace("'", ".")):
        apply_patch(text, root)
    assert files(root.path) == {}


def test_unified_diff_of_several_files(root: Root) -> None:
    root.write("sql", b"-- one\nselect 1\n")
    root.write("gone", b"x\n")
    root.write("was", b"x\ny\n")
    patch = """\
diff --git a/sql b/sql
--- a/sql
+++ b/sql
@@ -1,2 +1,2 @@
--- one
+++ two
 select 1
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/new b/new
new file mode 100644
--- /dev/null
+++ b/new
@@ -0,0 +1,2 @@
+1
+2
\\ No newline at end of file
diff --git a/was b/is
similarity index 50%
rename from was
rename to is
--- a/was
+++ b/is
@@ -1,2 +1,2 @@
 x
-y
+z
"""
    assert apply_patch(patch, root).moved == (("was", "is"),)
    assert files(root.path) == {"sql": b"++ two\nselect 1\n", "new": b"1\n2", "is": b"x\nz\n"}


def test_several_sections_for_one_file(root: Root) -> None:
    root.write("f", b"a\nb\n")
    apply_patch("*** Update File: f\n-a\n+A\n*** Update File: f\n A\n-b\n+B\n", root)
    assert root.read("f") == b"A\nB\n"


def test_delete_and_add_writes_anew(root: Root) -> None:
    root.write("f", b"a\n")
    assert apply_patch("*** Delete File: f\n*** Add File: f\n+b", root).modified == ("f",)
    assert root.read("f") == b"b\n"


def test_add_of_a_file_that_is_there(root: Root) -> None:
    root.write("f", b"a\n")
    with pytest.raises(PatchConflict, match="f exists already") as caught:
        apply_patch("*** Add File: f\n+b", root)
    assert "*** Update File:" in (caught.value.hint or "")
    assert apply_patch("*** Add File: f\n+a", root) == PatchSummary()


def test_move_onto_a_file_that_is_there(root: Root) -> None:
    root.write("f", b"a\n")
    root.write("g", b"b\n")
    with pytest.raises(PatchConflict, match="can't be moved to g"):
        apply_patch("*** Update File: f\n*** Move to: g\n-a\n+c", root)


def test_a_missing_file_names_those_near(root: Root) -> None:
    root.write("models/expressions.py", b"")
    for section in ("*** Update File: models/expression.py\n-a\n+b", "*** Delete File: models/expression.py"):
        with pytest.raises(PatchConflict, match="does not exist") as caught:
            apply_patch(section, root)
        assert "models/expressions.py" in (caught.value.hint or "")


def test_links_and_binary_files(root: Root) -> None:
    root.write("f", b"a\n")
    root.write("binary", b"a\n\0")
    (root.path / "link").symlink_to("f")
    for path, message in (("link", "symbolic link"), ("binary", "binary"), ("f/x", "not a directory")):
        with pytest.raises(PatchConflict, match=message):
            apply_patch(update("-a\n+b", path), root)
    assert root.read("f") == b"a\n"


def test_folder(root: Root) -> None:
    root.write("sub/f", b"a\n")
    assert apply_patch(update("-a\n+b"), root, folder="sub").modified == ("sub/f",)
    assert apply_patch(update("-b\n+c", "/testbed/sub/f"), root, folder="sub").modified == ("sub/f",)


@pytest.mark.parametrize(
    ("before", "hunks", "after"),
    [
        pytest.param("a\nb\nc\n", "@@\n a\n-b\n+B\n c", "a\nB\nc\n", id="exact"),
        pytest.param("a\nc\n", "@@\n a\n+b\n c", "a\nb\nc\n", id="insertion"),
        pytest.param("a\n\nc\n", "@@\n a\n\n-c\n+C", "a\n\nC\n", id="empty line without prefix"),
        pytest.param("a\nz\n", "@@\n a\n+b\n\n+c\n z", "a\nb\n\nc\nz\n", id="empty added line without prefix"),
        pytest.param("a  \nb\n", "@@\n a\n-b\n+B", "a  \nB\n", id="trailing space in context is kept"),
        pytest.param("a\nb \n", "@@\n-b\n+B", "a\nB\n", id="trailing space in a removed line"),
        pytest.param("x = f(a,  b)\ny\n", "@@\n x = f(a, b)\n-y\n+z", "x = f(a,  b)\nz\n", id="inner space"),
        pytest.param("“q” — r\ny\n", '@@\n "q" - r\n-y\n+z', "“q” — r\nz\n", id="punctuation"),
        pytest.param("“q”\ny\n", '@@\n-"q"\n-y\n+"q"\n+z', "“q”\nz\n", id="removed and added again"),
        pytest.param("a\r\nb\r\n", "@@\n a\n-b\n+B\n+C", "a\r\nB\r\nC\r\n", id="crlf"),
        pytest.param("a\nb", "@@\n-b\n+B\n+C", "a\nB\nC", id="no newline at the end"),
        pytest.param("a\nb", "@@\n-a\n+A", "A\nb", id="no newline at the end, changed above"),
        pytest.param("a\r\nb", "@@\n-b\n+B\n+C", "a\r\nB\r\nC", id="no newline at the end, crlf"),
        pytest.param("\ufeffa\nb\n", "@@\n-a\n+A", "\ufeffA\nb\n", id="byte order mark"),
        pytest.param("a\nb", "@@\n-b\n\\ No newline at end of file\n+B", "a\nB\n", id="newline added at the end"),
        pytest.param("a\nb\n", "@@\n-b\n+B\n\\ No newline at end of file", "a\nB", id="newline removed at the end"),
        pytest.param("a\n", "@@\n-a", "", id="all removed"),
        pytest.param("", "@@\n+a", "a\n", id="into an empty file"),
        pytest.param("a\na\n", "@@\n+b\n*** End of File", "a\na\nb\n", id="appended"),
        pytest.param("a\nx\na\n", "@@\n-a\n+b\n*** End of File", "a\nx\nb\n", id="end of file decides"),
        pytest.param("a\nx\na\n\n", "@@\n-a\n+b\n*** End of File", "a\nx\nb\n\n", id="end of file, empty line after"),
        pytest.param("a\nb\n", "@@\n-a\n+A\n*** End of File", "A\nb\n", id="not at the end, but the only place"),
        pytest.param("a\nb\na\n", "@@\n-b\n+B\n@@\n-a\n+A", "a\nB\nA\n", id="order decides"),
        pytest.param("a\nb\n", "@@\n-b\n+B\n@@\n-a\n+A", "A\nB\n", id="hunks in another order"),
        pytest.param("a\nb\nc\n", "@@\n-a\n+A\n b\n@@\n b\n-c\n+C", "A\nb\nC\n", id="shared context"),
        pytest.param("a\nc\n", "@@\n a\n+b\n@@\n b\n-c\n+C", "a\nb\nC\n", id="context that a hunk before added"),
        pytest.param("  a\n a\n", "@@\n- a\n+ b", "  a\n b\n", id="the same wins over the alike"),
    ],
)
def test_hunks(root: Root, before: str, hunks: str, after: str) -> None:
    assert changed(root, before, hunks) == after


@pytest.mark.parametrize(
    ("anchors", "line"),
    [
        ("@@ class Two:\n@@     def name(self):", 10),
        ("@@ class Two:\n@@ def name", 10),
        ("@@ class One:", 2),
        ("@@ class One: @@", 2),
        ("@@ class Two\n     def name(self):", 10),
    ],
)
def test_anchors_decide(root: Root, anchors: str, line: int) -> None:
    wanted = CLASSES.splitlines()
    wanted[line] = "        return self._name"
    after = changed(root, CLASSES, f"{anchors}\n-        return None\n+        return self._name")
    assert after.splitlines() == wanted


def test_anchor_with_braces(root: Root) -> None:
    before = "int f()\n{\n  return 0;\n}\nint g()\n{\n  return 0;\n}\n"
    assert changed(root, before, "@@ int f()\n-  return 0;\n+  return 1;") == before.replace("0", "1", 1)


def test_added_lines_below_an_anchor(root: Root) -> None:
    assert changed(root, "a:\n  b\nc:\n  b\n", "@@ c:\n+  x") == "a:\n  b\nc:\n  x\n  b\n"


@pytest.mark.parametrize(
    ("before", "hunks", "message"),
    [
        ("a\nb\na\n", "@@\n-a\n+A", "f: hunk 1 of 1 fits in 2 places: at lines 1, 3"),
        ("a \nb\na  \n", "@@\n-a\n+A", "fits in 2 places"),
        ("a\n" * 30, "@@\n-a\n+A", "at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 20 more"),
        ("x\na\nb\na\na\n", "@@\n-b\n+B\n@@\n-a\n+A", "hunk 2 of 2 fits in 2 places: at lines 4, 5"),
        (CLASSES, "@@ def name(self):\n-        return None\n+        return 1", "fits in 2 places: at lines 3, 11"),
        (CLASSES, "@@ class Three:\n-        return None\n+        return 1", "`@@ class Three:` is not in the file"),
        ("a\nb\nclass X:\n  c\n", "@@ class X:\n-a\n+A", "fits at line 1, but that is not below `@@ class X:`"),
        ("a\n", "@@\n+b", "has added lines alone"),
        ("a\na\n", "@@ a\n+b", "its `@@` line is at lines 1, 2"),
        ("a\n", "@@\n-b\n+c", "f: hunk 1 of 1 does not fit the file"),
    ],
)
def test_refusals(root: Root, before: str, hunks: str, message: str) -> None:
    assert message in conflict(root, before, hunks).message


def test_a_misfit_shows_the_lines_that_are_there(root: Root) -> None:
    before = "".join(f"line {number}\n" for number in range(1, 200))
    error = conflict(root, before, "@@\n line 99\n line 100\n-line one hundred and one\n+x\n line 102")
    assert "line 101 is `line 101`, not `line one hundred and one`" in (error.hint or "")
    assert "\n  101  line 101\n" in (error.hint or "")
    assert "line 90\n" not in (error.hint or "")


def test_a_misfit_is_bounded(root: Root) -> None:
    before = "".join(f"{number} {'x' * 1000}\n" for number in range(500))
    error = conflict(root, before, "@@\n" + "".join(f" {n} {'x' * 1000}\n" for n in range(100, 200)) + "-no\n+x")
    assert len((error.hint or "").splitlines()) <= 41
    assert max(map(len, (error.hint or "").splitlines())) < 600


def test_a_misfit_without_a_line_in_common(root: Root) -> None:
    error = conflict(root, "alpha\nbeta\ndef compute(value):\n", "@@\n-def compute(valeu):\n+x")
    assert "line 3 is `def compute(value):`" in (error.hint or "")
    assert "the lines there are:" in (conflict(root, "alpha\n", "@@\n-1234567\n+x").hint or "")
    assert "the file is empty" in (conflict(root, "", "@@\n-a\n+x").hint or "")


def test_a_change_that_is_there_already(root: Root) -> None:
    error = conflict(root, "x\na\nnew\nb\n", "@@\n a\n-old\n+new\n b")
    assert "there already, at line 2" in (error.hint or "")


@pytest.mark.parametrize(
    ("before", "hunks", "after"),
    [
        pytest.param(
            "if x:\n        a()\n        b()\n",
            "@@\n     a()\n-    b()\n+    for i in y:\n+        c()",
            "if x:\n        a()\n        for i in y:\n            c()\n",
            id="deeper",
        ),
        pytest.param(
            "def f():\n    a()\n    b()\n",
            "@@\n         a()\n-        b()\n+        if c:\n+            d()\n",
            "def f():\n    a()\n    if c:\n        d()\n",
            id="shallower",
        ),
        pytest.param(
            "def f():\n\ta()\n\tb()\n",
            "@@\n def f():\n     a()\n-    b()\n+    if c:\n+        d()",
            "def f():\n\ta()\n\tif c:\n\t\td()\n",
            id="spaces written, tabs there",
        ),
        pytest.param(
            "def f():\n  a()\n",
            "@@\n def f():\n-    a()\n+    if c:\n+        d()",
            "def f():\n  if c:\n    d()\n",
            id="four written, two there",
        ),
        pytest.param("\ta\n\n\tb\n", "@@\n a\n\n-b\n+\n+c", "\ta\n\n\n\tc\n", id="tab lost, empty lines"),
    ],
)
def test_indentation_is_carried_over(root: Root, before: str, hunks: str, after: str) -> None:
    assert changed(root, before, hunks) == after


@pytest.mark.parametrize(
    ("before", "hunks"),
    [
        pytest.param("a\n    b\n", "@@\n   a\n-  b\n+  c", id="no rule"),
        pytest.param("\ta\n", "@@\n-a\n+a\n+    b", id="would mix tabs and spaces"),
        pytest.param("a\n", "@@\n-    a\n+  b", id="shallower than what is left out"),
        pytest.param("x\n\ta\n", "@@\n x\n-    a\n+      b", id="no whole tab"),
    ],
)
def test_indentation_is_not_guessed(root: Root, before: str, hunks: str) -> None:
    assert "indented in another way" in conflict(root, before, hunks).message


def test_indentation_does_not_matter_where_nothing_is_added(root: Root) -> None:
    assert (
        changed(
            root,
            "a\n    b\nc\n",
            "@@\n   a\n-  b",
        )
        == "a\nc\n"
    )


def test_bytes_that_are_no_utf8_are_kept(root: Root) -> None:
    root.write("f", b"caf\xe9\nold\n")
    apply_patch(update("-old\n+new"), root)
    assert root.read("f") == b"caf\xe9\nnew\n"


def test_nothing_is_written_where_one_file_does_not_fit(root: Root) -> None:
    root.write("a", b"1\n")
    root.write("b", b"2\n")
    before = files(root.path)
    with pytest.raises(PatchConflict):
        apply_patch("*** Update File: a\n-1\n+one\n*** Add File: c\n+c\n*** Update File: b\n-3\n+three", root)
    assert files(root.path) == before


def test_a_failed_write_puts_all_back(root: Root) -> None:
    root.write("a", b"1\n")
    root.write("gone", b"2\n")
    before = files(root.path)
    patch = f"*** Update File: a\n-1\n+one\n*** Add File: b\n+b\n*** Delete File: gone\n*** Add File: c\n+{'x' * 3000}"
    with largest_file(1000), pytest.raises(MachineError, match="can't write c"):
        apply_patch(patch, root)
    assert files(root.path) == before


def test_a_file_in_the_way_puts_all_back(root: Root) -> None:
    with pytest.raises(PatchConflict):
        apply_patch("*** Add File: a\n+1\n*** Add File: a/b\n+2\n", root)
    assert files(root.path) == {}


LINES = st.lists(st.text(alphabet="ab \t-+@*\\{", max_size=4), max_size=30)


def patch_lines(before: list[str], after: list[str], context: int) -> str:
    """Return the hunks that turn one list of lines into another, without numbers."""
    diff = difflib.unified_diff(before, after, n=context, lineterm="")
    return "\n".join("@@" if line.startswith("@@") else line for line in list(diff)[2:])


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@settings(deadline=None)
@given(LINES, LINES)
def test_a_diff_with_all_context_gives_the_new_file(before: list[str], after: list[str]) -> None:
    if before != after:
        with TemporaryDirectory() as folder:
            assert changed(Root(Path(folder)), text(before), patch_lines(before, after, 100)) == text(after)


@settings(deadline=None)
@given(LINES, LINES, st.integers(0, 3))
def test_a_unified_diff_gives_the_new_file(before: list[str], after: list[str], context: int) -> None:
    diff = "\n".join(difflib.unified_diff(before, after, "a/f", "b/f", n=context, lineterm=""))
    if diff:
        with TemporaryDirectory() as folder:
            root = Root(Path(folder))
            root.write("f", text(before).encode())
            apply_patch(diff, root)
            assert root.read("f").decode() == text(after)


@settings(deadline=None)
@given(LINES, LINES, st.integers(1, 3))
def test_a_diff_with_little_context_is_never_applied_elsewhere(before: list[str], after: list[str], n: int) -> None:
    hunks = patch_lines(before, after, n)
    if before != after:
        with TemporaryDirectory() as folder:
            try:
                assert changed(Root(Path(folder)), text(before), hunks) == text(after)
            except PatchConflict as error:
                refusal = error.message
                assert "places" in refusal or "added lines alone" in refusal


@settings(deadline=None)
@given(st.lists(st.integers(), unique=True, max_size=40), st.data())
def test_lines_that_differ_need_no_more_than_context(numbers: list[int], data: st.DataObject) -> None:
    before = [f"line {number}" for number in numbers]
    after = [line for line in before if data.draw(st.booleans())]
    if before != after:
        with TemporaryDirectory() as folder:
            assert changed(Root(Path(folder)), text(before), patch_lines(before, after, 1)) == text(after)


PIECES = st.sampled_from(
    [
        "*** Begin Patch",
        "*** End Patch",
        "*** Add File: g",
        "*** Add File: a/../b",
        "*** Update File: f",
        "*** Delete File: f",
        "*** Move to: g",
        "*** End of File",
        "@@",
        "@@ a",
        "@@ -1,2 +3,4 @@",
        "--- a/f",
        "+++ b/f",
        "diff --git a/f b/f",
        "-a",
        "+b",
        " a",
        "",
        "+",
        "{",
        "EOF",
        "```",
        "apply_patch <<'EOF'",
        "\\ No newline at end of file",
    ]
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("\n".join)))
def test_any_text_is_applied_whole_or_refused(patch: str) -> None:
    with TemporaryDirectory() as folder:
        root = Root(Path(folder))
        root.write("f", b"a\nx\na\n")
        before = files(root.path)
        try:
            summary = apply_patch(patch, root)
        except PatchConflict:
            assert files(root.path) == before
        else:
            after = files(root.path)
            assert set(summary.paths) == {path for path in {*before, *after} if before.get(path) != after.get(path)}


def test_parse_patch() -> None:
    (change,) = parse_patch("*** Update File: a b\n*** Move to: c\n@@ x\n@@ y\n-1\n*** End of File")
    assert change == FileChange("update", "a b", change.hunks, "c")
    (hunk,) = change.hunks
    assert (hunk.anchors, hunk.lines, hunk.at_end) == (("x", "y"), (("-", "1"),), True)
