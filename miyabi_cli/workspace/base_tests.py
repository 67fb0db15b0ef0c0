"""The tree that a patch is judged by once more: its code, with the base's tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.staging import with_paths_of
from miyabi_cli.workspace.toolchains import may_hold_tests, with_base_inline_tests
from miyabi_cli.workspace.trees import LINK, SUBMODULE, Entry, FileChange, edit_tree, read_blobs
from miyabi_cli.workspace.workspaces import Workspace


def with_base_tests(
    workspace: Workspace, tree: str, base: str, files: Sequence[FileChange], tests: Sequence[str]
) -> str:
    """Return the id of a tree that is `tree`, but with the paths `tests` as they are in the commit `base`.

    Of `files`, what the patch changed, those that hold tests beside their code get the base's too. Where the patch
    touches no test the id is that of `tree`.
    """
    if tests:
        tree = with_paths_of(workspace, tree, base, tests)
    git = Git(workspace.git_dir)
    changed = [file for file in files if file.status == "modified" and file.new_mode not in (LINK, SUBMODULE)]
    mixed = [file for file in changed if file.path not in tests and may_hold_tests(file.path)]
    entries = list(_with_inline_tests(git, mixed))
    return edit_tree(git, tree, entries) if entries else tree


def _with_inline_tests(git: Git, files: Sequence[FileChange]) -> Iterator[Entry]:
    before = read_blobs(git, [file.old_id for file in files])
    after = read_blobs(git, [file.new_id for file in files])
    for file, old, new in zip(files, before, after, strict=True):
        texts = [content.decode("utf-8", "surrogateescape") for content in (old, new)]
        merged = with_base_inline_tests(file.path, *texts)
        if merged is not None:
            content = merged.encode("utf-8", "surrogateescape")
            object_id = git.run("hash-object", "-w", "--stdin", input=content).decode().strip()
            yield Entry(file.path, file.new_mode, object_id)
