"""What a sandboxed command must be able to read: the toolchains that PATH leads to, wherever they lie.

Only names, links and `pyvenv.cfg` files are looked at, so that it takes milliseconds; nothing is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from miyabi_cli.workspace.private_paths import PrivatePaths, is_below
from miyabi_cli.workspace.regular_files import read_regular

# Where version managers and caches keep things: the variable that moves it, and the default below HOME.
TOOL_FOLDERS = (
    ("PYENV_ROOT", ".pyenv"),
    ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"),
    ("UV_TOOL_DIR", ".local/share/uv/tools"),
    ("PIPX_HOME", ".local/share/pipx"),
    ("NVM_DIR", ".nvm"),
    ("VOLTA_HOME", ".volta"),
    ("RUSTUP_HOME", ".rustup"),
    ("RBENV_ROOT", ".rbenv"),
    ("ASDF_DATA_DIR", ".asdf"),
    ("MISE_DATA_DIR", ".local/share/mise"),
    ("SDKMAN_DIR", ".sdkman"),
    ("GOROOT", ""),
    ("JAVA_HOME", ""),
    ("GOMODCACHE", "go/pkg/mod"),
)
# Parts of folders that hold secrets too, so never whole: the variable that moves the folder, its default, the parts.
_PARTIAL_FOLDERS = (
    ("CARGO_HOME", ".cargo", ("registry", "git")),
    ("PYTHONUSERBASE", ".local", ("lib",)),
    ("", ".npm", ("_cacache",)),
    ("", ".m2", ("repository", "wrapper")),
)
_SYSTEM = frozenset(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))
_SYSTEM_PROGRAMS = frozenset(map(Path, ("/usr/bin", "/usr/sbin")))  # what is there lies below /usr
_STORES = tuple(map(Path, ("/nix/store", "/gnu/store")))  # shown whole: each entry links to others
_BINARIES = ("bin", "sbin", "shims", "condabin")
_PREFIX_SIGNS = ("pyvenv.cfg", "lib", "lib64", "libexec", "share")
_DEPENDENCIES = (".venv", "venv", "node_modules")
_MAXIMUM_LINKS = 500  # looked at in each folder of PATH
_MAXIMUM_FOLDERS = 200  # of the repository, searched for dependencies
_MAXIMUM_DEPENDENCIES = 16


@dataclass(frozen=True, slots=True)
class Toolchains:
    """What to show of the host, read-only unless said otherwise; no path lies below another of its kind.

    readable, writable: real paths, shown at the same path. links: (path, the real path that it stands for).
    dependencies: (path below the repository, real path) of folders like `.venv` that only the user's checkout has.
    masked: secrets below the readable paths, to be covered.
    search_path: PATH without folders that are not shown. variables: where tools find their folders, HOME being another.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    links: tuple[tuple[Path, Path], ...] = ()
    dependencies: tuple[tuple[str, Path], ...] = ()
    masked: tuple[Path, ...] = ()
    search_path: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


def find_toolchains(
    repository: Path, environ: Mapping[str, str], read: Sequence[Path] = (), write: Sequence[Path] = ()
) -> Toolchains:
    """Return what commands on a repository need of this machine; `read` and `write` are paths the user named.

    The result is kept for the process: a toolchain installed meanwhile is not seen.
    """
    return _find(repository, tuple(sorted(environ.items())), tuple(read), tuple(write))


@lru_cache(maxsize=64)
def _find(
    repository: Path, environ: tuple[tuple[str, str], ...], read: tuple[Path, ...], write: tuple[Path, ...]
) -> Toolchains:
    search = _Search(repository, dict(environ))
    for path in (*read, *write):
        search.show_named(path)
    search.show_tool_folders()
    search.show_search_path()
    search.show_repository_dependencies()
    return search.result(tuple(path.resolve() for path in write))


class _Search:
    """Collects paths; each is resolved, refused where it is private, and left out where it is visible anyway."""

    def __init__(self, repository: Path, environ: Mapping[str, str]) -> None:
        home = environ.get("HOME", "")
        self._home = Path(home) if home.startswith("/") else None
        self._private = PrivatePaths(self._home)
        self._environ = environ
        self._repositories = tuple(dict.fromkeys((repository, repository.resolve())))
        self._shown: set[Path] = set()
        self._links: dict[Path, Path] = {}
        self._dependencies: dict[str, Path] = {}
        self._search_path: list[str] = []
        self._variables: dict[str, str] = {}

    def show_named(self, path: Path) -> None:
        """Show a path that the user asked for, secrets below it left out."""
        if (below := self._below_repository(path)) is not None:
            self._show_dependency(below, path)
        else:
            self._add(path, path.resolve())

    def show_tool_folders(self) -> None:
        for variable, default in TOOL_FOLDERS:
            path = self._folder(variable, default)
            if path and self._show(path):
                self._variables[variable] = str(path)
        for variable, default, parts in _PARTIAL_FOLDERS:
            path = self._folder(variable, default)
            shown = [self._show(path / part) for part in parts if _has_entries(path / part)] if path else []
            if any(shown) and variable:
                self._variables[variable] = str(path)

    def show_search_path(self) -> None:
        for entry in dict.fromkeys(self._environ.get("PATH", os.defpath).split(":")):
            folder = Path(entry)
            if folder.is_absolute() and is_there(folder) and folder.is_dir() and self._show_binaries(folder):
                self._search_path.append(entry)
        if (active := self._environ.get("VIRTUAL_ENV", "")).startswith("/") and self._show_prefix(Path(active)):
            self._variables["VIRTUAL_ENV"] = active

    def show_repository_dependencies(self) -> None:
        for path in dependency_folders(self._repositories[0]):
            if len(self._dependencies) < _MAXIMUM_DEPENDENCIES:
                self._show_prefix(path)

    def result(self, writable: tuple[Path, ...]) -> Toolchains:
        shown = _outermost(self._shown)
        return Toolchains(
            readable=tuple(path for path in shown if path not in writable),
            writable=writable,
            links=tuple((path, real) for path, real in sorted(self._links.items()) if not is_below(path, self._shown)),
            dependencies=tuple(self._dependencies.items()),
            masked=tuple(sorted(self._private.secrets_below(self._shown))),
            search_path=":".join(self._search_path),
            variables=self._variables,
        )

    def _folder(self, variable: str, default: str) -> Path | None:
        moved = self._environ.get(variable, "")
        if moved.startswith("/"):
            return Path(moved)
        return self._home / default if self._home and default else None

    def _show(self, path: Path) -> bool:
        """Show a path if that is allowed; tell whether commands will see it."""
        if (below := self._below_repository(path)) is not None:
            return self._show_dependency(below, path)
        real = path.resolve()
        if is_below(path, _SYSTEM) and is_below(real, _SYSTEM):
            return True
        if not self._private.allows(real) or not is_there(real):
            return False
        self._add(path, next((store for store in _STORES if real.is_relative_to(store)), real))
        return True

    def _add(self, path: Path, real: Path) -> None:
        if not is_below(real, _SYSTEM):
            self._shown.add(real)
        if path != path.resolve() and not is_below(path, _SYSTEM):
            self._links[path] = path.resolve()

    def _below_repository(self, path: Path) -> str | None:
        for repository in self._repositories:
            if path.is_relative_to(repository):
                return str(path.relative_to(repository))
        return None

    def _show_dependency(self, below: str, path: Path) -> bool:
        """Show a folder that lies in the user's checkout; a link's target is shown at its own path as well."""
        real = path.resolve()
        if below == "." or not is_there(real) or not real.is_dir():
            return False
        if not any(Path(below).is_relative_to(known) for known in self._dependencies):
            self._dependencies[below] = real
        if self._below_repository(real) is None:
            self._show(real)
        return True

    def _show_binaries(self, folder: Path) -> bool:
        """Show a folder of programs, the prefix that it belongs to, and what its links lead to."""
        shown = self._show_prefix(folder.parent) if _is_prefix(folder) else False
        shown = shown or self._show(folder)
        if shown and not is_below(folder.resolve(), _SYSTEM_PROGRAMS):
            for target in _linked_programs(folder):
                self._show_program(target)
        return shown

    def _show_prefix(self, prefix: Path) -> bool:
        """Show an installation; that of a virtual environment needs the one that it was made from."""
        if not self._show(prefix):
            return False
        for folder in _bases_of_environment(prefix):
            base = folder.parent if folder.name in _BINARIES else folder
            if not self._show(base):
                self._show(folder)
        return True

    def _show_program(self, target: Path) -> None:
        """Show the prefix of a program that a link leads to, else the one file."""
        for program in dict.fromkeys((target, target.resolve())):
            if self._below_repository(program) is None and not is_below(program, self._shown | _SYSTEM):
                prefix = program.parent.parent if _is_prefix(program.parent) else None
                if prefix is None or not self._show_prefix(prefix):
                    self._show(program)


def _has_entries(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Say whether a path exists for this user: not in a folder that is closed to them, as another's home may be."""
    return os.access(path, os.F_OK)


def _is_prefix(folder: Path) -> bool:
    """Say whether a folder of programs is part of an installation that is needed whole."""
    if folder.name == ".bin":
        return folder.parent.name == "node_modules"
    return folder.name in _BINARIES and any(is_there(folder.parent / sign) for sign in _PREFIX_SIGNS)


def _linked_programs(folder: Path) -> Iterator[Path]:
    """Yield what the links in a folder point at, one step, as absolute paths."""
    try:
        with os.scandir(folder) as entries:
            links = [entry.path for _, entry in zip(range(_MAXIMUM_LINKS), entries, strict=False) if entry.is_symlink()]
        targets = [os.path.normpath(folder.resolve() / os.readlink(link)) for link in links]  # noqa: PTH115
    except OSError:
        return
    yield from (Path(target) for target in dict.fromkeys(targets) if not target.startswith(f"{folder.resolve()}/"))


def _bases_of_environment(prefix: Path) -> list[Path]:
    """Return the folders of the Python that a virtual environment was made from (`home` in pyvenv.cfg, PEP 405)."""
    text = (read_regular(prefix / "pyvenv.cfg", 100_000) or b"").decode(errors="replace")
    if not text:
        return []
    pairs = (line.partition("=") for line in text.splitlines())
    homes = [Path(value.strip()) for key, _, value in pairs if key.strip() == "home"]
    return [folder for folder in (*homes, (prefix / "bin/python").resolve().parent) if folder.is_absolute()]


def dependency_folders(repository: Path) -> Iterator[Path]:
    """Yield the folders of installed dependencies at the top of a repository and in its packages, two levels down."""
    level = [repository]
    looked_at = 0
    for _ in range(3):
        level = level[: _MAXIMUM_FOLDERS - looked_at]
        looked_at += len(level)
        for folder in level:
            yield from (folder / name for name in _DEPENDENCIES if (folder / name).is_dir())
        level = [child for folder in level for child in _child_folders(folder)]


def _child_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(".") and name not in _DEPENDENCIES]


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Drop each path that lies below another."""
    kept: list[Path] = []
    for path in sorted(paths):
        if not kept or not path.is_relative_to(kept[-1]):
            kept.append(path)
    return tuple(kept)
