"""A map of the repository that fits the window: folders first, and as many files as there is room for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # a line break in a name would begin a line of the map


def repository_map(paths: Iterable[str], *, limit: int) -> str:
    """Return a listing of `paths` (relative, with `/`) of at most `limit` characters.

    All files, one a line below their folder, where they fit; else folders with the number of files in them, to the
    depth that fits. Sorted, so that it is the same for the same tree.
    """
    files = sorted(_CONTROL.sub("?", path) for path in paths)
    whole = _by_folder(files)
    if len(whole) <= limit:
        return whole
    deepest = max((path.count("/") for path in files), default=0)
    for depth in range(deepest, 0, -1):
        listing = _folders(files, depth)
        if len(listing) <= limit:
            return listing
    return _cut(_folders(files, 1), limit)


def _by_folder(files: Sequence[str]) -> str:
    folders: dict[str, list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        folders.setdefault("" if str(path.parent) == "." else f"{path.parent}/", []).append(path.name)
    return "\n".join(f"{folder or './'}: {' '.join(names)}" for folder, names in folders.items())


def _folders(files: Sequence[str], depth: int) -> str:
    counts = Counter("/".join(file.split("/")[:-1][:depth]) for file in files)
    return "\n".join(f"{folder + '/' if folder else './'} ({count} files)" for folder, count in sorted(counts.items()))


def _cut(listing: str, limit: int) -> str:
    kept: list[str] = []
    lines = listing.splitlines()
    room = limit - 30
    for line in lines:
        if room < len(line) + 1:
            break
        kept.append(line)
        room -= len(line) + 1
    return "\n".join([*kept, f"... and {len(lines) - len(kept)} folders more"])
