"""git hooks that review what is committed or pushed, beside a hook that is there already, and gone without a trace."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.repository import Repository

HookName = Literal["pre-commit", "pre-push"]

MARK = "# A hook of miyabi's:"
KEPT = ".before-miyabi"  # the hook that was there: it runs first
_LARGEST = 1_000_000  # bytes of a hook


@dataclass(frozen=True, slots=True)
class Hook:
    """What was done. `kept` is the hook that was there before, and runs first; `changed` is False where all was so
    already; `shared`: the folder is not this repository's alone."""

    path: Path
    kept: Path | None
    changed: bool
    shared: bool


def install_hook(repository: Repository, name: HookName) -> Hook:
    """Write a hook where git looks for it (`core.hooksPath`). Raises MachineError."""
    path, shared = _place(repository, name)
    kept = path.with_name(path.name + KEPT)
    text = _text(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_ours(path):
            changed = path.read_text() != text
        else:
            changed = True
            if os.path.lexists(path):
                if os.path.lexists(kept) and not _is_same(path, kept):
                    hint = f"it is from an earlier hook of miyabi's: move {kept.name} or {path.name} away"
                    raise UsageError(f"{kept} is there already", hint=hint)
                path.replace(kept)
        if changed:
            path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None
    return Hook(path, kept if os.path.lexists(kept) else None, changed, shared)


def remove_hook(repository: Repository, name: HookName) -> Hook:
    """Take a hook of miyabi's away, and put back what was there before. Raises UsageError where there is none."""
    path, shared = _place(repository, name)
    kept = path.with_name(path.name + KEPT)
    try:
        if not _is_ours(path):
            raise UsageError(f"{path} is no hook of miyabi's", hint="there is nothing to remove")
        if os.path.lexists(kept):
            kept.replace(path)
            return Hook(path, path, changed=True, shared=shared)
        path.unlink()
    except OSError as error:
        raise MachineError(f"can't change {path}: {error.strerror}") from None
    return Hook(path, None, changed=True, shared=shared)


def _place(repository: Repository, name: HookName) -> tuple[Path, bool]:
    """Return where git looks for a hook, and whether other repositories' commits meet it there, too."""
    git = Git(repository.git_dir, repository.root, user_config=True)
    answer = git.ask("config", "-z", "--type=path", "--show-scope", "--get-all", "core.hooksPath")
    fields = [os.fsdecode(field) for field in answer.output.split(b"\0") if field]
    # what miyabi itself says to git comes last, as a command's
    own = [value for scope, value in zip(fields[::2], fields[1::2], strict=False) if scope != "command"]
    folder = repository.root / own[-1] if own else repository.common_dir / "hooks"
    inside = folder.resolve().is_relative_to(repository.root.resolve())
    return folder / name, bool(own) and not inside


def _is_ours(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size < _LARGEST and MARK in path.read_text(errors="replace")
    except OSError:
        return False


def _is_same(path: Path, kept: Path) -> bool:
    """Say whether a hook is the one that is kept: husky, say, writes its own anew."""
    return path.is_file() and kept.is_file() and path.read_bytes() == kept.read_bytes()


def _text(name: HookName) -> str:
    """Return a hook's script: it finds miyabi on PATH, else where it is installed now."""
    template = resources.files("miyabi_cli.init").joinpath(f"{name}.sh").read_text("utf-8")
    return template.replace("@PYTHON@", shlex.quote(sys.executable)).replace("@KEPT@", KEPT)
