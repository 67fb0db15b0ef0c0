"""Names and arguments of tool calls as models write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.agent.arguments import BadArguments, read_arguments
from miyabi_cli.agent.editing import PatchRequest, ReplaceRequest, WriteRequest
from miyabi_cli.agent.execution import ExecRequest
from miyabi_cli.agent.reading import FolderRequest, OpenRequest
from miyabi_cli.agent.searching import SearchRequest
from miyabi_cli.agent.tools import TOOLS, prepare

PATCH = "*** Begin Patch\n*** Delete File: a\n*** End Patch"


@pytest.mark.parametrize(
    "name",
    [
        "exec",
        "container.exec",
        "functions.exec",
        "functions.container.exec",
        "container_exec",
        "functions_exec",
        "exec<|channel|>commentary",
        "container.exec<|channel|>analysis code",
        "<|channel|>container.exec<|channel|>analysis",
        "to=container.exec",
        "assistant to=container.exec",
        " exec ",
        "EXEC",
        "exec code",
        '"exec"',
        "bash",
        "shell",
        "terminal",
        "run",
        "run-command",
    ],
)
def test_names_of_exec(name: str) -> None:
    assert prepare(name, '{"cmd": "ls"}') == ExecRequest("ls")


def test_every_alias_is_of_one_tool() -> None:
    names = [name for tool in TOOLS for name in (tool.name, *tool.aliases)]
    assert len(names) == len(set(names))
    assert {"cat", "read_file", "grep", "find", "ls", "tree", "edit", "patch", "write_file", "python"} <= set(names)


@pytest.mark.parametrize("name", ["", "fetch", "browser.open_url", "assistant", "json", "<|channel|>", "."])
def test_unknown_tools(name: str) -> None:
    with pytest.raises(BadArguments, match="there is no tool") as caught:
        prepare(name, "{}")
    assert caught.value.hint == "the tools are exec, open_file, search, print_tree, list_dir, apply_patch"


ARGV = ExecRequest(("bash", "-lc", "ls -R"))


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ('{"cmd": "ls"}', ExecRequest("ls")),
        ('{"command": "ls"}', ExecRequest("ls")),
        ('{"commands": ["bash", "-lc", "ls -R"]}', ARGV),
        ('{"cmd": ["bash", "-lc", "ls -R"]}\n', ARGV),
        ('{"cmd": [["bash", "-lc", "ls -R"]]}', ARGV),
        ('{"cmd": "[\\"bash\\", \\"-lc\\", \\"ls -R\\"]"}', ARGV),
        ('["bash", "-lc", "ls -R"]', ARGV),
        ("{'cmd': ['bash', '-lc', 'ls -R']}", ARGV),
        ('{"cmd": ["ls -R"]}', ExecRequest("ls -R")),
        ('{"cmd": ["cd src", "pytest -q"]}', ExecRequest("cd src && pytest -q")),
        ('{"cmd": "ls"} and then I will see', ExecRequest("ls")),
        ('{"cmd": "ls"}<|call|>', ExecRequest("ls")),
        ('{"cmd": "ls"}{"cmd": "pwd"}', ExecRequest("ls")),
        ('```json\n{"cmd": "ls"}\n```', ExecRequest("ls")),
        ('{"cmd": "echo a\necho b"}', ExecRequest("echo a\necho b")),
        (r'{"cmd": "grep -E \d+\.py \"a\\b\" \u0041"}', ExecRequest(r'grep -E \d+\.py "a\b" A')),
        (json.dumps(json.dumps({"cmd": "ls"})), ExecRequest("ls")),
        ('{"arguments": {"cmd": "ls"}}', ExecRequest("ls")),
        ('{"name": "exec", "arguments": "{\\"cmd\\": \\"ls\\"}"}', ExecRequest("ls")),
        ('{"CMD": "ls", "line_numbers": true, "justification": null}', ExecRequest("ls")),
        ("ls -la | head", ExecRequest("ls -la | head")),
        ('"ls -la"', ExecRequest("ls -la")),
        ("[ -f a ] && cat a", ExecRequest("[ -f a ] && cat a")),
        ("{ ls; pwd; }", ExecRequest("{ ls; pwd; }")),
        ('"a b" c', ExecRequest('"a b" c')),
        ('{"cmd": "ls", "workdir": "src", "timeout": "10"}', ExecRequest("ls", "src", 10)),
        ('{"cmd": "ls", "cwd": "src", "timeout_ms": 1500}', ExecRequest("ls", "src", 1.5)),
        ('{"cmd": "ls", "workdir": null, "timeout": -1}', ExecRequest("ls")),
        ('{"cmd": "ls", "timeout": NaN}', ExecRequest("ls")),
    ],
)
def test_arguments_of_exec(arguments: str, request_: ExecRequest) -> None:
    assert prepare("exec", arguments) == request_


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ('{"path": "a.py"}', OpenRequest("a.py")),
        ('{"file": " a.py ", "line_start": "3", "line_end": 5.0, "line_numbers": true}', OpenRequest("a.py", 3, 5)),
        ('{"path": ["a.py"], "start_line": 5, "end_line": 3}', OpenRequest("a.py", 3, 5)),
        ('{"path": "a.py", "line_start": 0, "line_end": -1}', OpenRequest("a.py", 1, 1 << 62)),
        ('{"path": "a.py", "view_range": [2, 4]}', OpenRequest("a.py", 2, 4)),
        ('{"path": "a.py", "line_start": "first"}', OpenRequest("a.py")),
        ("src/a.py", OpenRequest("src/a.py")),
    ],
)
def test_arguments_of_open_file(arguments: str, request_: OpenRequest) -> None:
    assert prepare("repo_browser.open_file", arguments) == request_


@pytest.mark.parametrize(
    ("name", "arguments", "request_"),
    [
        ("search", '{"query": "x"}', SearchRequest("x", "")),
        ("grep", '{"pattern": "x", "directory": "src", "max_results": "3"}', SearchRequest("x", "src", 3)),
        ("search", '{"path": "", "query": "x", "max_results": 100000}', SearchRequest("x", "", 200)),
        ("search", "get_order_by", SearchRequest("get_order_by", "")),
        ("print_tree", "", FolderRequest("", 2)),
        ("tree", '{"path": null, "depth": 0}', FolderRequest("", 1)),
        ("ls", "{}", FolderRequest("", 1)),
        ("list_dir", '{"path": "src", "depth": 99}', FolderRequest("src", 10)),
        ("apply_patch", PATCH, PatchRequest(PATCH)),
        ("apply_patch", PATCH + "<|call|>", PatchRequest(PATCH)),
        ("edit", json.dumps({"input": PATCH}), PatchRequest(PATCH)),
        ("patch", json.dumps({"diff": PATCH.split("\n")}), PatchRequest(PATCH)),
        ("apply_patch", json.dumps({"cmd": ["apply_patch", PATCH]}), PatchRequest(PATCH)),
        ("apply_patch", json.dumps({"path": "a", "content": PATCH}), PatchRequest(PATCH)),
        ("write_file", '{"path": "a", "content": "b\\n"}', WriteRequest("a", "b\n")),
        ("edit_file", '{"file_path": "a", "old_string": "b", "new_string": "c"}', ReplaceRequest("a", "b", "c")),
        (
            "str_replace",
            '{"path": "a", "old": "b", "new": "", "replace_all": true}',
            ReplaceRequest("a", "b", "", True),
        ),
        ("python", "print(1)\nprint({})", ExecRequest(("python3", "-c", "print(1)\nprint({})"))),
        ("python", '{"code": "print(1)"}', ExecRequest(("python3", "-c", "print(1)"))),
        ("python", '{"code": ["a = 1", "print(a)"]}', ExecRequest(("python3", "-c", "a = 1\nprint(a)"))),
    ],
)
def test_arguments_of_the_others(name: str, arguments: str, request_: object) -> None:
    assert prepare(name, arguments) == request_


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("exec", "", "exec: `cmd` is missing"),
        ("exec", "{}", "exec: `cmd` is missing"),
        ("exec", "null", "exec: `cmd` is missing"),
        ("exec", '{"cmd": []}', "exec: `cmd` is empty"),
        ("exec", '{"cmd": {"a": 1}}', "exec: `cmd` has to be a text or a list of texts"),
        ("exec", '{"cmd": "ls', "exec: the arguments are no whole JSON object"),
        ("exec", '{"cmd": "a\\u0000b"}', "exec: a command can't hold a NUL character"),
        ("exec", json.dumps({"cmd": "x" * 140_000}), "exec: the command has 140,000 bytes"),
        ("python", "{}", "python: `code` is missing"),
        ("open_file", "{}", "open_file: `path` is missing"),
        ("open_file", '{"path": {"a": 1}}', "open_file: `path` has to be text"),
        ("search", '{"path": "src"}', "search: `query` is missing"),
        ("search", '{"query": " "}', "search: `query` has to be one line"),
        ("search", '{"query": "a\\nb"}', "search: `query` has to be one line"),
        ("apply_patch", "{}", "apply_patch: `patch` is missing"),
        ("apply_patch", '{"patch": 5, "path": true}', "apply_patch: `path` has to be text"),
    ],
)
def test_what_can_not_be_read(name: str, arguments: str, message: str) -> None:
    with pytest.raises(BadArguments) as caught:
        prepare(name, arguments)
    assert caught.value.message.startswith(message)
    assert (caught.value.hint or "").startswith("call it as ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["cmd", "path"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from([tool.name for tool in TOOLS]), st.text() | JSON.map(json.dumps) | JSON.map(repr))
def test_any_text_is_a_request_or_refused(name: str, arguments: str) -> None:
    try:
        request = prepare(name, arguments)
    except BadArguments:
        return
    assert hash(request) is not None


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["cmd", "path", "patch", "depth"]), st.text() | st.integers(), min_size=1))
def test_what_is_right_is_read_as_it_is(arguments: dict[str, Any]) -> None:
    assert read_arguments(json.dumps(arguments), "cmd") == arguments
    assert read_arguments(json.dumps(json.dumps(arguments)) + "\n", "cmd") == arguments
    assert read_arguments(repr(arguments), "cmd") == arguments
