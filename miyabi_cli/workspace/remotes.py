"""The remotes of the user's repository, and pushing a new branch to one: without hooks, questions and force."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.children import Child, OwnChild
from miyabi_cli.workspace.git import CONFIG_VARIABLES, INSTALL_HINT, Git, GitAnswer, check_name, last_word
from miyabi_cli.workspace.processes import Limits, Outcome, run_child
from miyabi_cli.workspace.repository import Repository

FIRST = ("origin", "upstream")
PUSH_SECONDS = 600.0
MAX_OUTPUT = 64 * 1024
# How the user has told git to reach servers; what else a hook has set stays out.
_REACHING = frozenset({"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"})
_SETTINGS = {
    "push.followTags": "false",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "core.askPass": "",
    "credential.interactive": "false",
}
# Before any configuration: an address such as `ext::sh -c ...` runs nothing.
_PROTOCOLS = {"GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file"}
_REJECTED = re.compile(r"^!\t[^\t\n]*\t(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Remote:
    """One remote: `url` as it is written, `fetch_url` and `push_url` after `url.*.insteadOf` and the like."""

    name: str
    url: str
    fetch_url: str
    push_url: str


@dataclass(frozen=True, slots=True)
class Header:
    """A secret header for the servers whose addresses begin with `scope`, such as `https://github.com/`."""

    scope: str
    value: str

    @classmethod
    def of_token(cls, server: str, token: str) -> Header:
        """Return the header by which git shows a GitHub token: basic, of a user whose name is no matter."""
        encoded = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        return cls(f"{server}/", f"Authorization: Basic {encoded}")


class PushFailed(Exception):
    """A push came to nothing; `reached`: the server took part in it, and has refused the branch."""

    def __init__(self, reason: str, *, reached: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reached = reached


def read_remotes(repository: Repository) -> tuple[Remote, ...]:
    """Return the remotes, origin and upstream first, then by name."""
    git = Git(repository.git_dir, user_config=True, cwd=repository.root)
    answer = git.ask("config", "-z", "--get-regexp", r"^remote\..*\.url$")
    found: dict[str, str] = {}
    for entry in answer.output.decode("utf-8", "replace").split("\0"):
        key, _, url = entry.partition("\n")
        if url:
            found.setdefault(key.removeprefix("remote.").removesuffix(".url"), url)
    names = sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return tuple(remote for name in names if (remote := _remote(git, name, found[name])))


def _remote(git: Git, name: str, url: str) -> Remote | None:
    try:
        check_name(name, "remote")
    except RepositoryError:
        return None
    fetch, push = (
        git.ask("remote", "get-url", *options, "--", name).output.decode("utf-8", "replace").strip()
        for options in ((), ("--push",))
    )
    return Remote(name, url, fetch or url, push or fetch or url)


def unpushed(repository: Repository, commit: str, remote: str) -> int:
    """Return how many commits the parents of `commit` have that a remote is not known to have; 0 where it is unknown.

    They go along where that commit is pushed.
    """
    git = Git(repository.git_dir)
    prefix = f"refs/remotes/{remote}"
    if not git.ask("for-each-ref", "--count=1", prefix).output:
        return 0
    answer = git.ask("rev-list", "--count", f"{commit}^@", "--not", f"--remotes={_literal(remote)}")
    count = answer.output.strip()
    return int(count) if answer.exit_code == 0 and count.isdigit() else 0


def _literal(name: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", name)


def is_by_http(url: str, server: str) -> bool:
    """Say whether an address is one of that server (`https://host[:port]`), and spoken to by HTTP."""
    try:
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        return False
    return f"{parts.scheme}://{authority}" == server


async def push_branch(
    repository: Repository, commit: str, branch: str, destination: str, header: Header | None = None
) -> None:
    """Make a branch of that commit at a remote, by its name or address; nothing is done where it is there already.

    The user's own means of reaching servers are used (credential helpers, ssh), which can ask nobody here; with
    `header`, that one alone instead. No hook of theirs runs. Raises PushFailed, also where the branch is another
    commit's; MachineError where git can't be run.
    """
    check_name(destination, "remote")
    name = f"refs/heads/{check_name(branch, 'name of a branch')}"
    options = ("--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules", "--no-signed")
    # A lease on nothing: the server makes the branch only where there is none of that name, else a branch of
    # somebody else's could be moved forward.
    command = ("push", *options, f"--force-with-lease={name}:", "--", destination, f"{commit}:{name}")
    git = Git(repository.git_dir, cwd=repository.root, user_config=True, settings=_SETTINGS, environment=_PROTOCOLS)
    if header:
        git = replace(git, settings={**_SETTINGS, **_alone(header)})
    outcome = await _run(git, command, repository.root)
    if outcome.timed_out:
        raise PushFailed(f"it took more than {PUSH_SECONDS:.0f} s", reached=False)
    if outcome.exit_code == 0:
        return
    rejected = _REJECTED.search(outcome.output)
    if rejected and "stale info" in rejected[1]:
        raise PushFailed(f"it has a branch {branch} already, of another commit", reached=True)
    reason = rejected[1] if rejected else last_word(GitAnswer(outcome.exit_code, b"", outcome.output))
    raise PushFailed(" ".join(reason.split())[:300], reached=bool(rejected))


def _alone(header: Header) -> dict[str, str]:
    """Return the settings that let a server see a header, and no other credentials."""
    key = f"http.{header.scope}.extraHeader"
    # An empty value takes away what was set before, as by CI's checkouts: GitHub refuses two headers of a kind. The
    # keys of configuration ignore case, so these are two.
    return {key: "", key.replace("extraHeader", "extraheader"): header.value, "credential.helper": "", **_HERE}


_HERE = {"http.followRedirects": "false"}  # a secret header goes to nobody else


async def _run(git: Git, command: tuple[str, ...], folder: Path) -> Outcome:
    """Run git with a network: in a session of its own, where nobody can be asked, and ended with this task."""
    environment = _environment(git.variables())

    async def start(output: int) -> Child:
        try:
            return OwnChild(["git", *command], folder, environment, output)
        except OSError as error:
            raise MachineError(f"can't run git: {error.strerror}", hint=INSTALL_HINT) from None

    return await run_child(start, limits=Limits(seconds=PUSH_SECONDS, output_bytes=MAX_OUTPUT))


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    kept = CONFIG_VARIABLES | _REACHING
    mine = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in kept}
    return {**mine, "SSH_ASKPASS_REQUIRE": "never", "GCM_INTERACTIVE": "never", "LC_ALL": "C", **variables}
