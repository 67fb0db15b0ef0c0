"""Shows the checkout's node_modules in a worktree, where Node.js looks for them: read-only, with room for caches.

A folder that can't be written, as a mount is, ends some tools: vite and vitest keep caches in it. So the worktree has a
folder of its own, with links to all that the checkout's holds; git ignores it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from miyabi_cli.workspace.mounts import dependency_folders
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.sandbox import Sandbox

_NAME = "node_modules"
_INSIDE = Path("/run/miyabi/modules")
_OURS = ".miyabi"  # a link that marks the folders made here
_CACHES = (".cache", ".vite", ".vite-temp", ".vitest", _OURS)
_MAXIMUM_ENTRIES = 10_000


def show_modules(place: Place, sandbox: Sandbox) -> Place:
    """Make the folders that the tree lacks, and return the place with what their links lead to.

    Call it while no command runs in the tree. Without mounts the links lead into the user's checkout.
    """
    has_mounts = sandbox.inside(place) != place.tree
    shown = []
    for number, real in enumerate(path for path in dependency_folders(place.inside) if path.name == _NAME):
        folder = place.tree / real.relative_to(place.inside)
        target = _INSIDE / str(number) / _NAME if has_mounts else real
        if (_is_ours(folder, target) or _make(folder, real, target)) and has_mounts:
            shown.append((real.resolve(), target))
    return replace(place, readable=(*place.readable, *shown))


def _is_ours(folder: Path, target: Path) -> bool:
    try:
        return os.readlink(folder / _OURS) == str(target)  # noqa: PTH115
    except OSError:
        return False


def _make(folder: Path, real: Path, target: Path) -> bool:
    """Make a folder of links; tell whether that could be done: the tree may have one, or not this package."""
    if folder.parent.resolve() != Path(os.path.normpath(folder.parent.absolute())) or os.path.lexists(folder):
        return False
    try:
        folder.mkdir()
        (folder / _OURS).symlink_to(target)
        for name, link in _links(real, target):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).symlink_to(link)
    except OSError:
        return False
    return True


def _links(real: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, what it links to); a link of the checkout's is kept, as those of workspaces lead to their code."""
    for entry in islice(os.scandir(real), _MAXIMUM_ENTRIES):
        if entry.name in _CACHES:
            continue
        if entry.is_symlink():
            yield entry.name, os.readlink(entry.path)  # noqa: PTH115
        elif entry.name.startswith("@") and entry.is_dir():
            yield from ((f"{entry.name}/{name}", link) for name, link in _links(Path(entry), target / entry.name))
        else:
            yield entry.name, str(target / entry.name)
