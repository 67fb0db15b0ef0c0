"""The user's repository: finding it, reading it, and never writing it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import RepositoryError
from miyabi_cli.redaction import Secret, secrets_in_header, secrets_in_url
from miyabi_cli.workspace.git import Git, GitAnswer, check_git, check_name, git_failure, split_paths

ALTERNATES_DEPTH = 5  # as deep as git itself follows them
QUESTIONS = ("--is-bare-repository", "--is-inside-work-tree", "--show-object-format")
PATHS = ("--git-dir", "--git-common-dir", "--show-toplevel")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with a working tree, as it was when it was opened.

    `git_dir` is the working tree's own, `common_dir` that of the repository (two only in a linked worktree);
    `head` is a commit's id, and the empty tree's where there is none yet (`born` is then False); `branch` is short, and
    None when HEAD is detached; `object_directories` holds the repository's own first, and then all that it borrows
    from.
    """

    root: Path
    git_dir: Path
    common_dir: Path
    head: str
    branch: str | None
    object_format: str
    object_directories: tuple[Path, ...]
    born: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a commit is by; `configured` is False where git knew nobody and miyabi stands in."""

    name: str
    email: str
    configured: bool = True


NOBODY = Identity("miyabi", "miyabi@localhost", configured=False)


def open_repository(path: Path, *, unborn: bool = False) -> Repository:
    """Return the repository whose working tree holds the folder `path`, whatever a hook has set in the environment.

    Raises RepositoryError: no repository, bare, owned by somebody else, no commit yet (unless that is fine: `unborn`);
    MachineError: no usable git.
    """
    check_git()
    if not path.is_dir():
        raise RepositoryError(f"{path} is not a folder", hint="name the repository's folder with --repo")
    flags, (git_dir, common_dir, root) = _discover(path)
    head = _head(git_dir, unborn=unborn)
    return Repository(
        root=root,
        git_dir=git_dir,
        common_dir=common_dir,
        head=head or empty_tree(Git(git_dir)),
        branch=_branch(git_dir),
        object_format=flags[2],
        object_directories=_object_directories(common_dir / "objects"),
        born=head is not None,
    )


def empty_tree(git: Git) -> str:
    """Return the id of the tree without files, which every repository has."""
    return git.run("hash-object", "-t", "tree", os.devnull).decode().strip()


def resolve(repository: Repository, revision: str) -> str:
    """Return the id of the commit that `revision` names; raises RepositoryError when there is none."""
    name = check_name(revision)
    answer = Git(repository.git_dir).ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if answer.exit_code:
        shallow = (repository.common_dir / "shallow").exists()
        hint = "this clone is shallow: `git fetch --unshallow` brings the rest" if shallow else "see `git log --all`"
        raise RepositoryError(f"no commit is named {revision}", hint=hint)
    return answer.output.decode().strip()


def uncommitted(repository: Repository) -> tuple[str, ...]:
    """Return the paths of the working tree that differ from HEAD or are new; a folder that is all new ends in `/`."""
    git = Git(repository.git_dir, repository.root, user_config=True)
    options = ("--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=all")
    output = git.run("status", *options)
    return tuple(entry[3:] for entry in split_paths(output))


def identity(repository: Repository, environ: Mapping[str, str] = os.environ) -> Identity:
    """Return the user as git itself would name the author, or `NOBODY` where git knows none.

    A hook's GIT_AUTHOR_NAME is that of the commit at hand and not the user's, so it counts outside of hooks alone.
    """
    inherited = {name: environ[name] for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL") if environ.get(name)}
    in_hook = "GIT_DIR" in environ or "GIT_INDEX_FILE" in environ
    git = Git(repository.git_dir, user_config=True, environment={} if in_hook else inherited)
    answer = git.ask("var", "GIT_AUTHOR_IDENT")
    found = re.match(r"(.+) <(.*)> \d+ [-+]\d+$", answer.output.decode(errors="replace").strip())
    return Identity(found[1], found[2]) if found and answer.exit_code == 0 else NOBODY


def secrets_in_configuration(repository: Repository) -> tuple[Secret, ...]:
    """Return what git's configuration holds that nobody else may see, with its key: passwords in the addresses of
    remotes, and headers that a server knows the user by (as CI's checkouts leave them)."""
    pattern = r"^(remote\..*\.((push)?url|proxy)|url\..*\.(push)?insteadof|http\.(.*\.)?(extraheader|proxy))$"
    answer = Git(repository.git_dir, user_config=True).ask("config", "-z", "--get-regexp", pattern)
    found: list[Secret] = []
    for entry in answer.output.decode("utf-8", "replace").split("\0"):
        key, _, value = entry.partition("\n")
        in_urls = secrets_in_url(f"{value} {key}")
        secrets = in_urls or (secrets_in_header(value) if key.lower().endswith("extraheader") else ())
        found += ((key.split("://")[0].rstrip("."), secret) for secret in secrets)
    return tuple(found)


def _discover(path: Path) -> tuple[list[str], tuple[Path, Path, Path]]:
    answer = _rev_parse(path, *QUESTIONS, *PATHS)
    lines = os.fsdecode(answer.output).removesuffix("\n").split("\n")
    if answer.exit_code:
        raise _not_usable(path, lines, answer)
    if len(lines) == len(QUESTIONS) + len(PATHS):
        found = [Path(line) for line in lines[len(QUESTIONS) :]]
    else:  # a path with a line break in it: ask for one at a time
        found = [Path(os.fsdecode(_rev_parse(path, question).output.removesuffix(b"\n"))) for question in PATHS]
    return lines[: len(QUESTIONS)], (found[0], found[1], found[2])


def _rev_parse(path: Path, *questions: str) -> GitAnswer:
    # safe.directory is honoured in the user's own configuration only.
    return Git(cwd=path.absolute(), user_config=True).ask("rev-parse", "--path-format=absolute", *questions)


def _not_usable(path: Path, lines: list[str], answer: GitAnswer) -> Exception:
    if "dubious ownership" in answer.error:
        owned = re.search(r"repository at '(.*)'", answer.error)
        command = f"git config --global --add safe.directory {owned[1] if owned else path}"
        return RepositoryError(f"{path} belongs to another user", hint=f"if you trust it: {command}")
    if "not a git repository" in answer.error:
        hint = "run in a git repository, or name one with --repo"
        return RepositoryError(f"{path} is not in a git repository", hint=hint)
    if lines[:1] == ["true"]:
        return RepositoryError(f"{path} is a bare repository: there are no files to work on", hint="clone it first")
    if lines[1:2] == ["false"]:
        return RepositoryError(f"{path} is inside a .git directory", hint="run in the working tree, or use --repo")
    return git_failure("rev-parse", answer)


def _head(git_dir: Path, *, unborn: bool) -> str | None:
    answer = Git(git_dir).ask("rev-parse", "--verify", "HEAD^{commit}")
    if answer.exit_code == 0:
        return answer.output.decode().strip()
    target = Git(git_dir).ask("symbolic-ref", "--quiet", "HEAD")
    name = target.output.decode().strip()
    known = Git(git_dir).ask("show-ref", "--quiet", "--verify", name) if name else target
    if name and known.exit_code == 1:
        if unborn:
            return None
        hint = "make a first one: git add -A && git commit -m first"
        raise RepositoryError("the repository has no commit yet", hint=hint)
    raise RepositoryError(f"HEAD can't be read: {git_failure('rev-parse', answer)}", hint="see `git fsck`")


def _branch(git_dir: Path) -> str | None:
    answer = Git(git_dir).ask("symbolic-ref", "--quiet", "HEAD")
    name = os.fsdecode(answer.output).strip()
    return name.removeprefix("refs/heads/") if name.startswith("refs/heads/") else None


def _object_directories(objects: Path, depth: int = 0) -> tuple[Path, ...]:
    found = [objects]
    if depth < ALTERNATES_DEPTH:
        for line in _alternates(objects):
            found += _object_directories(line, depth + 1)
    return tuple(dict.fromkeys(found))


def _alternates(objects: Path) -> list[Path]:
    try:
        text = os.fsdecode((objects / "info" / "alternates").read_bytes())
    except OSError:
        return []
    lines = [_unquoted(line) for line in text.split("\n") if line and not line.startswith("#")]
    paths = [Path(os.path.normpath(objects / line)) for line in lines]
    return [path for path in paths if path.is_dir()]


def _unquoted(line: str) -> str:
    if not line.startswith('"'):
        return line
    quoted = os.fsencode(line[1:].removesuffix('"'))
    return os.fsdecode(re.sub(rb"\\([0-7]{3}|.)", _unescaped, quoted))


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    named = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
    return bytes([int(code, 8)]) if len(code) == 3 else named.get(code, code)
