"""Which changed files nobody looks at, and why: generated and vendored ones, by .gitattributes, name or first lines."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.workspace.git import Git, joined_lines

GENERATED, VENDORED = "generated", "vendored"
LEADS_OUT = "its path leads out of the repository"
_ATTRIBUTES = {"linguist-generated": GENERATED, "linguist-vendored": VENDORED}
_VENDORED_FOLDERS = {"vendor", "node_modules", "third_party", "bower_components", "site-packages", "Godeps"}
_GENERATED_NAMES = (
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "deno.lock"),
    *("poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "Cargo.lock", "go.sum", "composer.lock", "Gemfile.lock"),
    *("flake.lock", "*.min.js", "*.min.css", "*.js.map", "*.css.map", "*.snap"),
    *("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*.pb.go", "*.pb.cc", "*.pb.h", "*.g.dart", "*.designer.cs"),
)
# What generators put into the first lines: go.dev/s/generatedcode, and `@generated` as many others do.
_MARK = re.compile(r"^.{0,20}(?:@generated\b|Code generated .{1,200} DO NOT EDIT)", re.MULTILINE | re.IGNORECASE)
_HEAD = 2_000  # characters


def path_problem(path: str) -> str:
    """Return why a path can't be one of a repository's, "" where it can; a diff may name anything."""
    parts = path.split("/")
    if path.startswith("/") or not all(parts) or any(part in (".", "..") or part.lower() == ".git" for part in parts):
        return LEADS_OUT
    return "its path holds a NUL" if "\0" in path else ""


def name_reason(path: str, told: str | None = None) -> str:
    """Return why a file of that name is not reviewed, "" where it is.

    `told` is what .gitattributes say of it: `generated`, `vendored`, "" for neither of them, None for nothing.
    """
    if told is not None:
        return f"{told} (.gitattributes)" if told else ""
    *folders, name = path.split("/")
    if _VENDORED_FOLDERS.intersection(folders):
        return VENDORED
    return GENERATED if any(fnmatchcase(name, pattern) for pattern in _GENERATED_NAMES) else ""


def says_generated(text: str) -> bool:
    """Say whether a file's first lines say that a program wrote it."""
    return bool(_MARK.search(text[:_HEAD]))


def attributes_of(git: Git, tree: str, paths: Sequence[str]) -> Mapping[str, str]:
    """Return what the .gitattributes of a tree (an id) tell of paths, as `name_reason` takes it; most tell nothing."""
    if not paths or not _has_attributes(git, tree):
        return {}
    with tempfile.TemporaryDirectory(prefix="miyabi-") as folder:
        private = replace(git, index=Path(folder) / "index")
        private.run("read-tree", tree)
        output = private.run("check-attr", "--cached", "-z", "--stdin", *_ATTRIBUTES, input=joined_lines(paths))
    fields = [os.fsdecode(field) for field in output.split(b"\0")]
    told: dict[str, str] = {}
    for path, name, value in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if value in ("set", "true"):
            told[path] = _ATTRIBUTES[name]
        elif value in ("unset", "false"):
            told.setdefault(path, "")
    return told


def _has_attributes(git: Git, tree: str) -> bool:
    names = git.run("ls-tree", "-r", "-z", "--name-only", tree).split(b"\0")
    return any(name.rpartition(b"/")[2] == b".gitattributes" for name in names)
