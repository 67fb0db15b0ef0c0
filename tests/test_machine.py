"""What a machine is said to have, from made-up /proc and /sys trees of both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miyabi_cli.llm.local.machine import available_memory, default_threads, usable_processors
from tests.support.trees import write_tree

MIB = 1024**2


def test_without_limits_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_processors(root=tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("quota", ["100000 100000", "150000 100000", "50000 100000"])
def test_a_quota_of_version_2_caps_the_processors(tmp_path: Path, quota: str) -> None:
    write_tree(tmp_path, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": quota})
    assert usable_processors(root=tmp_path) == 1


def test_a_quota_of_version_1_caps_the_processors(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/x"
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/x\n1:name=systemd:/\n",
            f"{group}/cpu.cfs_quota_us": "100000",
            f"{group}/cpu.cfs_period_us": "100000",
        },
    )
    assert usable_processors(root=tmp_path) == 1


def test_no_quota_caps_nothing(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu:/x\n0::/\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu.max": "max 100000",
        },
    )
    assert usable_processors(root=tmp_path) == len(os.sched_getaffinity(0))


def test_threads_are_never_more_than_processors() -> None:
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))


def test_nothing_known_of_memory_is_none(tmp_path: Path) -> None:
    assert available_memory(root=tmp_path) is None


def test_the_systems_memory_counts_without_a_limit(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 8000 kB\nMemAvailable:    4096 kB\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "max",
            "sys/fs/cgroup/memory.current": "1",
        },
    )
    assert available_memory(root=tmp_path) == 4096 * 1024


def test_the_tightest_limit_of_version_2_counts_without_its_page_cache(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 4096000 kB\n",
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/inner/memory.max": "max",
            "sys/fs/cgroup/outer/inner/memory.current": "0",
            "sys/fs/cgroup/outer/memory.max": str(100 * MIB),
            "sys/fs/cgroup/outer/memory.current": str(90 * MIB),
            "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {30 * MIB}\n",
        },
    )
    assert available_memory(root=tmp_path) == 40 * MIB


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/x"
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/x\n",
            f"{group}/memory.limit_in_bytes": str(100 * MIB),
            f"{group}/memory.usage_in_bytes": str(120 * MIB),
        },
    )
    assert available_memory(root=tmp_path) == 0


def test_this_machine_has_some_memory() -> None:
    memory = available_memory()
    assert memory is not None
    assert memory > MIB
