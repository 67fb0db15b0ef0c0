"""The tools of the agent: one record each, with the names that models call them by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from miyabi_cli.agent.arguments import Arguments, BadArguments, heal_name, read_arguments
from miyabi_cli.agent.editing import EditRequest, edit, read_edit
from miyabi_cli.agent.execution import ExecRequest, Shell, execute, read_exec, read_python
from miyabi_cli.agent.reading import (
    FolderRequest,
    OpenRequest,
    list_dir,
    open_file,
    print_tree,
    read_listing,
    read_open,
    read_tree,
)
from miyabi_cli.agent.results import ToolResult, sendable
from miyabi_cli.agent.searching import SearchRequest, read_search, search
from miyabi_cli.errors import MiyabiError, PatchConflict
from miyabi_cli.messages import Function
from miyabi_cli.workspace.paths import PathRefused, Root
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.sandbox import Sandbox

__all__ = ["TOOLS", "Request", "Tool", "ToolResult", "Toolbox", "prepare"]

Request = ExecRequest | OpenRequest | SearchRequest | FolderRequest | EditRequest


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `namespace`: the family of tools that gpt-oss was trained to know it in. `bare`: the argument that a
    text stands for which is no JSON; a tool that is not `offered` is only understood. `read` makes a request of
    arguments or raises BadArguments, and `perform` fulfils it."""

    namespace: str
    name: str
    description: str
    properties: dict[str, Any]
    required: tuple[str, ...]
    aliases: tuple[str, ...]
    bare: str
    read: Callable[[Arguments], Request]
    perform: Callable[[Toolbox, Any], Awaitable[ToolResult]]
    offered: bool = True

    def function(self) -> Function:
        """Return what a server is told of the tool."""
        schema = {"type": "object", "properties": self.properties, "required": list(self.required)}
        return Function(self.name, self.description, schema, self.namespace)

    def usage(self) -> str:
        """Return the tool's name and arguments in one line."""
        names = (name if name in self.required else f"{name}?" for name in self.properties)
        return f"{self.name}({', '.join(names)})"


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools at work on one tree: `limits` hold for each command, `output_bytes` for each tool's output.

    `environment` is what commands get beside the sandbox's own variables, such as the path that tests import from.
    """

    root: Root
    place: Place
    sandbox: Sandbox
    limits: Limits
    output_bytes: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def functions(self) -> tuple[Function, ...]:
        """Return the tools that are offered, always in the same order."""
        return tuple(tool.function() for tool in TOOLS if tool.offered)

    async def run(self, name: str, arguments: str) -> ToolResult:
        """Run a tool by the name and the arguments that a model wrote.

        What it got wrong, and what its patch or path did not find, is a failed result that says so. Raises
        SandboxError and MachineError, which no model can mend.
        """
        try:
            tool, request = _prepared(name, arguments)
            result = await tool.perform(self, request)
        except (BadArguments, PathRefused, PatchConflict) as error:
            result = ToolResult(_told(error), failed=True)
        return sendable(result, self.output_bytes)

    def bounds(self) -> Limits:
        """Return the limits of a command, whose output is no longer than a tool's."""
        return replace(self.limits, output_bytes=min(self.limits.output_bytes, self.output_bytes))


def prepare(name: str, arguments: str) -> Request:
    """Return what a call asks for. Raises BadArguments, made for the model."""
    return _prepared(name, arguments)[1]


def _prepared(name: str, arguments: str) -> tuple[Tool, Request]:
    tool = next((tool for tool in TOOLS if tool.name == heal_name(name, _KNOWN)), None)
    if tool is None:
        names = ", ".join(tool.name for tool in TOOLS if tool.offered)
        raise BadArguments(f"there is no tool {name[:80]!r}", hint=f"the tools are {names}")
    try:
        return tool, tool.read(read_arguments(arguments, tool.bare))
    except BadArguments as error:
        raise BadArguments(f"{tool.name}: {error.message}", hint=error.hint or f"call it as {tool.usage()}") from None


def _told(error: MiyabiError) -> str:
    return f"error: {error.message}" + (f"\n{error.hint}" if error.hint else "")


async def _exec(tools: Toolbox, request: ExecRequest) -> ToolResult:
    shell = Shell(tools.sandbox, tools.place, tools.bounds(), tools.environment)
    return await execute(tools.root, shell, request)


async def _search(tools: Toolbox, request: SearchRequest) -> ToolResult:
    return await search(tools.root, tools.sandbox, tools.place, tools.limits, request)


async def _open_file(tools: Toolbox, request: OpenRequest) -> ToolResult:
    return await asyncio.to_thread(open_file, tools.root, request, tools.output_bytes * 9 // 10)


async def _print_tree(tools: Toolbox, request: FolderRequest) -> ToolResult:
    return await asyncio.to_thread(print_tree, tools.root, request)


async def _list_dir(tools: Toolbox, request: FolderRequest) -> ToolResult:
    return await asyncio.to_thread(list_dir, tools.root, request)


async def _edit(tools: Toolbox, request: EditRequest) -> ToolResult:
    return await asyncio.to_thread(edit, tools.root, request)


_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_CODE = {"code": _TEXT}

TOOLS = (
    Tool(
        "container",
        "exec",
        'Run a command: a shell command line, or argv like ["bash","-lc","…"].',
        {
            "cmd": {"type": ["array", "string"], "items": _TEXT},
            "workdir": _TEXT,
            "timeout": {"type": "number", "description": "seconds"},
        },
        ("cmd",),
        ("bash", "shell", "sh", "terminal", "run", "execute", "cmd", "command", "run_command", "run_shell", "run_bash"),
        "cmd",
        read_exec,
        _exec,
    ),
    Tool(
        "repo_browser",
        "open_file",
        "Read lines of a file (default: 200 lines).",
        {"path": _TEXT, "line_start": _WHOLE, "line_end": _WHOLE},
        ("path",),
        ("open", "cat", "read", "read_file", "view", "view_file", "show_file", "get_file"),
        "path",
        read_open,
        _open_file,
    ),
    Tool(
        "repo_browser",
        "search",
        "Search file contents for a text or regex.",
        {
            "path": {"type": "string", "description": "file or directory, empty: all"},
            "query": _TEXT,
            "max_results": _WHOLE,
        },
        ("query",),
        (
            "grep",
            "find",
            "rg",
            "search_files",
            "search_file",
            "search_code",
            "grep_search",
            "find_in_files",
            "code_search",
        ),
        "query",
        read_search,
        _search,
    ),
    Tool(
        "repo_browser",
        "print_tree",
        "Show the file tree below a directory.",
        {"path": _TEXT, "depth": _WHOLE},
        (),
        ("tree", "show_tree", "file_tree"),
        "path",
        read_tree,
        _print_tree,
    ),
    Tool(
        "repo_browser",
        "list_dir",
        "List a directory.",
        {"path": _TEXT, "depth": _WHOLE},
        (),
        ("ls", "list", "dir", "list_files", "list_directory", "listdir"),
        "path",
        read_listing,
        _list_dir,
    ),
    Tool(
        "repo_browser",
        "apply_patch",
        "Change files: a patch from *** Begin Patch to *** End Patch.",
        {"patch": _TEXT},
        ("patch",),
        (
            *("applypatch", "patch", "edit", "edit_file", "write", "write_file", "create_file", "save_file"),
            *("replace", "str_replace", "replace_in_file", "search_replace", "str_replace_editor"),
        ),
        "patch",
        read_edit,
        _edit,
    ),
    Tool(
        "",
        "python",
        "Run Python code.",
        _CODE,
        ("code",),
        ("python3", "run_python", "ipython"),
        "code",
        read_python,
        _exec,
        False,
    ),
)

_KNOWN = {name: tool.name for tool in TOOLS for name in (tool.name, *tool.aliases)}
