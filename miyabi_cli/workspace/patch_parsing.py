"""Reads a patch as gpt-oss writes it: `*** Begin Patch`, a section for each file, `*** End Patch`; or a unified diff.

The grammar is that of codex-rs/apply-patch in openai/codex. The envelope is read leniently (missing ends, a here
document, a code fence, JSON, CRLF, `@@ -1,2 +3,4 @@`), the lines within it are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from miyabi_cli.errors import PatchConflict

Prefix = Literal[" ", "-", "+", ""]
"""Context, removed, added; "" is an empty line that has no prefix."""

FORMAT_HINT = """expected:
*** Begin Patch
*** Update File: path/of/file
@@ enclosing function or class
 unchanged line
-removed line
+added line
*** End Patch"""

# None of these may take more than linear time on a line that a model filled with the same over and over.
_BEGIN = re.compile(r"(?:.{0,200}\bapply_?patch\b.{0,200}?)?[\"']?\*\*\* ?Begin Patch\s*", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?End Patch[\"')]*\s*", re.IGNORECASE)
_SECTION = re.compile(r"\*\*\*\s*(Add|Create|Update|Modify|Edit|Move|Rename|Delete|Remove)\s+File:(.*)", re.IGNORECASE)
_MOVE = re.compile(r"\*\*\*\s*(?:Move|Rename)\s+to:(.*)", re.IGNORECASE)
_END_OF_FILE = re.compile(r"\*\*\*\s*End of File\s*", re.IGNORECASE)
_NUMBERED = re.compile(r"@@\s*-\d+(?:,\d+)?\s+\+(\d+)(?:,(\d+))?\s*(?:@@.*)?")
_GIT_HEADER = re.compile(r"diff --git \"?a/(.{1,500}?)\"? \"?b/(.{1,500}?)\"?")
_GIT_DETAIL = re.compile(r"(?:index|new file mode|deleted file mode|old mode|new mode|similarity index|rename|copy) ")
_HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_NO_NEWLINE = "\\ No newline"
_WORDS = {"create": "add", "remove": "delete", "add": "add", "delete": "delete"}


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change within a file.

    `anchors`: the texts of its `@@` lines, outermost first. `line`: the index at which a unified diff puts it, in
    the file as changed by the hunks before. `final_newline`: what a `\\ No newline` mark says of the new file.
    """

    lines: tuple[tuple[Prefix, str], ...]
    anchors: tuple[str, ...] = ()
    at_end: bool = False
    line: int | None = None
    final_newline: bool | None = None


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a patch does to one file; `content` belongs to an added file, `hunks` and `moved_to` to an updated one."""

    kind: Literal["add", "delete", "update"]
    path: str
    hunks: tuple[Hunk, ...] = ()
    moved_to: str = ""
    content: str = ""


def parse_patch(text: str) -> tuple[FileChange, ...]:
    """Return what a patch wants done, in its order. Raises PatchConflict for what is no patch."""
    reader = _Reader(_unwrapped(text))
    changes = []
    while (line := reader.peek()) is not None:
        if section := _SECTION.fullmatch(line):
            reader.position += 1
            changes.append(_section(reader, section[1].lower(), _clean_path(section[2])))
        elif reader.at_unified():
            changes.append(_unified(reader))
        elif line.strip():
            raise PatchConflict(f"can't read the line {line[:120]!r} of the patch", hint=FORMAT_HINT)
        else:
            reader.position += 1
    if not changes:
        raise PatchConflict("the patch is empty" if not text.strip() else "there is no patch", hint=FORMAT_HINT)
    return tuple(changes)


@dataclass(slots=True)
class _Reader:
    lines: Sequence[str]
    position: int = 0

    def peek(self, ahead: int = 0) -> str | None:
        index = self.position + ahead
        return self.lines[index] if index < len(self.lines) else None

    def take(self) -> str:
        self.position += 1
        return self.lines[self.position - 1]

    def at_unified(self) -> bool:
        """Say whether a unified diff's header is next: a removed line `-- x` looks alike, but has no `+++` after it."""
        first, second = self.peek() or "", self.peek(1) or ""
        return bool(_GIT_HEADER.fullmatch(first)) or (first.startswith("--- ") and second.startswith("+++ "))


def _unwrapped(text: str) -> list[str]:
    """Return the lines between the patch's ends, or from its first section on where they are missing."""
    lines = [line.removesuffix("\r") for line in _from_json(text.lstrip("\ufeff")).split("\n")]
    begin = next((number for number, line in enumerate(lines) if _BEGIN.fullmatch(line)), None)
    if begin is None:
        starts = (number for number in range(len(lines)) if _starts_section(lines, number))
        begin = next(starts, len(lines)) - 1
    return list(_inside(lines[begin + 1 :], _closers(lines[: begin + 1])))


def _inside(lines: Sequence[str], closers: set[str]) -> Iterator[str]:
    """Leave out the ends, and what stands between and after them."""
    inside = True
    for line in lines:
        if _BEGIN.fullmatch(line):
            inside = True
        elif _END.fullmatch(line) or line.rstrip() in closers:
            inside = False
        elif inside:
            yield line


def _closers(head: Sequence[str]) -> set[str]:
    """Return the lines that end what the patch is wrapped in, by what stands before it."""
    found = {match[2] for line in head for match in _HERE_DOCUMENT.finditer(line)}
    return found | {"```"} if any(line.lstrip().startswith("```") for line in head) else found


def _starts_section(lines: Sequence[str], number: int) -> bool:
    return bool(_SECTION.fullmatch(lines[number])) or _Reader(lines, number).at_unified()


def _from_json(text: str) -> str:
    if not text.lstrip().startswith("{"):
        return text
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    texts = (value.get(key) for key in ("patch", "input", "diff", "content"))
    return next((found for found in texts if isinstance(found, str)), text)


def _section(reader: _Reader, word: str, path: str) -> FileChange:
    if not path:
        raise PatchConflict("a section of the patch names no file", hint=FORMAT_HINT)
    kind = _WORDS.get(word, "update")
    if kind == "delete":
        return FileChange("delete", path)
    if kind == "add":
        return FileChange("add", path, content=_added_content(reader, path))
    moved_to = ""
    if moved := _MOVE.fullmatch(reader.peek() or ""):
        reader.position += 1
        moved_to = _clean_path(moved[1])
    if (reader.peek() or "").startswith("--- ") and reader.at_unified():
        reader.position += 2
    return _update(path, moved_to, _hunks(reader, numbered=False))


def _update(path: str, moved_to: str, hunks: tuple[Hunk, ...]) -> FileChange:
    if not hunks and not moved_to:
        raise PatchConflict(f"the patch changes no line of {path}", hint=FORMAT_HINT)
    return FileChange("update", path, hunks, moved_to)


def _added_content(reader: _Reader, path: str) -> str:
    lines: list[str] = []
    empty = 0  # lines without even a `+`: they count between added lines, and not at the end
    while (line := reader.peek()) is not None and not _ends_section(reader):
        reader.position += 1
        if line.startswith("+"):
            lines += [""] * empty + [line[1:]]
            empty = 0
        elif not line.strip():
            empty += 1
        elif not _END_OF_FILE.fullmatch(line) and not (line.startswith("@@") and not lines):
            raise PatchConflict(f"{path} is added, but the line {line[:120]!r} does not begin with `+`")
    return "".join(f"{line}\n" for line in lines)


def _ends_section(reader: _Reader) -> bool:
    return bool(_SECTION.fullmatch(reader.peek() or "")) or (
        reader.at_unified() and ((reader.peek() or "").startswith("diff ") or (reader.peek(2) or "@@").startswith("@@"))
    )


@dataclass(slots=True)
class _Draft:
    """A hunk that is being read."""

    lines: list[tuple[Prefix, str]] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    at_end: bool = False
    line: int | None = None
    final_newline: bool | None = None

    def mark_no_newline(self) -> None:
        self.final_newline = bool(self.lines) and self.lines[-1][0] == "-"

    def finished(self) -> Hunk | None:
        """Return the hunk without the empty lines around it, which are mere layout; None if it changes nothing."""
        lines = self.lines
        while lines and not lines[-1][0]:
            lines.pop()
        start = next((number for number, (prefix, _) in enumerate(lines) if prefix), 0)
        if not any(prefix in ("-", "+") for prefix, _ in lines):
            return None
        line = None if self.line is None else self.line + start
        return Hunk(tuple(lines[start:]), tuple(self.anchors), self.at_end, line, self.final_newline)


def _hunks(reader: _Reader, *, numbered: bool) -> tuple[Hunk, ...]:
    drafts = [_Draft()]
    while (line := reader.peek()) is not None and not _ends_section(reader):
        reader.position += 1
        if line.startswith("@@"):
            if drafts[-1].lines:
                drafts.append(_Draft())
            _read_header(drafts[-1], line, numbered)
        elif _END_OF_FILE.fullmatch(line):
            drafts[-1].at_end = True
        elif line.startswith(_NO_NEWLINE):
            drafts[-1].mark_no_newline()
        else:
            drafts[-1].lines.append(_split_prefix(line))
    return tuple(hunk for draft in drafts if (hunk := draft.finished()))


def _split_prefix(line: str) -> tuple[Prefix, str]:
    match line[:1]:
        case "" | " " | "-" | "+" as prefix:
            return prefix, line[1:]
    raise PatchConflict(
        f"the line {line[:120]!r} of the patch has no prefix",
        hint="each line of a hunk begins with a space (unchanged), `-` (removed) or `+` (added)",
    )


def _read_header(draft: _Draft, line: str, numbered: bool) -> None:
    if numbers := _NUMBERED.fullmatch(line):
        if numbered:
            # Where no line is left, the number is that of the line before.
            draft.line = int(numbers[1]) - (numbers[2] != "0")
        return
    anchor = line[2:].strip().removesuffix("@@").strip()
    if anchor.strip(". "):
        draft.anchors.append(anchor)


def _unified(reader: _Reader) -> FileChange:
    old = new = ""
    if header := _GIT_HEADER.fullmatch(reader.peek() or ""):
        old, new = f"a/{header[1]}", f"b/{header[2]}"
        reader.position += 1
        while _GIT_DETAIL.match(reader.peek() or ""):
            detail = reader.take()
            if detail.startswith("deleted"):
                new = "/dev/null"
            elif detail.startswith("new file"):
                old = "/dev/null"
    if (reader.peek() or "").startswith("--- ") and reader.at_unified():
        old, new = (_clean_path(reader.take()[4:].split("\t")[0]) for _ in range(2))
    return _unified_change(old, new, _hunks(reader, numbered=True))


def _unified_change(old: str, new: str, hunks: tuple[Hunk, ...]) -> FileChange:
    prefixed = all(path.startswith(prefix) or path == "/dev/null" for path, prefix in ((old, "a/"), (new, "b/")))
    source, target = (path[2:] if prefixed and path != "/dev/null" else path for path in (old, new))
    if source == "/dev/null":
        lines = [text for hunk in hunks for prefix, text in hunk.lines if prefix == "+"]
        end = "" if hunks and hunks[-1].final_newline is False else "\n"
        return FileChange("add", target, content="\n".join(lines) + end if lines else "")
    if target == "/dev/null":
        return FileChange("delete", source)
    return _update(source, target if target != source else "", hunks)


def _clean_path(path: str) -> str:
    stripped = path.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'`":
        return stripped[1:-1]
    return stripped
