"""Limits of processes by cgroups: the choice of a folder on laid-out trees, the limit on the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from miyabi_cli.workspace.cgroups import limited_group, pids_folder
from miyabi_cli.workspace.processes import Limits


def lay_out(mount: Path, own: str, handing_down: tuple[str, ...] = ()) -> Path:
    for folder in ("system.slice/a.service", "user.slice/session.scope", "pids/own"):
        (mount / folder).mkdir(parents=True)
        (mount / folder / "cgroup.subtree_control").write_text("\n")
    for folder in handing_down:
        (mount / folder / "cgroup.subtree_control").write_text("cpu pids\n")
    (mount / "own").write_text(own)
    return mount / "own"


@pytest.fixture(autouse=True)
def fresh() -> None:
    pids_folder.cache_clear()


def chosen(mount: Path, own: Path) -> Path | None:
    """The choice, on folders in which making one needs no kernel; what was tried is taken away."""
    try:
        return pids_folder(mount, own)
    except OSError as error:  # an ordinary folder is not empty after the trial, as a cgroup's would be
        return Path(error.filename).parent
    finally:
        pids_folder.cache_clear()


def test_the_group_that_version_1_put_us_in_is_taken(tmp_path: Path) -> None:
    own = lay_out(tmp_path, "9:name=systemd:/x\n8:cpu,pids:/own\n")
    assert chosen(tmp_path, own) == tmp_path / "pids/own"


def test_of_version_2_the_nearest_that_hands_the_controller_down_is(tmp_path: Path) -> None:
    own = lay_out(tmp_path, "0::/system.slice/a.service\n", ("system.slice", "user.slice"))
    assert chosen(tmp_path, own) == tmp_path / "system.slice"


@pytest.mark.parametrize("own", ["", "0::/system.slice/a.service\n", "3:memory:/x\n", "8:pids:/gone\n"])
def test_where_there_is_none_there_is_none(tmp_path: Path, own: str) -> None:
    assert chosen(tmp_path, lay_out(tmp_path, own)) is None
    assert chosen(tmp_path, tmp_path / "missing") is None


def test_without_a_folder_there_is_no_limit(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "gone"):
        with limited_group(Limits(processes=5), folder) as joining:
            assert joining == ()


def test_memory_is_limited_where_its_controller_is_handed_down(tmp_path: Path) -> None:
    """On folders laid out as version 2 has them: in those of the kernel a group comes with its files."""
    for memory, written in ((1 << 30, str(1 << 30)), (None, "max")):
        with limited_group(Limits(processes=5, memory_bytes=memory), laid_out_group(tmp_path / written)) as joining:
            group = Path(joining[-1]).parent
            assert (group / "memory.max").read_text() == written
            assert (group / "memory.oom.group").read_text() == "1"


def laid_out_group(folder: Path) -> Path:
    """Have a used group lie ready, with the files of both controllers."""
    folder.mkdir()
    with limited_group(Limits(), folder) as joining:
        for name in ("memory.max", "memory.oom.group"):
            (Path(joining[-1]).parent / name).touch()
    return folder


def test_a_command_that_can_not_join_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "groups"
    folder.mkdir()
    with limited_group(Limits(processes=5), folder) as joining:
        shutil.rmtree(joining[-1].rpartition("/")[0])
        ended = subprocess.run([*joining, "touch", tmp_path / "ran"], capture_output=True)
    assert ended.returncode != 0
    assert not (tmp_path / "ran").exists()


def test_the_limit_holds_for_all_that_a_command_starts() -> None:
    folder = pids_folder() if os.geteuid() == 0 else None
    if folder is None or not shutil.which("dash"):
        pytest.skip("no cgroup of processes can be made here, or no shell that gives up at once")
    for _ in range(2):  # the second takes the first's group
        with limited_group(Limits(processes=5), folder) as joining:
            script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all"
            ended = subprocess.run([*joining, "dash", "-c", script], stdout=PIPE, stderr=STDOUT, text=True, timeout=60)
            assert ended.returncode != 0
            assert "fork" in ended.stdout
            assert "all" not in ended.stdout
            while Path(joining[-1]).read_text():
                time.sleep(0.05)
