"""Applies a patch to the files of a tree: all of it or nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches

from miyabi_cli.errors import MiyabiError, PatchConflict
from miyabi_cli.workspace.patch_matching import change_text
from miyabi_cli.workspace.patch_parsing import FileChange, Hunk, parse_patch
from miyabi_cli.workspace.paths import PathRefused, Root

__all__ = ["FileChange", "Hunk", "PatchSummary", "apply_patch", "is_binary", "near_names", "parse_patch"]


@dataclass(frozen=True, slots=True)
class PatchSummary:
    """The paths that a patch changed, relative to the root; `moved` holds (old, new), which are in no other tuple."""

    created: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them, sorted."""
        moved = (path for pair in self.moved for path in pair)
        return tuple(sorted({*self.created, *self.modified, *self.deleted, *moved}))


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    mode: int | None = None


@dataclass(slots=True)
class _Plan:
    """What the files are and what they shall be; None: there is no such file."""

    root: Root
    folder: str = ""
    before: dict[str, _File | None] = field(default_factory=dict)
    after: dict[str, _File | None] = field(default_factory=dict)
    moves: list[tuple[str, str]] = field(default_factory=list)

    def path(self, path: str) -> str:
        joined = path if path.startswith("/") or not self.folder else f"{self.folder}/{path}"
        return str(self.root.relative(joined))

    def file(self, path: str) -> _File | None:
        if path not in self.after:
            self.before[path] = self.after[path] = self._load(path)
        return self.after[path]

    def _load(self, path: str) -> _File | None:
        status = self.root.status(path)
        if status is None:
            return None
        if status.kind == "link":
            raise PatchConflict(f"{path} is a symbolic link", hint="change the file that it points to by its own path")
        return _File(self.root.read(path), status.mode)

    def existing(self, path: str) -> _File:
        file = self.file(path)
        if file is None:
            names = near_names(self.root, path)
            near = f"near it: {', '.join(names)}; " if names else ""
            raise PatchConflict(f"{path} does not exist", hint=f"{near}a new file needs `*** Add File: {path}`")
        return file

    def changed(self) -> dict[str, _File | None]:
        return {path: file for path, file in self.after.items() if file != self.before[path]}


def apply_patch(text: str, root: Root, *, folder: str = "") -> PatchSummary:
    """Apply a patch to the files beneath `root`; its relative paths are taken from `folder`.

    Everything is worked out in memory before the first file is written, and what was written is put back if a later
    file can't be. Raises PatchConflict, whose hint shows the model the lines that are there, and MachineError where
    the disk refused.
    """
    plan = _Plan(root, folder)
    try:
        for change in parse_patch(text):
            _plan(plan, change)
        _write(root, plan)
    except PathRefused as error:
        raise PatchConflict(error.message, hint=error.hint) from None
    return _summary(plan)


def is_binary(data: bytes) -> bool:
    """Say whether data is no text, as git does: by a NUL in its first 8,000 bytes."""
    return b"\0" in data[:8000]


def near_names(root: Root, path: str) -> list[str]:
    """Return paths of files with names like `path`'s in its folder: what a model may have meant."""
    parent, _, name = path.rpartition("/")
    with suppress(MiyabiError):
        names = get_close_matches(name, [entry.name for entry in root.list(parent)], 3)
        return [f"{parent}/{near}".lstrip("/") for near in names]
    return []


def _plan(plan: _Plan, change: FileChange) -> None:
    path = plan.path(change.path)
    if change.kind == "add":
        _plan_addition(plan, path, _encoded(change.content, path))
    elif change.kind == "delete":
        plan.existing(path)
        plan.after[path] = None
    else:
        file = plan.existing(path)
        changed = _File(_changed(file.data, change, path), file.mode)
        target = plan.path(change.moved_to) if change.moved_to else path
        if target != path:
            if plan.file(target) is not None:
                raise PatchConflict(f"{path} can't be moved to {target}: that exists", hint="delete it first")
            plan.after[path] = None
            plan.moves.append((path, target))
        plan.after[target] = changed


def _plan_addition(plan: _Plan, path: str, data: bytes) -> None:
    file = plan.file(path)
    if file is not None and file.data != data:
        raise PatchConflict(
            f"{path} exists already",
            hint="change it by `*** Update File:`; to write it anew, put `*** Delete File:` of it before",
        )
    if file is None:
        plan.after[path] = _File(data)


def _changed(data: bytes, change: FileChange, path: str) -> bytes:
    if is_binary(data):
        raise PatchConflict(f"{path} is a binary file")
    # Bytes that are no UTF-8 come back as they were.
    return _encoded(change_text(data.decode("utf-8", "surrogateescape"), change), path)


def _encoded(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise PatchConflict(f"the patch has half a character (a lone surrogate) for {path}") from None


def _write(root: Root, plan: _Plan) -> None:
    done: list[str] = []
    changes = sorted(plan.changed().items(), key=lambda item: item[1] is None)  # deletions last
    try:
        for path, file in changes:
            done.append(path)
            _put(root, path, file)
    except BaseException:
        for path in reversed(done):
            with suppress(MiyabiError):
                _put(root, path, plan.before[path])
        raise


def _put(root: Root, path: str, file: _File | None) -> None:
    if file is None:
        root.delete(path)
    else:
        root.write(path, file.data, file.mode)


def _summary(plan: _Plan) -> PatchSummary:
    changed = plan.changed()
    moved = [(old, new) for old, new in plan.moves if old in changed and changed[old] is None and changed.get(new)]
    rest = [path for path in sorted(changed) if not any(path in pair for pair in moved)]
    return PatchSummary(
        created=tuple(path for path in rest if plan.before[path] is None),
        modified=tuple(path for path in rest if plan.before[path] and changed[path]),
        deleted=tuple(path for path in rest if changed[path] is None),
        moved=tuple(sorted(moved)),
    )
