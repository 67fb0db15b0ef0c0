"""Disks with no room: fault F16, through the real CLI."""

from __future__ import annotations

import json

import pytest

from tests.support.faults import run_on_small_disk
from tests.support.scripts import FIXING, arguments
from tests.support.server import call, chat_server
from tests.support.users import User, changes


def test_f16_a_full_disk_below_the_repository_leaves_every_file_as_it_was(user: User) -> None:
    small, saved = user.home.parent / "small", user.home.parent / "saved"
    user.shell(f"mkdir {small}")
    script = f"""
cp -a {user.repository}/. {small}/ && cd {small} && head -c 100000000 /dev/zero >.git/filler 2>/dev/null
truncate -s -65536 .git/filler
for way in "--apply" "--branch mine"; do
    {user.python} -m miyabi_cli codegen "Fix add" --endpoint $URL --model m --no-checks --sandbox off $way
    echo "exit $?"
done
rm .git/filler; git fsck --strict --no-dangling && git branch && git status --porcelain; cp -a . {saved}
"""
    big = call("exec", {"cmd": "head -c 300000 /dev/urandom >big.bin; head -c 300 /dev/urandom >a.bin"})
    turns = [big, *FIXING]
    with chat_server(*turns, *turns) as server:
        ran = run_on_small_disk(user, small, 4_000_000, script, URL=server.url)
    assert [line for line in ran.stdout.splitlines() if line.startswith("exit")] == ["exit 4", "exit 4"], ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout.splitlines()[-1].strip() == "* main", ran.stdout
    assert "a - b" in (saved / "calc.py").read_text()
    assert not (saved / "big.bin").exists()
    kept = [folder / "patch.diff" for folder in user.run_folders()]
    assert [b"+    return a + b" in path.read_bytes() for path in kept] == [True, True]


def test_f16_a_program_that_writes_in_place_loses_the_old_file(user: User) -> None:
    """That the disk is full, and what becomes of a file there that is not written whole."""
    small = user.home.parent / "small"
    user.shell(f"mkdir {small}")
    script = f"""
cd {small} && head -c 50000 /dev/zero >calc.py && head -c 100000000 /dev/zero >filler 2>/dev/null
head -c 200000 /dev/urandom >calc.py; wc -c <calc.py
"""
    assert int(run_on_small_disk(user, small, 300_000, script).stdout) < 200_000


@pytest.mark.parametrize("place", ["data", "cache"])
def test_f16_a_full_disk_below_miyabi_s_own_folders_is_the_machine_s_error(user: User, place: str) -> None:
    full = user.home / place
    user.shell(f"mkdir {full}")
    before = user.snapshot()
    with chat_server(*FIXING) as server:
        given = " ".join(arguments(server, "--sandbox", "off", task="Fix"))
        script = f"head -c 100000000 /dev/zero >{full}/filler 2>/dev/null; cd {user.repository}\n"
        ran = run_on_small_disk(user, full, 300_000, f"{script}{user.python} -m miyabi_cli {given}")
    error = json.loads(ran.stdout)["error"]
    assert (ran.code, error["exit_code"], "Traceback" in ran.stderr) == (4, 4, False), ran.stderr
    assert "no space left on" in error["message"].lower()
    assert (changes(before, user.snapshot()), user.branches()) == (set(), [])
