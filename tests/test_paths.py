"""The paths that a model may name, and the files behind them."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.beneath import Opener, best_opener, open_by_kernel, open_by_steps
from miyabi_cli.workspace.paths import PathMissing, PathRefused, Root, is_dot_git
from tests.support.disks import largest_file


@pytest.fixture(params=[open_by_kernel, open_by_steps], ids=["kernel", "steps"])
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param is open_by_kernel and best_opener() is not open_by_kernel:
        pytest.skip("this kernel has no openat2")
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def root(tmp_path: Path, opener: Opener) -> Root:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "secret").write_text("secret")
    return Root(tree, (Path("/testbed"),), opener=opener)


def exchange(one: Path, other: Path) -> None:
    """Let two names change places in one step (renameat2 with RENAME_EXCHANGE)."""
    here, swapped = -100, 2
    assert ctypes.CDLL(None).renameat2(here, os.fsencode(one), here, os.fsencode(other), swapped) == 0


@pytest.mark.parametrize(
    ("path", "relative"),
    [
        ("a.py", "a.py"),
        ("./a//b/./c.py", "a/b/c.py"),
        ("", "."),
        (".", "."),
        ("/testbed/a/b.py", "a/b.py"),
        ("//testbed/a", "a"),
        ("/testbed", "."),
        ("a/..b/...", "a/..b/..."),
        (".gitignore", ".gitignore"),
        (".github/x.yml", ".github/x.yml"),
        ("git/x", "git/x"),
        ("-rf", "-rf"),
    ],
)
def test_relative(root: Root, path: str, relative: str) -> None:
    assert root.relative(path) == PurePosixPath(relative)


def test_relative_of_the_roots_own_path(root: Root) -> None:
    assert root.relative(str(root.path / "a.py")) == PurePosixPath("a.py")


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "a/../b",
        "/etc/passwd",
        "/proc/self/environ",
        "/testbed/../etc/passwd",
        "/testbedding/a",
        "a\x00b",
        "a\nb",
        "\ud800",
        ".git",
        ".git/config",
        "sub/.git/hooks/pre-commit",
        ".GIT/config",
        ".Git ",
        ".git.",
        ".git . .",
        ".git::$INDEX_ALLOCATION",
        "git~1/config",
        "GIT~1",
        ".g\u200cit/config",
        "\ufeff.git",
        "a\\.git\\config",
        "x" * 256,
        "é" * 128,
        "a/" * 2100 + "a",
    ],
)
def test_refused_paths(root: Root, path: str) -> None:
    with pytest.raises(PathRefused):
        root.relative(path)
    with pytest.raises(PathRefused):
        root.write(path, b"")


@settings(deadline=None)
@given(st.text())
def test_relative_is_safe_for_any_text(text: str) -> None:
    root = Root(Path("/somewhere/tree"), (Path("/testbed"),))
    try:
        relative = root.relative(text)
    except PathRefused:
        return
    assert not relative.is_absolute()
    assert ".." not in relative.parts
    assert not any(is_dot_git(part) for part in relative.parts)
    assert "\0" not in str(relative)
    assert root.relative(str(relative)) == relative


@settings(deadline=None)
@given(st.text(alphabet=".gGiItT~1 :\\/\u200c\u206f\ufeffa", max_size=12))
def test_dot_git_is_found_behind_any_disguise(name: str) -> None:
    stripped = "".join(character for character in name if character not in "\u200c\u206f\ufeff").lower()
    first = stripped.split("\\")[0].split(":")[0].rstrip(" .")
    if first in (".git", "git~1"):
        assert is_dot_git(name)


def test_read_and_write(root: Root) -> None:
    root.write("new/deep/a.txt", b"one\n")
    assert root.read("new/deep/a.txt") == b"one\n"
    root.write("/testbed/new/deep/a.txt", b"two\n")
    assert (root.path / "new/deep/a.txt").read_bytes() == b"two\n"
    assert [entry.name for entry in root.list("new/deep")] == ["a.txt"]
    assert root.exists("new/deep/a.txt")
    root.delete("new/deep/a.txt")
    assert not root.exists("new/deep/a.txt")
    assert not root.exists("new/none/a.txt")


def test_write_keeps_the_mode(root: Root) -> None:
    script = root.path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    root.write("run.sh", b"#!/bin/sh\nexit 1\n")
    status = root.status("run.sh")
    assert status is not None
    assert status.mode == 0o755
    root.write("run.sh", b"", mode=0o600)
    assert script.stat().st_mode & 0o7777 == 0o600


def test_write_leaves_hard_links_alone(root: Root, tmp_path: Path) -> None:
    os.link(tmp_path / "secret", root.path / "linked")
    root.write("linked", b"changed")
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_failed_write_leaves_the_old_file(root: Root) -> None:
    root.write("a", b"old")
    with largest_file(1000), pytest.raises(MachineError, match="can't write a"):
        root.write("a", b"x" * 5000)
    assert root.read("a") == b"old"
    assert [entry.name for entry in root.list()] == ["a"]


def test_missing(root: Root) -> None:
    for path in ("none", "none/deeper"):
        with pytest.raises(PathMissing):
            root.read(path)
        with pytest.raises(PathMissing):
            root.delete(path)
        assert root.status(path) is None


def test_a_file_used_as_a_directory(root: Root) -> None:
    root.write("a", b"")
    for refused in (root.read, root.list, root.delete, lambda path: root.write(path, b"")):
        with pytest.raises(PathRefused, match="not a directory"):
            refused("a/b")


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "/proc/self/environ", "/proc/self/root/etc/passwd"])
def test_links_that_lead_out(root: Root, target: str) -> None:
    (root.path / "link").symlink_to(target)
    with pytest.raises(PathRefused, match="symbolic link"):
        root.read("link")
    with pytest.raises(PathRefused, match="symbolic link"):
        root.write("link", b"")
    with pytest.raises(PathRefused, match="symbolic link"):
        root.delete("link")


def test_linked_directories_that_lead_out(root: Root, tmp_path: Path) -> None:
    (root.path / "out").symlink_to(tmp_path)
    for refused in (root.read, root.delete, root.status, lambda path: root.write(path, b"")):
        with pytest.raises(PathRefused, match=r"out -> "):
            refused("out/secret")
    with pytest.raises(PathRefused):
        root.list("out")
    assert (tmp_path / "secret").read_text() == "secret"


def test_links_that_stay_are_read_and_not_written(root: Root, opener: Opener) -> None:
    root.write("real/a.txt", b"real")
    (root.path / "file").symlink_to("real/a.txt")
    (root.path / "folder").symlink_to("real")
    if opener is open_by_kernel:
        assert root.read("file") == b"real"
        assert root.read("folder/a.txt") == b"real"
        assert [entry.name for entry in root.list("folder")] == ["a.txt"]
    else:
        with pytest.raises(PathRefused, match="symbolic link"):
            root.read("folder/a.txt")
    for path in ("file", "folder/a.txt"):
        with pytest.raises(PathRefused, match="real"):
            root.write(path, b"changed")
    assert root.read("real/a.txt") == b"real"


def test_links_into_dot_git(root: Root) -> None:
    (root.path / ".git").mkdir()
    (root.path / ".git/config").write_text("token")
    (root.path / "innocent").symlink_to(".git")
    (root.path / "file").symlink_to(".git/config")
    for path in ("innocent/config", "file"):
        with pytest.raises(PathRefused):
            root.read(path)
        with pytest.raises(PathRefused):
            root.write(path, b"")
    assert (root.path / ".git/config").read_text() == "token"
    assert [entry.name for entry in root.list()] == ["file", "innocent"]


def test_what_is_not_a_file(root: Root) -> None:
    os.mkfifo(root.path / "fifo")
    (root.path / "folder").mkdir()
    (root.path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root.path / "socket"))
        for name in ("fifo", "folder", "loop", "socket", ""):
            with pytest.raises(PathRefused):
                root.read(name)
            with pytest.raises(PathRefused):
                root.write(name, b"")
    kinds = {entry.name: entry.kind for entry in root.list()}
    assert kinds == {"fifo": "other", "folder": "directory", "loop": "link", "socket": "other"}


def test_a_sparse_file_of_a_tebibyte(root: Root) -> None:
    with (root.path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PathRefused, match="1,099,511,627,776 bytes"):
        root.read("sparse")


def test_read_limit(root: Root) -> None:
    root.write("a", b"12345")
    assert root.read("a", limit=5) == b"12345"
    with pytest.raises(PathRefused, match="the most that is read is 4"):
        root.read("a", limit=4)


def test_a_root_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="can't open"):
        Root(tmp_path / "gone").read("a")


def test_swap_race(root: Root, tmp_path: Path) -> None:
    """A directory that turns into a link to the outside and back is never followed (A15)."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside")
    folder, link = root.path / "folder", root.path / "link"
    folder.mkdir()
    (folder / "file").write_bytes(b"inside")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(folder, link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes: dict[str, int] = {}
    try:
        for number in range(4000):
            try:
                if number % 2:
                    outcome = root.read("folder/file").decode()
                else:
                    root.write("folder/file", b"inside")
                    outcome = "written"
            except (PathRefused, MachineError) as error:
                outcome = error.kind
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    finally:
        stop.set()
        swapper.join()
    assert set(outcomes) <= {"inside", "written", "path_refused"}
    assert (outside / "file").read_bytes() == b"outside"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert outcomes["inside"] > 0
    assert outcomes["written"] > 0
