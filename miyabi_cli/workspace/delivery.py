"""What becomes of a patch: a commit on a new branch, or a change of the working tree; nothing else of the user's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_cli.errors import MachineError, PatchConflict, RepositoryError
from miyabi_cli.locks import POLL_SECONDS, open_lock, try_lock
from miyabi_cli.places import cache_dir
from miyabi_cli.workspace.git import Git, check_name, git_failure, last_word, split_paths
from miyabi_cli.workspace.repository import Identity, Repository
from miyabi_cli.workspace.snapshots import write_commit
from miyabi_cli.workspace.staging import Staged
from miyabi_cli.workspace.trees import pack_count
from miyabi_cli.workspace.workspaces import Workspace

PREFIX = "miyabi"
SLUG_LENGTH = 40
NUMSTAT = ("apply", "--numstat", "-z")
LOOSE_OBJECTS = 100  # as git's own transfer.unpackLimit: fewer become loose objects, more stay a pack


def commit_on_branch(
    workspace: Workspace,
    staged: Staged,
    *,
    base: str,
    branch: str,
    message: str,
    author: Identity,
    replaced: str | None = None,
) -> str:
    """Put a staged tree on a new branch, as a commit on `base` by `author`; return its id.

    The repository gets objects and that branch; its index, HEAD, configuration and working tree stay as they are,
    and none of its hooks runs. With `replaced`, a commit, the branch is one that `is_untouched` since the run made it
    there. Raises RepositoryError where the branch exists otherwise, or can't be made.
    """
    repository = workspace.repository
    if replaced is None:
        check_branch(repository, branch)
    private = Git(workspace.git_dir)
    commit = write_commit(private, staged.tree, base, message, author)
    _hand_over(private, repository, commit, base)
    _make_branch(repository, branch, commit, author, replaced)
    return commit


def find_commit(repository: Repository, tree: str, base: str, names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return branch and id of a commit of that tree on `base`, on a branch that one of the patterns `names`.

    So a run that was stopped after it had made its branch finds it. A pattern is one of git for-each-ref.
    """
    patterns = [f"refs/heads/{name}" for name in names]
    form = "--format=%(refname)%00%(objectname)%00%(tree)%00%(parent)"
    for line in Git(repository.git_dir).run("for-each-ref", form, *patterns).splitlines():
        name, commit, of_tree, parent = os.fsdecode(line).split("\0")
        if (of_tree, parent) == (tree, base):
            return name.removeprefix("refs/heads/"), commit
    return None


def is_untouched(repository: Repository, branch: str, commit: str) -> bool:
    """Say whether a branch is where a run has made it, and checked out nowhere."""
    git = Git(repository.git_dir)
    form = "--format=%(objectname)%00%(worktreepath)"
    found = git.ask("for-each-ref", form, f"refs/heads/{branch}")
    return found.exit_code == 0 and os.fsdecode(found.output).rstrip("\n") == f"{commit}\0"


def unique_branch(repository: Repository, text: str, run: str) -> str:
    """Return the name of a branch that does not exist: `miyabi/<words of text>-<run>`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    slug = words if len(words) <= SLUG_LENGTH else words[: SLUG_LENGTH + 1].rpartition("-")[0] or words[:SLUG_LENGTH]
    tail = "-".join(part for part in (slug, re.sub(r"[^A-Za-z0-9]+", "", run)) if part) or "change"
    # A branch named like our folder leaves no room below it.
    start = f"{PREFIX}-{tail}" if _exists(repository, PREFIX) else f"{PREFIX}/{tail}"
    name, number = start, 1
    while _exists(repository, name):
        number += 1
        name = f"{start}-{number}"
    return name


def check_branch(repository: Repository, branch: str) -> None:
    """Raise RepositoryError unless `branch` is a name that a new branch can have."""
    check_name(branch, "name of a branch")
    is_allowed = Git(repository.git_dir).ask("check-ref-format", f"refs/heads/{branch}").exit_code == 0
    if not is_allowed or branch == "HEAD" or branch.startswith("refs/"):
        raise RepositoryError(f"not a name of a branch: {branch!r}", hint="see git help check-ref-format")
    if _exists(repository, branch):
        raise RepositoryError(f"the branch {branch} exists already", hint="name another one with --branch")


def is_applied(repository: Repository, patch: bytes) -> bool:
    """Say whether the files of the user's working tree are as a patch leaves them."""
    git = _apply_git(repository)
    return git.ask("apply", "--check", "--reverse", "--whitespace=nowarn", "-", input=patch).exit_code == 0


def apply_to_working_tree(repository: Repository, patch: bytes) -> None:
    """Change the files of the user's working tree by a patch: all of it or nothing; the index stays as it is.

    Raises PatchConflict, with nothing changed, where the files there are not those that the patch was made from.
    """
    if not patch:
        return
    with applying(repository):
        _apply(repository, patch)


@contextlib.contextmanager
def applying(repository: Repository) -> Iterator[None]:
    """Hold off other processes of the user's that apply patches to the same working tree, until the block ends.

    What one of them puts back when it fails must not be the files as they were before another.
    """
    name = hashlib.sha256(os.fsencode(repository.root)).hexdigest()[:20]
    descriptor = open_lock(cache_dir("applying") / name)
    try:
        while not try_lock(descriptor):
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _apply(repository: Repository, patch: bytes) -> None:
    git = _apply_git(repository)
    checked = git.ask("apply", "--check", "--whitespace=nowarn", "-", input=patch)
    if checked.exit_code:
        hint = "commit or stash your changes, or take the result as a branch: leave --apply out"
        raise PatchConflict(f"the patch does not fit your files: {last_word(checked)}", hint=hint)
    copies = [_Copy.of(path) for path in _touched(git, patch)]
    answer = git.ask("apply", "--whitespace=nowarn", "-", input=patch)
    if answer.exit_code:
        # What is new goes first: it may be a folder where a file was, or a file where a folder was.
        for copy in sorted(copies, key=lambda copy: copy.content is not None):
            copy.restore()
        raise git_failure("apply", answer)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file as it was: no content where there was none, or a folder; of a link the content is its target."""

    path: Path
    content: bytes | None
    mode: int = 0

    @classmethod
    def of(cls, path: Path) -> _Copy:
        try:
            mode = path.lstat().st_mode
            content = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return cls(path, None)
        except OSError as error:
            raise MachineError(f"can't read {path}: {error.strerror}") from None
        return cls(path, content, mode)

    def restore(self) -> None:
        """Put the file back, as far as the system lets us: this runs when something has failed already."""
        with contextlib.suppress(OSError):
            if self == _Copy.of(self.path):
                return
            if self.path.is_dir() and not self.path.is_symlink():
                self.path.rmdir()
            self.path.unlink(missing_ok=True)
            if self.content is None:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(self.mode):
                self.path.symlink_to(os.fsdecode(self.content))
            else:
                self.path.write_bytes(self.content)
                self.path.chmod(stat.S_IMODE(self.mode))


def _touched(git: Git, patch: bytes) -> list[Path]:
    root = git.work_tree or Path()
    lines = [line for way in ((), ("--reverse",)) for line in split_paths(git.run(*NUMSTAT, *way, "-", input=patch))]
    return [root / path for path in dict.fromkeys(line.split("\t", 2)[2] for line in lines)]


def _apply_git(repository: Repository) -> Git:
    # Line endings are the user's. Filters are off: the patch may say which files go through which filter.
    git = Git(repository.git_dir, repository.root, user_config=True)
    keys = split_paths(git.ask("config", "-z", "--name-only", "--get-regexp", r"^filter\.").output)
    drivers = {key.rpartition(".")[0] for key in keys}
    off = {f"{driver}.{part}": "" for driver in sorted(drivers) for part in ("clean", "smudge", "process")}
    return replace(git, settings=off | {f"{driver}.required": "false" for driver in drivers})


def _hand_over(private: Git, repository: Repository, commit: str, base: str) -> None:
    """Copy the objects of a commit that the run has made into the repository; git checks each of them."""
    theirs = Git(repository.git_dir)
    known = [repository.head, *([base] if theirs.ask("cat-file", "-e", base).exit_code == 0 else [])]
    wanted = "\n".join([commit, *(f"^{name}" for name in known), ""]).encode()
    pack = private.run("pack-objects", "-q", "--revs", "--local", "--stdout", input=wanted)
    if pack_count(pack) < LOOSE_OBJECTS:
        theirs.run("unpack-objects", "-q", "--strict", input=pack)
    else:
        theirs.run("index-pack", "--strict", "--stdin", input=pack)


def _make_branch(repository: Repository, branch: str, commit: str, author: Identity, replaced: str | None) -> None:
    # The reflog names who did it.
    variables = {"GIT_COMMITTER_NAME": author.name, "GIT_COMMITTER_EMAIL": author.email}
    git = Git(repository.git_dir, environment=variables)
    before, what = (replaced, "gone on with") if replaced else ("0" * len(commit), "new branch")
    answer = git.ask("update-ref", "-m", f"miyabi: {what}", f"refs/heads/{branch}", commit, before)
    if answer.exit_code:
        raise RepositoryError(f"can't make the branch {branch}: {last_word(answer)}", hint="name another by --branch")


def _exists(repository: Repository, branch: str) -> bool:
    return Git(repository.git_dir).ask("show-ref", "--quiet", "--verify", f"refs/heads/{branch}").exit_code == 0
