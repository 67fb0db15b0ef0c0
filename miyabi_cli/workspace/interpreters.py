"""Which Python a repository is run by, and what that Python can import, without running the repository's code."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from miyabi_cli.workspace.regular_files import read_regular

_VERSION = re.compile(r"python(3\.\d+t?)")


@dataclass(frozen=True)
class Interpreter:
    """A Python as a command names it; `path` is its file, which may be a shim or a link."""

    command: str
    path: Path
    repository: Path
    environ: Mapping[str, str]

    @cached_property
    def real(self) -> Path:
        """The interpreter behind a shim (pyenv, asdf, mise), else `path` itself."""
        is_shim = _is_script(self.path) or not self.path.resolve().name.startswith(("python", "pypy"))
        # a script that the repository brings is the repository's code: it isn't run to be asked
        if not is_shim or self.path.is_relative_to(self.repository):
            return self.path
        return _asked(self.path, self.repository, self.environ) or self.path

    @cached_property
    def site_folders(self) -> tuple[Path, ...]:
        """The folders that its third-party modules lie in."""
        return _site_folders(self.real)

    def has(self, module: str) -> bool:
        """Say whether a top-level third-party module is installed for it."""
        return any((folder / module).is_dir() or (folder / f"{module}.py").is_file() for folder in self.site_folders)

    def fingerprint(self) -> str:
        """Return a hash that changes with the interpreter, its environment and the packages installed."""
        stamps = [stamp(path) for path in (self.path, self.real.resolve(), *self.site_folders)]
        configuration = hashlib.sha256(_configuration(self.real)).hexdigest()
        return hashlib.sha256("\0".join([*stamps, configuration]).encode()).hexdigest()


def find_interpreters(repository: Path, environ: Mapping[str, str], folder: str = "") -> tuple[Interpreter, ...]:
    """Return the Pythons that may run the project in `folder` of a repository, the best guess first.

    These are the environments in the project's and the repository's own folder (`.venv`, `venv`), then `python3` and
    `python` on the caller's PATH, which an active environment leads.
    """
    named: dict[Path, str] = {}
    for root in dict.fromkeys((repository / folder, repository)):
        for name in (".venv", "venv"):
            path = root / name / "bin" / "python"
            if _configuration(path) and os.access(path, os.X_OK):
                named.setdefault(path, str(path))
    for name in ("python3", "python"):
        if which := shutil.which(name, path=environ.get("PATH", os.defpath)):
            named.setdefault(Path(which).absolute(), name)
    return tuple(Interpreter(command, path, repository, environ) for path, command in named.items())


def first_with(interpreters: Sequence[Interpreter], module: str) -> Interpreter | None:
    """Return the first interpreter that can import `module`."""
    return next((interpreter for interpreter in interpreters if interpreter.has(module)), None)


def _site_folders(path: Path) -> tuple[Path, ...]:
    settings = _settings(_configuration(path).decode(errors="replace"))
    if not settings:
        return _prefix_folders(path.resolve())
    folders = _prefix_folders(path)
    if settings.get("include-system-site-packages", "").lower() == "true" and (home := settings.get("home")):
        folders += _prefix_folders((Path(home) / path.name).resolve())
    return folders


def _prefix_folders(path: Path) -> tuple[Path, ...]:
    """Return the site folders of the prefix that an interpreter lies in, Debian's dist-packages too."""
    prefix = path.parent.parent
    named = _VERSION.fullmatch(path.name)  # several versions share a prefix such as /usr
    version = named[1] if named else "3*"
    patterns = [f"{lib}/python{version}/site-packages" for lib in ("lib", "lib64")]
    if prefix == Path("/usr"):
        patterns += [f"local/lib/python{version}/dist-packages", "lib/python3/dist-packages"]
    return tuple(sorted({found for pattern in patterns for found in prefix.glob(pattern) if found.is_dir()}))


def _configuration(path: Path) -> bytes:
    """Return the `pyvenv.cfg` of the environment that an interpreter is in, b"" where it is in none."""
    return read_regular(path.parent.parent / "pyvenv.cfg", 100_000) or b""


def _settings(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def _asked(path: Path, folder: Path, environ: Mapping[str, str]) -> Path | None:
    """Ask a shim which interpreter it starts in a folder; `-I -S` loads no code but the standard library's."""
    command = [str(path), "-I", "-S", "-c", "import sys; print(sys.executable)"]
    try:
        asked = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Path(asked.stdout.strip()) if asked.returncode == 0 and asked.stdout.strip() else None


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def stamp(path: Path) -> str:
    """Return a file's path, time and size as text."""
    try:
        status = path.stat()
    except OSError:
        return f"{path} absent"
    return f"{path} {status.st_mtime_ns} {status.st_size}"
