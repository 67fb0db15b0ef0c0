"""The tools that run something in the sandbox: `exec`, and `python` where a model thinks that it has it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from miyabi_cli.agent.arguments import Arguments, BadArguments, first_of, number_of, path_of
from miyabi_cli.agent.editing import PatchRequest, edit
from miyabi_cli.agent.results import ToolResult
from miyabi_cli.workspace.paths import PathRefused, Root
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import NOT_FOUND, Limits
from miyabi_cli.workspace.sandbox import Sandbox

# The most bytes that Linux takes as one argument of a program (MAX_ARG_STRLEN).
ARGUMENT_LIMIT = 131_071

_COMMAND = ("cmd", "command", "commands", "script", "shell_command", "input", "args", "argv", "code")
_WORKDIR = ("workdir", "cwd", "working_dir", "working_directory", "directory", "dir")
_CODE = ("code", "source", "script", "input", "cmd", "command", "text")
_SHELLS = frozenset({"bash", "sh", "zsh", "/bin/bash", "/bin/sh", "/usr/bin/bash"})
_HERE = re.compile(
    r"(?P<before>.*?)"
    r"(?:\bcat\s*<<-?\s*(?P<piped>['\"]?)(?P<end_piped>\w+)(?P=piped)\s*\|\s*apply_?patch\b[^\n]{0,300}"
    r"|\bapply_?patch\b[^\n|;&<]{0,80}<<-?\s*(?P<quote>['\"]?)(?P<end>\w+)(?P=quote)(?P<same>[^\n]{0,300}))\n"
    r"(?P<patch>.*?)(?:\n[ \t]*(?:(?P=end)|(?P=end_piped))[ \t]*(?P<after>\n.*)?)?",
    re.DOTALL,
)
_CHANGE_FOLDER = re.compile(r"\s*(?:set\s+-\w+\s*(?:;|&&|\n)\s*)?(?:cd\s+(?P<folder>[^\s;&|]+)\s*(?:;|&&|\n)\s*)?")


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A shell's command line, or a program with its arguments. `seconds`: what the model wants it to take at most."""

    command: str | tuple[str, ...]
    workdir: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Patched:
    """A command that is, or has in it, a call of apply_patch: done in `folder`, then `after` is run there."""

    patch: str
    folder: str = ""
    after: str = ""


def read_exec(arguments: Arguments) -> ExecRequest:
    """Read the arguments of `exec`. Raises BadArguments where there is no command."""
    seconds = number_of(arguments, ("timeout", "timeout_seconds", "timeout_s"))
    if seconds is None and (milliseconds := number_of(arguments, ("timeout_ms",))) is not None:
        seconds = milliseconds / 1000
    workdir = path_of(arguments, _WORKDIR, "")
    command = _command(first_of(arguments, _COMMAND))
    longest = max((len(word.encode("utf-8", "replace")) for word in _words(command)), default=0)
    if longest > ARGUMENT_LIMIT:
        raise BadArguments(f"the command has {longest:,} bytes; write it to a file by apply_patch, and run that")
    return ExecRequest(command, workdir, seconds if seconds and seconds > 0 else None)


def read_python(arguments: Arguments) -> ExecRequest:
    """Read the arguments of `python`: code that is run by an interpreter of its own."""
    code = first_of(arguments, _CODE)
    if isinstance(code, list) and all(isinstance(line, str) for line in code):
        code = "\n".join(code)
    if not isinstance(code, str) or not code.strip():
        raise BadArguments("`code` is missing")
    return read_exec({**arguments, "cmd": ["python3", "-c", code]})


def _command(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith('["'):
        with suppress(ValueError):  # else it is a shell command after all
            value = json.loads(value, strict=False)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, list):
        return _argv([str(word) for word in value if isinstance(word, str | int | float)])
    if not isinstance(value, str) or not value.strip():
        raise BadArguments("`cmd` is missing" if not value else "`cmd` has to be a text or a list of texts")
    return _checked(value)


def _argv(words: list[str]) -> str | tuple[str, ...]:
    if not words or not words[0].strip():
        raise BadArguments("`cmd` is empty")
    # No program has white space in its name: these are command lines.
    if re.search(r"\s", words[0].strip()):
        return _checked(" && ".join(words))
    return tuple(_checked(word) for word in words)


def _checked(text: str) -> str:
    if "\0" in text:
        raise BadArguments("a command can't hold a NUL character")
    return text.encode("utf-8", "replace").decode("utf-8")


def _words(command: str | tuple[str, ...]) -> tuple[str, ...]:
    return (command,) if isinstance(command, str) else command


@dataclass(frozen=True, slots=True)
class Shell:
    """Where commands run, within which limits, and with which variables beside the sandbox's own."""

    sandbox: Sandbox
    place: Place
    limits: Limits
    environment: Mapping[str, str]


async def execute(root: Root, shell: Shell, request: ExecRequest) -> ToolResult:
    """Run a command in the sandbox; a call of apply_patch in it is done here. Raises PathRefused, PatchConflict."""
    workdir = _workdir(root, request.workdir)
    patched = _patched(request.command)
    if patched is None:
        return await _run(shell, replace(request, workdir=workdir))
    folder = _workdir(root, str(PurePosixPath(workdir, patched.folder)))
    result = await asyncio.to_thread(edit, root, PatchRequest(patched.patch, folder))
    if not patched.after:
        return result
    ran = await _run(shell, ExecRequest(patched.after, folder, request.seconds))
    return ToolResult(f"{result.output}\n{ran.output}", ran.failed, result.changed)


def _workdir(root: Root, path: str) -> str:
    """Return a working folder relative to the root, "" for the root itself. Raises PathRefused for all else."""
    try:
        relative = str(root.relative(path))
    except PathRefused as error:
        raise PathRefused(error.message, hint="leave workdir out to run at the repository's root") from None
    status = root.status(relative)
    if status is None or status.kind == "file":
        raise PathRefused(f"the working folder {relative} does not exist")
    return "" if relative == "." else relative


async def _run(shell: Shell, request: ExecRequest) -> ToolResult:
    seconds = min(request.seconds or shell.limits.seconds, shell.limits.seconds)
    bounds = replace(shell.limits, seconds=seconds)
    outcome = await shell.sandbox.run(
        request.command, shell.place, limits=bounds, environment=shell.environment, workdir=request.workdir
    )
    output = outcome.output.rstrip("\n")
    if outcome.timed_out:
        return ToolResult(f"{output}\n[timed out after {seconds:g} s]".lstrip("\n"), failed=True)
    if outcome.exit_code == NOT_FOUND and "apply_patch" in "".join(_words(request.command)):
        output += "\n[apply_patch is a tool, not a program: call it by itself]"
    if outcome.exit_code:
        return ToolResult(f"{output}\n[exit code {outcome.exit_code}]".lstrip("\n"), failed=True)
    return ToolResult(output or "[no output]")


def _patched(command: str | tuple[str, ...]) -> _Patched | None:
    """Return the patch that a command would have apply_patch apply; None where it calls no such program."""
    if not isinstance(command, str):
        if command[0] in ("apply_patch", "applypatch") and len(command) > 1:
            return _Patched("\n".join(command[1:]))
        if command[0] not in _SHELLS or len(command) != 3 or not command[1].startswith("-"):
            return None
        command = command[2]
    if not re.search(r"\bapply_?patch\b", command):
        return None
    return _from_here_document(command) or _from_argument(command)


def _from_here_document(script: str) -> _Patched | None:
    match = _HERE.fullmatch(script)
    if not match:
        return None
    before = _CHANGE_FOLDER.fullmatch(match["before"])
    if before is None:
        return None
    same_line = re.sub(r"^\s*(?:&&|;)\s*", "", match["same"] or "")
    after = re.sub(r"^\s*(?:&&|;)\s*", "", match["after"] or "")
    return _Patched(
        match["patch"], _unquoted(before["folder"] or ""), "\n".join(filter(None, (same_line, after.strip())))
    )


def _from_argument(script: str) -> _Patched | None:
    """Read `apply_patch "…"`."""
    before = _CHANGE_FOLDER.match(script)
    rest = script[before.end() :] if before else script
    if not re.match(r"apply_?patch\s", rest):
        return None
    try:
        words = shlex.split(rest)
    except ValueError:
        words = rest.split(None, 1)
    folder = _unquoted(before["folder"] or "") if before else ""
    return _Patched(words[1], folder) if len(words) == 2 else _Patched(rest.split(None, 1)[1], folder)


def _unquoted(word: str) -> str:
    return word.strip("\"'")
