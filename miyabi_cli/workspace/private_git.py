"""Git directories of miyabi's own: they borrow the user's objects, and hold no remote, hook, credential or branch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.workspace.git import Git, quoted_path, split_paths
from miyabi_cli.workspace.repository import Repository
from miyabi_cli.workspace.toolchains import TOOLCHAINS

# What decides how a file's bytes and mode go to the disk and back; nothing else of the user's settings is taken over.
COPIED_SETTINGS = (
    "autocrlf",
    "eol",
    "filemode",
    "symlinks",
    "ignorecase",
    "precomposeunicode",
    "protectntfs",
    "protecthfs",
)

# What commands leave behind beside the toolchains' artifacts.
LEFT_BEHIND = (".ipynb_checkpoints/", ".gradle/", "*.orig", "*.rej", "core.[0-9]*", ".DS_Store")
# Folders that builds fill, where files of these names are; elsewhere such a folder may be anything.
BUILD_FOLDERS = (("target/", ("Cargo.toml", "pom.xml")), ("build/", ("CMakeLists.txt", "build.gradle*", "meson.build")))


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


@dataclass(frozen=True, slots=True)
class Shown:
    """What every worktree of one base shows: ignore rules, and a packed-refs file."""

    exclude: bytes
    refs: bytes


def read_template(repository: Repository) -> Template:
    """Return what private git directories take over from the user's: byte settings, ignore rules, attributes."""
    settings = _core_settings(repository)
    info = repository.common_dir / "info"
    return Template(
        config=_config(settings, repository.object_format),
        ignored=b"\n".join([_user_file(settings, "excludesfile", "ignore"), _content(info / "exclude")]),
        attributes=b"\n".join([_user_file(settings, "attributesfile", "attributes"), _content(info / "attributes")]),
        shallow=_content(repository.common_dir / "shallow"),
        hooks=_hooks(settings, repository.root),
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
    """Return ignore rules for a worktree whose index `git` names: what checks leave behind, then the user's own.

    A pattern does not hold where the base itself tracks such files.
    """
    patterns = [*(pattern for chain in TOOLCHAINS for pattern in chain.artifacts), *LEFT_BEHIND]
    globs = [f":(glob)**/{maker}" for _, makers in BUILD_FOLDERS for maker in makers]
    names = {path.rpartition("/")[2] for path in split_paths(git.run("ls-files", "-z", "--", *globs))}
    for folder, makers in BUILD_FOLDERS:
        if any(fnmatchcase(name, maker) for name in names for maker in makers):
            patterns.append(folder)
    if _tracked(git, patterns):
        patterns = [pattern for pattern in patterns if not _tracked(git, [pattern])]
    return "\n".join(patterns).encode() + b"\n" + template.ignored + b"\n"


def _commit_date(commit: bytes) -> int:
    found = re.search(rb"^committer .*> (\d+) [-+]\d+$", commit, re.MULTILINE)
    return int(found[1]) if found else 0


def _tracked(git: Git, patterns: Sequence[str]) -> bool:
    return bool(git.run("ls-files", "-z", "--cached", "--ignored", *(f"--exclude={pattern}" for pattern in patterns)))


def _core_settings(repository: Repository) -> dict[str, str]:
    """Return the user's settings of `core`, their names in lower case, `~/` expanded; a name without value is true."""
    git = Git(repository.git_dir, repository.root, user_config=True)
    output = git.ask("config", "-z", "--type=path", "--show-scope", "--get-regexp", r"^core\.").output
    fields = [os.fsdecode(field) for field in output.split(b"\0")]
    # What miyabi itself says comes last, as a command's.
    own = [entry for scope, entry in zip(fields[::2], fields[1::2], strict=False) if scope != "command"]
    parts = [entry.partition("\n") for entry in own]
    return {key.lower().removeprefix("core."): value if line else "true" for key, line, value in parts}


def _config(settings: Mapping[str, str], object_format: str) -> str:
    values = {key: settings[key] for key in COPIED_SETTINGS if re.fullmatch(r"[\w-]+", settings.get(key, ""))}
    version = 0 if object_format == "sha1" else 1
    fixed = {
        "repositoryformatversion": str(version),
        "bare": "false",
        "logallrefupdates": "false",
        "safecrlf": "false",
        "hookspath": os.devnull,
        "fsmonitor": "false",
    }
    lines = [f"\t{key} = {value}" for key, value in (fixed | values).items()]
    text = "\n".join(["[core]", *lines, "[gc]", "\tauto = 0", "[maintenance]", "\tauto = false", ""])
    return text if version == 0 else f"{text}[extensions]\n\tobjectFormat = {object_format}\n"


def _hooks(settings: Mapping[str, str], root: Path) -> str:
    folder = Path(os.path.normpath(root / settings.get("hookspath", "")))
    return str(folder.relative_to(root)) if folder != root and folder.is_relative_to(root) else ""


def _user_file(settings: Mapping[str, str], key: str, default: str) -> bytes:
    if key in settings:
        return _content(Path(settings[key]))
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 (Path fails without HOME)
    return _content(Path(home) / "git" / default)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
