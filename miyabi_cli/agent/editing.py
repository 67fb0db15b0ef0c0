"""The tool that changes files, `apply_patch`, and what models call in its place: whole files, text for text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miyabi_cli.agent.arguments import Arguments, BadArguments, first_of, path_of, text_of
from miyabi_cli.agent.reading import PATH, read_near
from miyabi_cli.agent.results import ToolResult
from miyabi_cli.errors import PatchConflict
from miyabi_cli.workspace.patch_matching import change_text
from miyabi_cli.workspace.patch_parsing import FileChange, Hunk, Prefix
from miyabi_cli.workspace.patches import PatchSummary, apply_patch, is_binary
from miyabi_cli.workspace.paths import Root

_PATCH = ("patch", "input", "diff", "patch_text", "content", "text", "cmd", "command")
_CONTENT = ("content", "contents", "text", "file_text", "data", "code", "body")
_OLD = ("old", "old_str", "old_string", "old_text", "search", "find", "oldstr")
_NEW = ("new", "new_str", "new_string", "new_text", "replace", "replacement", "newstr")
_LOOKS_LIKE_A_PATCH = re.compile(r"^(\*\*\* (Begin Patch|(Add|Update|Delete) File:)|diff --git |--- .*\n\+\+\+ )", re.M)


@dataclass(frozen=True, slots=True)
class PatchRequest:
    """A patch; its relative paths are taken from `folder`."""

    patch: str
    folder: str = ""


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A file's whole content."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """A text in a file, which must be there once unless `everywhere`, and what to put in its place."""

    path: str
    old: str
    new: str
    everywhere: bool = False


EditRequest = PatchRequest | WriteRequest | ReplaceRequest


def read_edit(arguments: Arguments) -> EditRequest:
    """Read the arguments of `apply_patch` and its neighbours, told apart by what they hold."""
    if first_of(arguments, PATH) is not None:
        path = path_of(arguments, PATH)
        if first_of(arguments, _OLD) is not None and first_of(arguments, _NEW) is not None:
            everywhere = arguments.get("replace_all") is True
            return ReplaceRequest(path, text_of(arguments, _OLD), text_of(arguments, _NEW), everywhere)
        content = first_of(arguments, _CONTENT)
        if isinstance(content, str) and not _LOOKS_LIKE_A_PATCH.search(content):
            return WriteRequest(path, content)
    value = first_of(arguments, _PATCH)
    if isinstance(value, list) and len(value) == 2 and value[0] == "apply_patch":
        value = value[1]
    return PatchRequest(text_of({"patch": value}, ("patch",)))


def edit(root: Root, request: EditRequest) -> ToolResult:
    """Change files. Raises PatchConflict, PathRefused, and MachineError where the disk refuses."""
    match request:
        case PatchRequest(patch, folder):
            return _told(apply_patch(patch, root, folder=folder))
        case WriteRequest(path, content):
            return _write(root, path, content)
        case ReplaceRequest():
            return _replace(root, request)


def _told(summary: PatchSummary) -> ToolResult:
    if not summary.paths:
        return ToolResult("Nothing changed: the files are like that already.")
    lines = [
        *(f"A {path}" for path in summary.created),
        *(f"M {path}" for path in summary.modified),
        *(f"D {path}" for path in summary.deleted),
        *(f"R {old} -> {new}" for old, new in summary.moved),
    ]
    return ToolResult("\n".join(["Success. Updated the following files:", *lines]), changed=summary.paths)


def _write(root: Root, path: str, content: str) -> ToolResult:
    name, data = str(root.relative(path)), _encoded(content)
    existed = root.exists(name)
    if existed and root.read(name) == data:
        return _told(PatchSummary())
    root.write(name, data)
    return _told(PatchSummary(modified=(name,)) if existed else PatchSummary(created=(name,)))


def _replace(root: Root, request: ReplaceRequest) -> ToolResult:
    name = str(root.relative(request.path))
    if not request.old:
        raise BadArguments("`old` is empty")
    data = read_near(root, name)
    if is_binary(data):
        raise PatchConflict(f"{name} is a binary file")
    text = data.decode("utf-8", "surrogateescape")
    new = _encoded(_replaced(text, request, name))
    if new == data:
        return _told(PatchSummary())
    root.write(name, new)
    return _told(PatchSummary(modified=(name,)))


def _replaced(text: str, request: ReplaceRequest, name: str) -> str:
    count = text.count(request.old)
    if count == 1 or (count and request.everywhere):
        return text.replace(request.old, request.new)
    if count:
        places = [str(text.count("\n", 0, match.start()) + 1) for match in re.finditer(re.escape(request.old), text)]
        raise PatchConflict(
            f"the text is in {name} {count} times, at lines {', '.join(places[:10])}",
            hint="give more of the lines around it",
        )
    # It is not there as it stands; as whole lines it may be, but for white space.
    return change_text(text, FileChange("update", name, (_hunk(request),)))


def _hunk(request: ReplaceRequest) -> Hunk:
    signs: tuple[tuple[Prefix, str], ...] = (("-", request.old), ("+", request.new))
    return Hunk(tuple((sign, line) for sign, text in signs for line in _lines(text)))


def _lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadArguments("the text has half a character (a lone surrogate)") from None
