"""Small trees of files, and virtual environments that only look like ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write files, given by their paths below `root`, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def make_environment(folder: Path, *modules: str, settings: str = "") -> Path:
    """Make a virtual environment whose interpreter starts and that has some empty modules; return its bin folder."""
    site = folder / f"lib/python3.{sys.version_info.minor}/site-packages"
    files = {f"{module}/__init__.py": "" for module in modules}
    write_tree(site, {"README.txt": "", **files})
    write_tree(folder, {"pyvenv.cfg": f"home = {Path(sys.executable).resolve().parent}\n{settings}", "bin/.keep": ""})
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(Path(sys.executable).resolve())
    return folder / "bin"
