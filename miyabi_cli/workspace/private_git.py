"""Git directories of miyabi's own: they borrow the user's objects, and hold no remote, hook, credential or branch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.workspace.git import Git, quoted_path
from miyabi_cli.workspace.repository import Repository

# What decides how a file's bytes and mode go to the disk and back; nothing else of the user's settings is taken over.
COPIED_SETTINGS = "autocrlf|eol|filemode|symlinks|ignorecase|precomposeunicode|protectntfs|protecthfs"

# What checks leave behind. A pattern does not hold where the base itself tracks such files.
LEFT_BEHIND = (
    "__pycache__/",
    "*.py[cod]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".coverage",
    ".coverage.*",
    "htmlcov/",
    ".hypothesis/",
    ".tox/",
    ".nox/",
    "*.egg-info/",
    ".eggs/",
    ".venv/",
    "venv/",
    "node_modules/",
    ".ipynb_checkpoints/",
    ".gradle/",
    "*.orig",
    "*.rej",
    "core.[0-9]*",
    ".DS_Store",
)
TARGET_MAKERS = ("Cargo.toml", "pom.xml")  # their builds fill a folder `target`


@dataclass(frozen=True, slots=True)
class Template:
    """What every private git directory of a repository has in common, read once a run.

    `hooks` is the folder of core.hooksPath where that lies in the repository, relative to its root, and else "".
    """

    config: str
    ignored: bytes
    attributes: bytes
    shallow: bytes
    hooks: str = ""


def read_template(repository: Repository) -> Template:
    """Return what private git directories take over from the user's: byte settings, ignore rules, attributes."""
    git = Git(repository.git_dir, repository.root, user_config=True)
    info = repository.common_dir / "info"
    rules = [_user_file(git, "core.excludesFile", "ignore"), _content(info / "exclude")]
    attributes = [_user_file(git, "core.attributesFile", "attributes"), _content(info / "attributes")]
    return Template(
        config=_config(git, repository.object_format),
        ignored=b"\n".join(rules),
        attributes=b"\n".join(attributes),
        shallow=_content(repository.common_dir / "shallow"),
        hooks=_hooks(git, repository.root),
    )


def make_git_dir(path: Path, template: Template, alternates: Sequence[Path], head: str, refs: bytes = b"") -> None:
    """Make a git directory at `path` whose HEAD is detached at the commit `head`; `refs` is a packed-refs file."""
    for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    (path / "config").write_text(template.config)
    (path / "objects/info/alternates").write_bytes(alternates_file(alternates))
    for name, content in (("info/attributes", template.attributes), ("shallow", template.shallow)):
        if content:
            (path / name).write_bytes(content)
    if refs:
        (path / "packed-refs").write_bytes(refs)
    (path / "HEAD").write_text(f"{head}\n")


def alternates_file(paths: Sequence[Path]) -> bytes:
    """Return the content of an objects/info/alternates file (gitrepository-layout(5))."""
    return b"".join(os.fsencode(quoted_path(path)) + b"\n" for path in paths)


def packed_refs(repository: Repository, base: str, objects: Path) -> bytes:
    """Return a packed-refs file with the tags that are no newer than the commit `base`, and with the current branch.

    The tags are for `git describe` and what builds on it. Later ones could show an agent what was done after `base`,
    a commit that is in the repository or in `objects`.
    """
    git = Git(repository.git_dir, alternates=(objects,))
    date = _commit_date(git.run("cat-file", "commit", base))
    form = "%(creatordate:unix) %(objectname) %(refname)"
    lines = [line.split(b" ", 2) for line in git.run("for-each-ref", f"--format={form}", "refs/tags").splitlines()]
    tags = [(name, sha) for created, sha, name in lines if created and int(created) <= date]
    if repository.branch and base == repository.head:
        tags.append((os.fsencode(f"refs/heads/{repository.branch}"), base.encode()))
    return b"# pack-refs with: sorted \n" + b"".join(sha + b" " + name + b"\n" for name, sha in sorted(tags))


def exclude_rules(git: Git, template: Template) -> bytes:
    """Return ignore rules for a worktree whose index `git` names: what checks leave behind, then the user's own."""
    patterns = list(LEFT_BEHIND)
    if git.run("ls-files", "-z", "--", *(f":(glob)**/{name}" for name in TARGET_MAKERS)):
        patterns.append("target/")
    if _tracked(git, patterns):
        patterns = [pattern for pattern in patterns if not _tracked(git, [pattern])]
    return "\n".join(patterns).encode() + b"\n" + template.ignored + b"\n"


def _commit_date(commit: bytes) -> int:
    found = re.search(rb"^committer .*> (\d+) [-+]\d+$", commit, re.MULTILINE)
    return int(found[1]) if found else 0


def _tracked(git: Git, patterns: Sequence[str]) -> bool:
    return bool(git.run("ls-files", "-z", "--cached", "--ignored", *(f"--exclude={pattern}" for pattern in patterns)))


def _config(git: Git, object_format: str) -> str:
    asked = git.ask("config", "-z", "--get-regexp", rf"^core\.({COPIED_SETTINGS})$")
    entries = [entry.partition(b"\n") for entry in asked.output.split(b"\0") if entry]
    copied = {key.decode().lower(): value.decode(errors="replace") or "true" for key, _, value in entries}
    lines = [
        f"\t{key.removeprefix('core.')} = {value}" for key, value in copied.items() if re.fullmatch(r"[\w-]+", value)
    ]
    version = 0 if object_format == "sha1" else 1
    fixed = (
        f"\trepositoryformatversion = {version}",
        "\tbare = false",
        "\tlogAllRefUpdates = false",
        "\tsafecrlf = false",
        f"\thooksPath = {os.devnull}",
        "\tfsmonitor = false",
    )
    text = "\n".join(["[core]", *fixed, *lines, "[gc]", "\tauto = 0", "[maintenance]", "\tauto = false", ""])
    return text if version == 0 else f"{text}[extensions]\n\tobjectFormat = {object_format}\n"


def _hooks(git: Git, root: Path) -> str:
    asked = git.ask("config", "--type=path", "--show-scope", "-z", "--get-all", "core.hooksPath").output
    fields = [os.fsdecode(field) for field in asked.split(b"\0")]
    own = [value for scope, value in zip(fields[::2], fields[1::2], strict=False) if scope != "command"]
    folder = Path(os.path.normpath(root / own[-1])) if own else root
    return str(folder.relative_to(root)) if folder != root and folder.is_relative_to(root) else ""


def _user_file(git: Git, key: str, default: str) -> bytes:
    asked = git.ask("config", "--type=path", "--get", key)
    if asked.exit_code == 0:
        return _content(Path(os.fsdecode(asked.output.removesuffix(b"\n"))))
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 (Path fails without HOME)
    return _content(Path(home) / "git" / default)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
