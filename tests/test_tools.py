"""The agent's tools on a real tree, with and without the real sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.agent.tools import Toolbox, ToolResult
from miyabi_cli.workspace.paths import Root
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.sandbox import open_sandbox
from tests.support.sandboxes import make_bench, skip_without_bubblewrap

Git = Callable[..., str]
PATCH = (
    "*** Begin Patch\n*** Update File: calc.py\n@@ def add(a, b):\n-    return a - b\n+    return a + b\n*** End Patch"
)


@pytest.fixture
def tools(repository: Path, environment: dict[str, str]) -> Toolbox:
    """The tools on the small repository, with no sandbox."""
    return box(repository, environment)


def box(tree: Path, environment: dict[str, str], *, output_bytes: int = 20_000, seconds: float = 20) -> Toolbox:
    place = Place(tree, Path("/testbed"))
    sandbox = open_sandbox("off", repository=tree, environ=environment)
    return Toolbox(Root(tree, (Path("/testbed"),)), place, sandbox, Limits(seconds=seconds), output_bytes)


def call(tools: Toolbox, name: str, arguments: Any = "") -> ToolResult:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return asyncio.run(tools.run(name, text))


def output(tools: Toolbox, name: str, arguments: Any = "") -> str:
    result = call(tools, name, arguments)
    assert not result.failed, result.output
    return result.output


def failure(tools: Toolbox, name: str, arguments: Any = "") -> str:
    result = call(tools, name, arguments)
    assert result.failed, result.output
    return result.output


def test_functions(tools: Toolbox) -> None:
    functions = tools.functions()
    assert [function.name for function in functions] == [
        *("exec", "open_file", "search", "print_tree", "list_dir", "apply_patch")
    ]
    offered = [
        {"type": "function", "function": {"name": f.name, "description": f.description, "parameters": f.parameters}}
        for f in functions
    ]
    first = json.dumps(offered, separators=(",", ":"))
    assert len(first) < 1900
    assert tools.functions() == functions
    for function in functions:
        assert set(function.parameters["required"]) <= set(function.parameters["properties"])


def test_the_tools_have_the_names_of_the_training(tools: Toolbox) -> None:
    names = [f"{function.namespace}.{function.name}" for function in tools.functions()]
    trained = ["open_file", "search", "print_tree", "list_dir", "apply_patch"]
    assert names == ["container.exec", *(f"repo_browser.{name}" for name in trained)]
    for name in names:
        assert "there is no tool" not in call(tools, name).output


def test_unknown_tools_and_bad_arguments(tools: Toolbox) -> None:
    assert failure(tools, "teleport", "{}") == (
        "error: there is no tool 'teleport'\nthe tools are exec, open_file, search, print_tree, list_dir, apply_patch"
    )
    assert failure(tools, "open_file", "{}") == (
        "error: open_file: `path` is missing\ncall it as open_file(path, line_start?, line_end?)"
    )


def test_exec(tools: Toolbox) -> None:
    assert output(tools, "exec", {"cmd": "echo a; echo b >&2"}) == "a\nb"
    assert output(tools, "container.exec", {"command": ["bash", "-lc", "ls *.py"]}) == "calc.py\ntest_calc.py"
    assert output(tools, "exec", {"cmd": ["printf", "%s", "$HOME"]}) == "$HOME"
    assert output(tools, "exec", {"cmd": "true"}) == "[no output]"
    assert failure(tools, "exec", {"cmd": "echo a; exit 3"}) == "a\n[exit code 3]"
    assert failure(tools, "exec", {"cmd": "exit 3"}) == "[exit code 3]"
    assert failure(tools, "exec", {"cmd": "echo a; sleep 9", "timeout": 0.3}) == "a\n[timed out after 0.3 s]"


def test_exec_limits_are_those_of_the_toolbox(repository: Path, environment: dict[str, str]) -> None:
    tools = box(repository, environment, output_bytes=1000, seconds=0.3)
    assert failure(tools, "exec", {"cmd": "sleep 9", "timeout": 100_000}) == "[timed out after 0.3 s]"
    text = output(tools, "exec", {"cmd": "seq 1000"})
    assert text.startswith("1\n2\n")
    assert text.endswith("999\n1000")
    assert "bytes left out" in text
    assert len(text) < 1100


def test_workdir_stays_in_the_tree(tools: Toolbox) -> None:
    (tools.root.path / "sub").mkdir()
    for workdir in ("sub", "/testbed/sub", str(tools.root.path / "sub")):
        assert output(tools, "exec", {"cmd": "pwd", "workdir": workdir}) == str(tools.root.path / "sub")
    for workdir in ("..", "/", "/etc", ".git", "none", "calc.py"):
        assert "error: " in failure(tools, "exec", {"cmd": "pwd", "workdir": workdir})


def test_python(tools: Toolbox) -> None:
    assert output(tools, "python", "import calc\nprint('''it's''', calc.double(2))") == "it's 4"


def test_output_can_be_sent(tools: Toolbox) -> None:
    assert output(tools, "exec", {"cmd": r"printf 'a\000b\377c\n'"}) == "a\ufffdb\ufffdc"
    assert "\ud800" not in failure(tools, "open_file", {"path": "a\ud800"})


def test_open_file(tools: Toolbox) -> None:
    tools.root.write("long.txt", "".join(f"line {number}\n" for number in range(1, 501)).encode())
    lines = output(tools, "open_file", {"path": "long.txt"}).split("\n")
    assert lines[0] == "long.txt (lines 1-200 of 500)"
    assert lines[1:-1] == [f"line {number}" for number in range(1, 201)]
    assert lines[-1] == "[300 more lines: line_start=201]"
    part = {"path": "/testbed/long.txt", "line_start": 499, "line_end": 600}
    assert output(tools, "open_file", part) == "long.txt (lines 499-500 of 500)\nline 499\nline 500"
    whole = output(tools, "open_file", {"path": "long.txt", "line_start": 1, "line_end": -1})
    assert whole.startswith("long.txt (lines 1-500 of 500)\n")
    assert failure(tools, "open_file", {"path": "long.txt", "line_start": 501}) == "long.txt has only 500 lines"


def test_open_file_is_bounded(repository: Path, environment: dict[str, str]) -> None:
    tools = box(repository, environment, output_bytes=1000)
    tools.root.write("a", b"".join(b"%d %s\n" % (number, b"x" * 90) for number in range(100)))
    text = output(tools, "open_file", {"path": "a", "line_end": -1})
    assert len(text) <= 1000
    assert text.startswith("a (lines 1-9 of 100)\n")
    assert text.endswith("[91 more lines: line_start=10]")
    tools.root.write("wide", b"x" * 5000)
    big = box(repository, environment)
    assert output(big, "open_file", {"path": "wide"}).endswith("x… [3000 more characters]")


def test_open_file_of_what_is_none(tools: Toolbox) -> None:
    tools.root.write("binary", b"\0\1")
    tools.root.write("empty", b"")
    tools.root.write("windows", b"\xef\xbb\xbfa\r\nb\r\n")
    (tools.root.path / "folder").mkdir()
    assert failure(tools, "open_file", {"path": "binary"}) == "binary is a binary file of 2 bytes"
    assert output(tools, "open_file", {"path": "empty"}) == "empty is empty"
    assert output(tools, "open_file", {"path": "windows"}) == "windows (lines 1-2 of 2)\na\nb"
    assert (
        failure(tools, "open_file", {"path": "clac.py"})
        == "error: clac.py does not exist\nnear it: calc.py, test_calc.py"
    )
    assert "list_dir" in failure(tools, "open_file", {"path": "xyz"})
    assert "list_dir shows" in failure(tools, "open_file", {"path": "folder"})
    for path in ("/etc/passwd", "/proc/self/environ", "../x", ".git/config"):
        assert failure(tools, "open_file", {"path": path}).startswith("error: ")


def test_trees_and_listings(tools: Toolbox) -> None:
    for path in ("src/pkg/deep/a.py", "src/b.py", "node_modules/m/x.js", "src/__pycache__/b.pyc"):
        tools.root.write(path, b"")
    (tools.root.path / "link").symlink_to("src")
    (tools.root.path / "odd\nname").touch()
    assert output(tools, "print_tree", {"path": "", "depth": 3}).split("\n") == [
        "./",
        "  calc.py",
        "  link@",
        "  node_modules/",
        "  odd?name",
        "  src/",
        "    __pycache__/",
        "    b.py",
        "    pkg/",
        "      deep/",
        "  test_calc.py",
    ]
    assert output(tools, "list_dir", {"path": "src", "depth": 2}).split("\n") == [
        *("src/__pycache__/", "src/b.py", "src/pkg/", "src/pkg/deep/")
    ]
    assert output(tools, "ls") == "calc.py\nlink@\nnode_modules/\nodd?name\nsrc/\ntest_calc.py"
    (tools.root.path / "src/empty").mkdir()
    assert output(tools, "list_dir", "src/empty") == "src/empty is empty"
    assert "not a directory" in failure(tools, "print_tree", "calc.py")
    assert "does not exist" in failure(tools, "list_dir", "none")


def test_large_trees_are_bounded_and_broad(tools: Toolbox) -> None:
    for folder in range(4):
        (tools.root.path / f"d{folder}").mkdir()
        for number in range(150):
            (tools.root.path / f"d{folder}/{number:03}").touch()
    lines = output(tools, "print_tree", {"depth": 5}).split("\n")
    assert lines.count("    [50 more entries]") == 3
    assert lines.count("    [56 more entries]") == 1
    assert [line for line in lines if line.startswith("  d")] == ["  d0/", "  d1/", "  d2/", "  d3/"]
    assert len(lines) < 410
    assert "[50 more entries in d0]" in output(tools, "list_dir", {"depth": 5})


def test_apply_patch(tools: Toolbox) -> None:
    result = call(tools, "repo_browser.apply_patch", {"patch": PATCH})
    assert result == ToolResult("Success. Updated the following files:\nM calc.py", changed=("calc.py",))
    assert b"return a + b" in tools.root.read("calc.py")
    assert "the change is there already" in failure(
        tools, "apply_patch", {"patch": PATCH.replace("@@ def add(a, b):", "@@\n def add(a, b):")}
    )
    moves = "*** Add File: new\n+a\n*** Delete File: test_calc.py\n*** Update File: calc.py\n*** Move to: sums.py"
    assert output(tools, "apply_patch", moves).split("\n")[1:] == ["A new", "D test_calc.py", "R calc.py -> sums.py"]
    assert output(tools, "apply_patch", "*** Add File: new\n+a") == "Nothing changed: the files are like that already."
    assert failure(tools, "apply_patch", {"patch": ""}).startswith("error: the patch is empty")


@pytest.mark.parametrize(
    "command",
    [
        ["apply_patch", PATCH],
        ["bash", "-lc", f"apply_patch <<'EOF'\n{PATCH}\nEOF\n"],
        ["bash", "-lc", f"cd /testbed && apply_patch <<'PATCH'\n{PATCH}\nPATCH"],
        ["bash", "-c", f"set -e\ncd .\napply_patch << EOF\n{PATCH}\nEOF"],
        f"applypatch <<-EOF\n{PATCH}\n\tEOF",
        f"cat <<'EOF' | apply_patch\n{PATCH}\nEOF",
        f"apply_patch '{PATCH}'",
        f'apply_patch "{PATCH}"',
        f"apply_patch {PATCH}",
        f"apply_patch {PATCH}\nThat's it.",
    ],
)
def test_apply_patch_in_a_command(tools: Toolbox, command: Any) -> None:
    result = call(tools, "exec", {"cmd": command})
    assert result.output == "Success. Updated the following files:\nM calc.py"
    assert result.changed == ("calc.py",)
    assert b"return a + b" in tools.root.read("calc.py")


def test_apply_patch_before_further_commands(tools: Toolbox) -> None:
    script = f"apply_patch <<'EOF' && echo done\n{PATCH}\nEOF\ngrep -n '[+]' calc.py; exit 4"
    result = call(tools, "exec", {"cmd": script})
    assert result.output == "Success. Updated the following files:\nM calc.py\ndone\n5:    return a + b\n[exit code 4]"
    assert result.failed
    assert result.changed == ("calc.py",)


def test_apply_patch_in_a_folder(tools: Toolbox) -> None:
    tools.root.write("sub/calc.py", tools.root.read("calc.py"))
    command = f"cd sub && apply_patch <<'EOF'\n{PATCH}\nEOF\npwd"
    result = call(tools, "exec", {"cmd": command})
    assert result.output.split("\n")[1:] == ["M sub/calc.py", str(tools.root.path / "sub")]
    again = {"cmd": ["apply_patch", PATCH], "workdir": "sub"}
    assert "does not fit" in failure(tools, "exec", again)


def test_what_only_speaks_of_apply_patch(tools: Toolbox) -> None:
    assert output(tools, "exec", {"cmd": "echo apply_patch"}) == "apply_patch"
    text = failure(tools, "exec", {"cmd": f"true; false || apply_patch <<'EOF'\n{PATCH}\nEOF"})
    assert "apply_patch is a tool, not a program" in text
    assert b"return a - b" in tools.root.read("calc.py")
    assert "there is no patch" in failure(tools, "exec", {"cmd": "apply_patch --help"})


def test_write_file(tools: Toolbox) -> None:
    assert call(tools, "write_file", {"path": "a/b.txt", "content": "x\n"}).changed == ("a/b.txt",)
    assert tools.root.read("a/b.txt") == b"x\n"
    assert output(tools, "create_file", {"path": "a/b.txt", "content": "y\n"}).endswith("M a/b.txt")
    assert call(tools, "write_file", {"path": "a/b.txt", "content": "y\n"}).changed == ()
    assert "outside" in failure(tools, "write_file", {"path": "/etc/x", "content": ""})
    assert "half a character" in failure(tools, "write_file", '{"path": "a", "content": "\\ud800"}')


def replacing(tools: Toolbox, old: str, new: str, **more: Any) -> ToolResult:
    return call(tools, "str_replace", {"path": "f", "old": old, "new": new, **more})


def test_replace(tools: Toolbox) -> None:
    tools.root.write("f", b"one two\n  three \r\none\n")
    assert replacing(tools, "one two", "1 2").changed == ("f",)
    assert replacing(tools, "three", "3").changed == ("f",)
    assert tools.root.read("f") == b"1 2\n  3 \r\none\n"
    tools.root.write("f", b"a\n    b\n    c\na\n")
    assert "2 times, at lines 1, 4" in replacing(tools, "a", "A").output
    assert replacing(tools, "a", "A", replace_all=True).changed == ("f",)
    assert replacing(tools, "b\nc\n", "if b:\n    c\n").changed == ("f",)
    assert tools.root.read("f") == b"A\n    if b:\n        c\nA\n"
    assert "does not fit" in replacing(tools, "no such line", "x").output
    assert replacing(tools, "A\n    if", "A\n    if").changed == ()
    assert "`old` is empty" in replacing(tools, "", "x").output
    tools.root.write("f", b"a\0")
    assert "binary" in replacing(tools, "a", "x").output


def test_search(tools: Toolbox) -> None:
    tools.root.write("src/a b.txt", "def add(: Straße\n".encode())
    assert output(tools, "search", {"query": "def add"}) == "calc.py:4: def add(a, b):\nsrc/a b.txt:1: def add(: Straße"
    assert output(tools, "search", {"path": "calc.py", "query": r"return a \W b"}) == "calc.py:5: return a - b"
    assert output(tools, "search", {"path": "/testbed/src", "query": "add(:"}) == "src/a b.txt:1: def add(: Straße"
    assert output(tools, "search", {"query": "add(2, 3)"}) == "test_calc.py:5: assert add(2, 3) == 5"
    assert output(tools, "search", {"query": "nothing like it"}) == "no match for 'nothing like it' in ."
    assert failure(tools, "search", {"path": "clac.py", "query": "x"}).endswith("near it: calc.py, test_calc.py")


def test_a_query_is_never_an_option_or_a_command(tools: Toolbox) -> None:
    tools.root.write("-f", b"--version $(touch hacked) `id` -f\n")
    for query in ("--version", "$(touch hacked)", "`id`", "-f"):
        assert output(tools, "search", {"query": query, "path": "-f"}).startswith("-f:1: --version")
    assert not tools.root.exists("hacked")


def test_search_leaves_out_what_nobody_wants(tools: Toolbox) -> None:
    tools.root.write(".gitignore", b"ignored/\n")
    tools.root.write("ignored/a.txt", b"needle ignored\n")
    tools.root.write(".hidden/a.txt", b"needle hidden\n")
    tools.root.write("binary", b"\0needle\n")
    tools.root.write("wide.txt", b"needle " + b"x" * 100_000 + b"\n")
    (tools.root.path / ".git/needle").write_text("needle\n")
    lines = output(tools, "search", {"query": "needle"}).split("\n")
    assert [line.split(":")[0] for line in lines] == [".hidden/a.txt", "wide.txt"]
    assert len(lines[1]) < 300
    assert output(tools, "search", {"query": "needle", "path": "ignored"}) == "ignored/a.txt:1: needle ignored"


def test_search_follows_a_link_within_the_tree_and_refuses_what_leads_out_or_never_ends(
    tools: Toolbox, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.txt").write_text("needle\n")
    tools.root.write("src/a.txt", b"needle\n")
    for name, target in {"in": "src", "one": "src/a.txt", "out": tmp_path / "outside", "gone": "nowhere"}.items():
        (tools.root.path / name).symlink_to(target)
    os.mkfifo(tools.root.path / "fifo")
    assert output(tools, "search", {"query": "needle", "path": "in"}) == "in/a.txt:1: needle"
    assert output(tools, "search", {"query": "needle", "path": "one"}) == "one:1: needle"
    for name in ("out", "gone", "fifo"):
        assert failure(tools, "search", {"query": "needle", "path": name}).startswith("error: ")


def test_search_shows_many_files_before_many_lines(tools: Toolbox) -> None:
    for number in range(5):
        tools.root.write(f"f{number}", b"needle\n" * 100)
    lines = output(tools, "search", {"query": "needle", "max_results": 12}).split("\n")
    assert [line.split(":")[0] for line in lines[:-1]] == [f"f{number}" for number in range(5) for _ in range(2)]
    assert lines[-1] == "[490 more matches, 5 files in all; narrow the path or the query]"
    assert len(output(tools, "search", {"query": "needle", "max_results": 3}).split("\n")) == 4


def test_search_without_git_or_ripgrep(repository: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("sh", "grep", "cut"):
        found = subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True, text=True, check=True)
        (tmp_path / "bin" / program).symlink_to(found.stdout.strip())
    tools = box(repository, {**environment, "PATH": str(tmp_path / "bin")})
    assert (
        output(tools, "search", {"query": r"def (add|double)\("})
        == "calc.py:4: def add(a, b):\ncalc.py:8: def double(a):"
    )
    assert output(tools, "search", {"query": "def add(", "path": "calc.py"}) == "calc.py:4: def add(a, b):"
    (tmp_path / "bin/grep").unlink()
    assert "the search failed" in failure(tools, "search", {"query": "x"})


def test_search_gives_up_in_time(repository: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin/git"
    slow.write_text("#!/bin/sh\nsleep 9\n")
    slow.chmod(0o755)
    tools = box(repository, {**environment, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}, seconds=0.3)
    assert "took longer" in failure(tools, "search", {"query": "x"})


def test_in_the_sandbox(tmp_path: Path) -> None:
    """All of it once in bubblewrap, where the tree lies at the repository's own path."""
    skip_without_bubblewrap(tmp_path)
    bench = make_bench(tmp_path)
    tools = Toolbox(
        Root(bench.place.tree, (bench.place.inside,)), bench.place, bench.open(), Limits(seconds=20), 10_000
    )
    assert output(tools, "exec", {"cmd": "pwd"}) == str(bench.place.inside)
    assert output(tools, "exec", {"cmd": "ls", "workdir": str(bench.place.inside / "package")}) == "module.py"
    assert output(tools, "search", {"query": "VALUE"}) == "package/module.py:1: VALUE = 'worktree'"
    assert output(tools, "open_file", {"path": str(bench.place.inside / "a.txt")}) == "a.txt (lines 1-1 of 1)\none"
    assert output(tools, "python", "open('made', 'w').write('x')") == "[no output]"
    assert tools.root.read("made") == b"x"
    assert failure(tools, "exec", {"cmd": f"cat {tmp_path}/home/.ssh/id_ed25519"}).endswith("[exit code 1]")
