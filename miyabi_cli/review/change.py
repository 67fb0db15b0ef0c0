"""The change that is reviewed: its two trees, its files and their lines; plain frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from miyabi_cli.workspace.diffs import DiffHunk, DiffLine

FileStatus = Literal["created", "modified", "deleted", "renamed"]


@dataclass(frozen=True)
class ChangedFile:
    """One file. `path` is its name after the change, or before it where it is deleted; `old_path` that before it.

    `text` is the file after the change, with its line ends as they are and bytes that are no UTF-8 as lone surrogates
    (PEP 383); None where it is not known (a diff without its repository) or there is none. `skipped` says why nobody
    looks at it, "" where all do; such a file may have no hunks. `executable`: the change makes it so.
    """

    path: str
    old_path: str
    status: FileStatus
    hunks: tuple[DiffHunk, ...] = ()
    text: str | None = None
    skipped: str = ""
    executable: bool = False

    @cached_property
    def added(self) -> Mapping[int, str]:
        """The lines that come, by their number in the file after the change; without their ends."""
        return {line.new: line.text for hunk in self.hunks for line in hunk.lines if line.kind == "+" and line.new}

    @cached_property
    def shown(self) -> Mapping[int, str]:
        """All lines of the hunks that are there after the change, also those around what comes, by their number."""
        return {line.new: line.text for hunk in self.hunks for line in hunk.lines if line.new}

    @cached_property
    def lines(self) -> Mapping[int, str]:
        """The lines of the file after the change by number, as far as they are known: all of them, or the hunks'."""
        if self.text is None:
            return self.shown
        return dict(enumerate(self.text.split("\n"), start=1))

    @property
    def removed(self) -> Iterator[DiffLine]:
        """The lines that go."""
        return (line for hunk in self.hunks for line in hunk.lines if line.kind == "-")


@dataclass(frozen=True)
class Change:
    """What is reviewed. `base_tree` and `head_tree` are ids of git's trees, None where a diff came without them.

    `what` names the change for a person ("the staged changes", "main...feature"). `untrusted`: somebody else wrote it,
    so that nothing of it configures a tool. `pull_request` is its number at GitHub and `head_commit` the commit that
    comments are put on; `title` and `body` are its author's words, of a pull request or of a commit.
    """

    what: str
    files: tuple[ChangedFile, ...]
    base_tree: str | None = None
    head_tree: str | None = None
    untrusted: bool = False
    pull_request: int | None = None
    head_commit: str | None = None
    title: str = ""
    body: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def reviewed(self) -> tuple[ChangedFile, ...]:
        """The files to look at; a deleted one has only lines that go."""
        return tuple(file for file in self.files if not file.skipped)

    @cached_property
    def by_path(self) -> Mapping[str, ChangedFile]:
        """The files to look at by their path after the change."""
        return {file.path: file for file in self.reviewed}
