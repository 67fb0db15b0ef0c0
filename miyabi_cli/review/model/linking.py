"""What links a change to the rest of the repository: definitions and uses of its names, found by search."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from miyabi_cli.errors import MiyabiError, RepositoryError
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.means import ReviewMeans
from miyabi_cli.review.model.shown import Part, visible
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.trees import read_blobs

MOST_NAMES = 60
MOST_FILES = 60
FILE_BYTES = 200_000
USES_SHOWN = 4
DEFINITION_LINES = 8
MOST_PLACES = 200  # of one name
LINE_READ = 500  # characters of a line in which names are looked for
_DEFINED = re.compile(
    r"\b(?:def|class|func|fn|function|interface|struct|enum|trait|type|macro_rules!)\s+(?:\([^)]{0,80}\)\s*)?([A-Za-z_]\w{2,60})"
)
_WORD = re.compile(r"\w{3,61}")
_CALLED = re.compile(r"\b([A-Za-z_]\w{2,60})\s?\(")
_COMMON = frozenset({"print", "len", "range", "str", "int", "super", "isinstance", "list", "dict", "set", "return",
                    "assert", "for", "while", "switch", "catch", "sizeof", "new", "map", "filter", "append", "get",
                    "String", "Error", "Some", "Ok", "Err", "self", "main", "test", "open", "join", "format",
                    "type", "elif", "not", "and", "function", "func"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """A line of the repository in which a name stands."""

    path: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Links:
    """Files after the change in which names of the change stand, as lines by path, and the places of each name."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    places: Mapping[str, Sequence[Use]] = field(default_factory=dict)

    def definition(self, name: str, *, outside: Collection[str]) -> Sequence[Use]:
        """Return the first lines of a name's definition, where that is not among the `outside` lines."""
        for use in self.places.get(name, ()):
            if use.text.strip() not in outside and name in _matches(_DEFINED, [use.text]):
                behind = self.texts[use.path][use.number - 1 : use.number - 1 + DEFINITION_LINES]
                return [Use(use.path, number, text) for number, text in enumerate(behind, start=use.number)]
        return ()

    def uses(self, name: str, *, besides: str, most: int = USES_SHOWN) -> Sequence[Use]:
        """Return the first lines of other files than `besides` in which a name stands."""
        return [use for use in self.places.get(name, ()) if use.path != besides][:most]


async def find_links(change: Change, means: ReviewMeans) -> Links:
    """Search the tree after the change for the names that it defines and calls; its own files come first.

    Where there is no tree, or git fails, these are the change's files alone.
    """
    texts = {file.path: file.text.split("\n") for file in change.reviewed if file.text is not None}
    names = list(dict.fromkeys(name for file in change.reviewed for name in _names(file)))
    if means.checkouts is None or change.head_tree is None or not names:
        return _links(texts, names)
    try:
        found = await asyncio.to_thread(_search, means.checkouts.git, change.head_tree, names[:MOST_NAMES])
    except MiyabiError as error:
        means.warn("context", f"no context of the repository is shown to the model: {error.message}")
        return _links(texts, names)
    texts |= {path: lines for path, lines in found.items() if path not in texts}
    return await asyncio.to_thread(_links, texts, names)


def context_of(part: Part, links: Links, limit: int) -> str:
    """Return definitions of what a part calls, and uses elsewhere of what it defines, in at most `limit` letters."""
    added = [line.text for line in part.lines if line.kind == "+"]
    own = {line.text.strip() for line in part.lines}
    defined = list(changed_names(part))
    found = [use for name in defined for use in links.uses(name, besides=part.file.path)]
    for name in _matches(_CALLED, added):
        if name not in defined:
            found += links.definition(name, outside=own)
    return shown_uses(found, limit)


def changed_names(part: Part) -> list[str]:
    """Return the names whose definition's line comes or goes."""
    return _matches(_DEFINED, [line.text for line in part.lines if line.kind != " "])


def shown_uses(uses: Iterable[Use], limit: int) -> str:
    """Return lines as `path:number: text`, as many as the limit of letters allows."""
    lines: list[str] = []
    for use in dict.fromkeys(uses):
        line = f"{visible(use.path)}:{use.number}: {visible(use.text)}"
        limit -= len(line) + 1
        if limit < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _links(texts: Mapping[str, Sequence[str]], names: Collection[str]) -> Links:
    places: dict[str, list[Use]] = {name: [] for name in names}
    for path, lines in texts.items():
        for number, line in enumerate(lines, start=1):
            for word in dict.fromkeys(_WORD.findall(line[:LINE_READ])):
                if (known := places.get(word)) is not None and len(known) < MOST_PLACES:
                    known.append(Use(path, number, line))
    return Links(texts, places)


def _names(file: ChangedFile) -> Iterator[str]:
    yield from _matches(_DEFINED, [*(line.text for line in file.removed), *file.added.values()])
    yield from _matches(_CALLED, file.added.values())


def _matches(pattern: re.Pattern[str], lines: Iterable[str]) -> list[str]:
    found = (match[1] for line in lines for match in pattern.finditer(line[:LINE_READ]))
    return [name for name in dict.fromkeys(found) if name not in _COMMON]


def _search(git: Git, tree: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of the tree's files that hold any of the names, the smallest files first."""
    patterns = [part for name in names for part in ("-e", name)]
    answer = git.ask("grep", "-l", "-z", "-I", "-w", "-F", "--no-color", *patterns, tree)
    if answer.exit_code > 1:
        raise RepositoryError("git grep failed")
    hits = {os.fsdecode(path).partition(":")[2] for path in answer.output.split(b"\0") if path}
    listed = git.run("ls-tree", "-r", "-l", "-z", "--full-tree", tree).split(b"\0") if hits else ()
    sized: list[tuple[int, str, str]] = []
    for entry in listed:
        header, _, name = entry.partition(b"\t")
        mode, kind, blob, size = header.decode().split() if entry else ("", "", "", "")
        path = os.fsdecode(name)
        if path in hits and kind == "blob" and mode != "120000" and int(size) <= FILE_BYTES:
            sized.append((int(size), path, blob))
    chosen = sorted(sized)[:MOST_FILES]
    contents = read_blobs(git, [blob for _, _, blob in chosen])
    return {
        path: content.decode("utf-8", "replace").split("\n")
        for (_, path, _), content in zip(chosen, contents, strict=True)
    }
