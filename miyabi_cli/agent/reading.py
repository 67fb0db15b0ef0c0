"""The tools that look at files and folders: `open_file`, `print_tree`, `list_dir`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from miyabi_cli.agent.arguments import Arguments, path_of, whole_of
from miyabi_cli.agent.results import ToolResult
from miyabi_cli.workspace.patches import is_binary, near_names
from miyabi_cli.workspace.paths import Entry, PathMissing, PathRefused, Root

PATH = ("path", "file", "file_path", "filepath", "filename", "file_name", "dir", "directory", "folder", "dir_path")
DEFAULT_LINES = 200
LINE_WIDTH = 2_000
MOST_ENTRIES = 400
MOST_IN_A_FOLDER = 100
DEEPEST = 10
NOT_ENTERED = frozenset({"__pycache__", "node_modules", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache"})

_FIRST = ("line_start", "start_line", "start", "first", "offset", "from")
_LAST = ("line_end", "end_line", "end", "last", "to")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Lines `first` to `last` of a file, counted from 1; without `last`, DEFAULT_LINES of them."""

    path: str
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """A folder, down to `depth` levels."""

    path: str
    depth: int


def read_open(arguments: Arguments) -> OpenRequest:
    """Read the arguments of `open_file`; a last line below 0 means the end, and a turned-round range is turned back."""
    first, last = whole_of(arguments, _FIRST), whole_of(arguments, _LAST)
    given = arguments.get("view_range")
    if isinstance(given, list) and len(given) == 2:
        first, last = (whole_of({"line": line}, ("line",)) for line in given)
    if last is not None and last < 0:
        last = 1 << 62
    if first is not None and last is not None and first > last:
        first, last = last, first
    return OpenRequest(path_of(arguments, PATH), max(first or 1, 1), last)


def read_tree(arguments: Arguments) -> FolderRequest:
    """Read the arguments of `print_tree`."""
    return _read_folder(arguments, 2)


def read_listing(arguments: Arguments) -> FolderRequest:
    """Read the arguments of `list_dir`."""
    return _read_folder(arguments, 1)


def _read_folder(arguments: Arguments, depth: int) -> FolderRequest:
    given = whole_of(arguments, ("depth", "max_depth", "level", "levels"))
    return FolderRequest(path_of(arguments, PATH, ""), min(max(depth if given is None else given, 1), DEEPEST))


def open_file(root: Root, request: OpenRequest, limit: int) -> ToolResult:
    """Return lines of a file of up to `limit` bytes together, below a line that says which. Raises PathRefused."""
    path = str(root.relative(request.path))
    data = read_near(root, path)
    if is_binary(data):
        return ToolResult(f"{path} is a binary file of {len(data):,} bytes", failed=True)
    lines = data.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        return ToolResult(f"{path} is empty")
    if request.first > len(lines):
        return ToolResult(f"{path} has only {len(lines)} lines", failed=True)
    wanted = lines[request.first - 1 : request.last or request.first - 1 + DEFAULT_LINES]
    shown = list(_within(wanted, limit))
    last = request.first + len(shown) - 1
    rest = len(lines) - last
    cut_short = request.last is None or len(shown) < len(wanted)
    more = f"\n[{rest} more lines: line_start={last + 1}]" if rest and cut_short else ""
    return ToolResult(f"{path} (lines {request.first}-{last} of {len(lines)})\n" + "\n".join(shown) + more)


def read_near(root: Root, path: str) -> bytes:
    """Return a file's bytes; where there is none, name those with names like it. Raises PathRefused."""
    try:
        return root.read(path)
    except PathMissing as error:
        names = near_names(root, path)
        hint = f"near it: {', '.join(names)}" if names else "list_dir and search show what there is"
        raise PathMissing(error.message, hint=hint) from None
    except PathRefused as error:
        status = root.status(path)
        if status and status.kind == "directory":
            raise PathRefused(error.message, hint=f"list_dir shows what is in {path}") from None
        raise


def _within(lines: list[str], limit: int) -> Iterator[str]:
    """Yield at least one line, and then as many as `limit` bytes hold."""
    size = 0
    for number, line in enumerate(lines):
        text = cut(line.removesuffix("\r"), LINE_WIDTH)
        size += len(text.encode("utf-8", "replace")) + 1
        if number and size > limit:
            return
        yield text


def cut(text: str, width: int) -> str:
    """Return a text of at most about `width` characters, that says how many were left out."""
    return text if len(text) <= width else f"{text[:width]}… [{len(text) - width} more characters]"


@dataclass(slots=True)
class _Folder:
    path: str
    entries: tuple[Entry, ...] = ()
    folders: dict[str, _Folder] = field(default_factory=dict)
    left_out: int = 0


def print_tree(root: Root, request: FolderRequest) -> ToolResult:
    """Return a folder as an indented tree. Raises PathRefused."""
    top = _survey(root, request)
    return ToolResult("\n".join([f"{top.path}/", *_drawn(top, 1)]))


def list_dir(root: Root, request: FolderRequest) -> ToolResult:
    """Return the paths in a folder, a line each, folders with a slash at their end. Raises PathRefused."""
    top = _survey(root, request)
    return ToolResult("\n".join(_listed(top)) or f"{top.path} is empty")


def _survey(root: Root, request: FolderRequest) -> _Folder:
    """Look at folders level by level, so that what is left out of a large tree is its depth and not its breadth."""
    top = _Folder(str(root.relative(request.path)))
    left = MOST_ENTRIES
    waiting = deque([(top, 1)])
    while waiting:
        folder, level = waiting.popleft()
        entries = _entries(root, folder.path, optional=folder is not top)
        folder.entries = entries[: min(left, MOST_ENTRIES if folder is top else MOST_IN_A_FOLDER)]
        folder.left_out = len(entries) - len(folder.entries)
        left -= len(folder.entries)
        for entry in folder.entries if level < request.depth else ():
            if entry.kind == "directory" and entry.name not in NOT_ENTERED:
                path = entry.name if folder.path == "." else f"{folder.path}/{entry.name}"
                folder.folders[entry.name] = _Folder(path)
                waiting.append((folder.folders[entry.name], level + 1))
    return top


def _entries(root: Root, path: str, *, optional: bool) -> tuple[Entry, ...]:
    try:
        return root.list(path)
    except PathRefused:
        if optional:  # gone since, or with a name that can't be opened
            return ()
        raise


def _drawn(folder: _Folder, level: int) -> Iterator[str]:
    for entry in folder.entries:
        yield "  " * level + _shown(entry)
        if entry.name in folder.folders:
            yield from _drawn(folder.folders[entry.name], level + 1)
    if folder.left_out:
        yield "  " * level + f"[{folder.left_out} more entries]"


def _listed(folder: _Folder) -> Iterator[str]:
    before = "" if folder.path == "." else f"{folder.path}/"
    for entry in folder.entries:
        yield before + _shown(entry)
        if entry.name in folder.folders:
            yield from _listed(folder.folders[entry.name])
    if folder.left_out:
        yield f"[{folder.left_out} more entries in {folder.path}]"


def _shown(entry: Entry) -> str:
    return _CONTROL.sub("?", entry.name) + {"directory": "/", "link": "@"}.get(entry.kind, "")
