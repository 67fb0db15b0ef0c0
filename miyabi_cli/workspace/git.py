"""Runs git on the host so that nothing steers it but what is said here; the one module that uses GitPython."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, RepositoryError

OLDEST_GIT = (2, 32)  # the first that obeys GIT_CONFIG_GLOBAL
INSTALL_HINT = "install git 2.32 or newer, and see that it is on PATH"

# What may come from the caller's environment; every other GIT_ variable (a hook sets many) is taken away.
KEPT_VARIABLES = frozenset({"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"})
CONFIG_VARIABLES = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"})

ALWAYS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",  # none: before any configuration, where a repository's own allows one by name
}
WITHOUT_USER_CONFIG = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "XDG_CONFIG_HOME": os.devnull,
}
_IMPORTING = threading.Lock()  # the import changes the environment for a moment
NO_ATTRIBUTES = {"core.attributesFile": os.devnull}
SAFE_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.splitIndex": "false",
    "protocol.allow": "never",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


@dataclass(frozen=True, slots=True)
class GitAnswer:
    """How a git command ended: its exit code, stdout as bytes, and stderr."""

    exit_code: int
    output: bytes
    error: str


@dataclass(frozen=True, slots=True)
class Git:
    """What git works on, all of it said, so that nothing is discovered.

    It runs in `cwd`, else in the work tree, else in the git directory. Hooks, fsmonitor and every transport are off;
    the user's and the system's configuration is read only with `user_config`. `settings` are further keys of
    configuration. No argument of a command may come unchecked from outside: see `check_name`.
    """

    git_dir: Path | None = None
    work_tree: Path | None = None
    index: Path | None = None
    objects: Path | None = None
    alternates: tuple[Path, ...] = ()
    cwd: Path | None = None
    user_config: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str | Path, input: bytes | None = None) -> bytes:
        """Run a command and return its stdout; raises RepositoryError with git's own last word when it fails."""
        answer = self.ask(*arguments, input=input)
        if answer.exit_code:
            raise git_failure(str(arguments[0]), answer)
        return answer.output

    def ask(self, *arguments: str | Path, input: bytes | None = None) -> GitAnswer:
        """Run a command and return how it ended, whatever the exit code."""
        variables = self.variables()
        kept = KEPT_VARIABLES | (CONFIG_VARIABLES if self.user_config else frozenset()) | variables.keys()
        command = _without_inherited(["git", "--no-pager", *map(str, arguments)], kept)
        return _execute(command, variables, self.cwd or self.work_tree or self.git_dir, input)

    def variables(self) -> dict[str, str]:
        """Return the environment variables that say all this to git, wherever it is started."""
        places = {
            "GIT_DIR": self.git_dir,
            "GIT_WORK_TREE": self.work_tree,
            "GIT_INDEX_FILE": self.index,
            "GIT_OBJECT_DIRECTORY": self.objects,
        }
        variables = ALWAYS | ({} if self.user_config else WITHOUT_USER_CONFIG)
        variables |= {name: str(path) for name, path in places.items() if path is not None}
        if self.alternates:
            variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(map(quoted_path, self.alternates))
        settings = SAFE_SETTINGS | ({} if self.user_config else NO_ATTRIBUTES) | dict(self.settings)
        for number, (key, value) in enumerate(settings.items()):
            variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return variables | {"GIT_CONFIG_COUNT": str(len(settings))} | dict(self.environment)


def git_failure(command: str, answer: GitAnswer) -> RepositoryError | MachineError:
    """Return the error for a git command that failed."""
    if any(words in answer.error for words in ("No space left on device", "Out of diskspace")):  # git has its own
        return MachineError(f"git {command}: no space left on the disk", hint="free some space and run again")
    return RepositoryError(f"git {command}: {last_word(answer)}")


def last_word(answer: GitAnswer) -> str:
    """Return the last line of git's stderr that names an error, without its label."""
    lines = [line.strip() for line in answer.error.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("fatal:", "error:"))]
    line = (named or lines or [f"exit code {answer.exit_code}"])[-1]
    return re.sub(r"^(fatal|error):\s*", "", line)


def check_name(name: str, what: str = "revision") -> str:
    """Return `name` when it is safe as an argument of git; raises RepositoryError for an option, a NUL or a line."""
    if not name.strip() or name.startswith("-") or re.search(r"[\x00-\x1f\x7f]", name):
        raise RepositoryError(f"not a {what}: {name!r}")
    return name


def quoted_path(path: Path) -> str:
    """Return a path as git's alternates spell it: in C quotes where it holds a colon or the like."""
    text = str(path)
    if not re.search(r'[:"\\\x00-\x1f\x7f]|^#', text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found.group()):03o}", escaped) + '"'


def split_paths(output: bytes) -> list[str]:
    """Return the paths of a NUL-terminated list; bytes that are no UTF-8 come as surrogates (os.fsdecode)."""
    return [os.fsdecode(path) for path in output.split(b"\0") if path]


def joined_lines(lines: Iterable[str]) -> bytes:
    """Return NUL-terminated lines, as git's `-z --stdin` reads them."""
    return b"".join(os.fsencode(line) + b"\0" for line in lines)


def copy_index(index: Path, copy: Path) -> None:
    """Copy an index and its time: git takes a file for changed when it is no older than the index that lists it.

    With a newer time, an edit right after the checkout that keeps the file's size would go unseen (git's
    Documentation/technical/racy-git.txt).
    """
    shutil.copyfile(index, copy)
    times = index.stat()
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))


@functools.cache
def check_git() -> None:
    """Raise MachineError where git is missing or too old; asked once a process."""
    git_version()


def git_version() -> str:
    """Return git's version. Raises MachineError where git is missing or too old."""
    answer = _execute(["git", "version"], {}, None, None)
    found = re.search(rb"(\d+)\.(\d+)[\w.-]*", answer.output)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GIT:
        version = answer.output.decode(errors="replace").strip() or "git does not start"
        raise MachineError(f"git is too old or broken: {version}", hint=INSTALL_HINT)
    return found[0].decode()


def _execute(command: list[str], variables: Mapping[str, str], cwd: Path | None, input: bytes | None) -> GitAnswer:
    module = _git_python()
    with tempfile.TemporaryFile() as stdin:
        if input:
            stdin.write(input)
            stdin.seek(0)
        try:
            code, output, error = module.Git(cwd).execute(
                command,
                istream=stdin,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=variables,
                shell=False,
            )
        except module.GitCommandNotFound:
            raise MachineError("git is not installed", hint=INSTALL_HINT) from None
        except OSError as problem:
            raise MachineError(f"can't run git: {problem.strerror or problem}") from None
    # env(1) ends with 127 where the program that it should start is missing.
    if code == 127 and command[0] == "env":
        raise MachineError("git is not installed", hint=INSTALL_HINT)
    return GitAnswer(code, bytes(output or b""), str(error))


def _without_inherited(command: list[str], kept: Set[str]) -> list[str]:
    # GitPython adds to the environment and never takes away, so env(1) does, where there is anything to take.
    unwanted = [name for name in os.environ if name.startswith("GIT_") and name not in kept]
    return ["env", *(part for name in unwanted for part in ("-u", name)), *command] if unwanted else command


def _git_python() -> Any:
    with _IMPORTING:
        return _imported_git_python()


@functools.cache
def _imported_git_python() -> Any:
    # GitPython runs `git version` while it is imported: it fails where git is missing unless it is told to be quiet,
    # and where a hook's variables confuse git.
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GIT_")}
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    try:
        import git
    finally:
        del os.environ["GIT_PYTHON_REFRESH"]
        os.environ.update(hidden)
    return git
