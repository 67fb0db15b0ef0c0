"""Private folders for HOME and TMPDIR, for sandboxes that can't mount any."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from miyabi_cli.errors import MachineError
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.removal import remove_tree


@contextlib.contextmanager
def private_folders(place: Place) -> Iterator[tuple[Path, Path]]:
    """Give folders for HOME and TMPDIR: those of the scratch folder, else new ones that are removed at the end."""
    if place.scratch is not None:
        yield _made(place.scratch)
        return
    top = Path(tempfile.mkdtemp(prefix="miyabi-"))
    try:
        yield _made(top)
    finally:
        with contextlib.suppress(MachineError):
            remove_tree(top)


def _made(top: Path) -> tuple[Path, Path]:
    home, temporary = top / "home", top / "tmp"
    for path in (home, temporary):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home.resolve(), temporary.resolve()
