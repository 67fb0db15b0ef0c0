"""Children: their ends, their output, their limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.workspace.processes import Limits, Outcome, run_process
from miyabi_cli.workspace.watch import is_running

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def run(argv: Sequence[str], **options: Any) -> Outcome:
    values: dict[str, Any] = {"cwd": Path("/"), "environment": ENVIRONMENT, "limits": Limits(seconds=30), **options}
    return asyncio.run(run_process(argv, **values))


def shell(script: str, **options: Any) -> Outcome:
    return run(["bash", "-c", script], **options)


def wait_for(path: Path) -> str:
    for _ in range(1000):
        with contextlib.suppress(OSError):
            if text := path.read_text():
                return text
        time.sleep(0.01)
    pytest.fail(f"{path} was not written")


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nosuch", 127)],
)
def test_exit_codes_are_those_of_a_shell(script: str, code: int) -> None:
    assert shell(script).exit_code == code


def test_a_missing_program_is_an_outcome() -> None:
    outcome = run(["/nosuch/program"])
    assert (outcome.exit_code, outcome.output) == (127, "/nosuch/program: No such file or directory\n")


def test_a_program_that_may_not_run_is_an_outcome(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    assert run([str(tmp_path / "plain")]).exit_code == 126


def test_a_folder_that_is_not_there_is_an_outcome(tmp_path: Path) -> None:
    outcome = run(["true"], cwd=tmp_path / "gone")
    assert (outcome.exit_code, outcome.output) == (127, f"{tmp_path}/gone: No such file or directory\n")


@pytest.mark.parametrize("argv", [["true", "a\0b"], [], ["true", "\ud800"]])
def test_what_is_no_command_is_an_outcome(argv: list[str]) -> None:
    outcome = run(argv)
    assert outcome.exit_code == 126
    assert outcome.output.startswith("not a command: ")


def test_a_command_that_is_too_long_is_an_outcome() -> None:
    outcome = run(["true", "x" * 200_000])
    assert (outcome.exit_code, outcome.output) == (126, "true: Argument list too long\n")


def test_stdout_and_stderr_come_in_order_and_stdin_is_empty() -> None:
    assert shell("echo 1; echo 2 >&2; echo 3; cat").output == "1\n2\n3\n"


def test_the_environment_is_what_was_given() -> None:
    outcome = run(["env"], environment={"PATH": "/usr/bin:/bin", "A": "1"})
    assert sorted(outcome.output.split()) == ["A=1", "PATH=/usr/bin:/bin"]


def test_no_descriptor_is_inherited(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        names = shell("ls /proc/self/fd").output.split()
    assert names == ["0", "1", "2", "3"]  # 3 is ls's own


def test_a_child_leads_a_session_of_its_own() -> None:
    pid, session = shell('echo $$ $(cut -d" " -f6 /proc/$$/stat)').output.split()
    assert pid == session


def test_a_time_out_kills_the_whole_group(tmp_path: Path) -> None:
    outcome = shell(f"sleep 60 & echo $! > {tmp_path}/pid; echo begun; wait", limits=Limits(seconds=0.3))
    assert (outcome.exit_code, outcome.timed_out, outcome.output) == (124, True, "begun\n")
    assert not is_running(int(wait_for(tmp_path / "pid")))


def test_a_time_out_reaches_what_left_the_group(tmp_path: Path) -> None:
    outcome = shell(f"setsid bash -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & wait", limits=Limits(seconds=0.5))
    assert outcome.timed_out
    assert not is_running(int(wait_for(tmp_path / "pid")))


def test_what_is_left_in_the_background_ends_with_the_command(tmp_path: Path) -> None:
    outcome = shell(f"sleep 60 & echo $! > {tmp_path}/pid")
    assert (outcome.exit_code, outcome.seconds < 30) == (0, True)
    assert not is_running(int(wait_for(tmp_path / "pid")))


def test_an_orphan_that_holds_the_pipe_does_not_hang(tmp_path: Path) -> None:
    orphan_script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' &"
    outcome = shell(f"{orphan_script} while ! test -s {tmp_path}/pid; do :; done; echo done")
    orphan = int(wait_for(tmp_path / "pid"))
    try:
        assert (outcome.exit_code, outcome.output) == (0, "done\n")
        assert is_running(orphan)  # it would have held a reader that waits for the pipe's end
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_output_is_kept_at_head_and_tail() -> None:
    outcome = shell("seq 100000", limits=Limits(output_bytes=1000))
    assert outcome.output.startswith("1\n2\n3\n")
    assert outcome.output.endswith("99999\n100000\n")
    assert f"\n[... {outcome.omitted_bytes} bytes left out ...]\n" in outcome.output
    assert len(outcome.output) < 1100


def test_endless_output_is_stopped_and_never_held_in_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run(["yes"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcome.exit_code == 137
    assert outcome.output.endswith("\n[stopped: endless output]\n")
    assert outcome.omitted_bytes > 100 << 20
    assert grown < 32 << 10  # kilobytes: it read more than 200 megabytes


def test_too_many_processes_are_stopped() -> None:
    script = "for i in $(seq 60); do sleep 60 & done; wait"
    outcome = shell(script, limits=Limits(seconds=30, processes=20))
    assert outcome.exit_code == 137
    assert outcome.output.endswith("[stopped: more than 20 processes]\n")


def test_too_much_on_the_disk_is_stopped(tmp_path: Path) -> None:
    script = f"for i in 1 2 3 4 5 6; do head -c 10000000 /dev/zero > {tmp_path}/$i; sync; done; sleep 60"
    outcome = shell(script, limits=Limits(seconds=30, disk_bytes=20_000_000), folders=[tmp_path])
    assert outcome.exit_code == 137
    assert outcome.output.endswith("[stopped: more than 20000000 bytes written to disk]\n")


def test_a_cancellation_kills_and_reaps_before_it_goes_on(tmp_path: Path) -> None:
    async def main() -> int:
        script = f"sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; wait"
        argv = ["bash", "-c", script]
        task = asyncio.create_task(run_process(argv, cwd=tmp_path, environment=ENVIRONMENT, limits=Limits()))
        pid = int(await asyncio.to_thread(wait_for, tmp_path / "pid"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    pid = asyncio.run(main())
    assert not Path(f"/proc/{pid}").exists()
    assert not is_running(int((tmp_path / "child").read_text()))


def test_a_second_cancellation_does_not_leave_the_child(tmp_path: Path) -> None:
    async def main() -> int:
        argv = ["bash", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"]
        task = asyncio.create_task(run_process(argv, cwd=tmp_path, environment=ENVIRONMENT, limits=Limits()))
        pid = int(await asyncio.to_thread(wait_for, tmp_path / "pid"))
        task.cancel()
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert not Path(f"/proc/{asyncio.run(main())}").exists()


def test_many_run_side_by_side_and_leave_no_descriptor_behind() -> None:
    async def main() -> list[Outcome]:
        runs = [
            run_process(["echo", str(number)], cwd=Path("/"), environment=ENVIRONMENT, limits=Limits())
            for number in range(30)
        ]
        return await asyncio.gather(*runs)

    before = len(list(Path("/proc/self/fd").iterdir()))
    outcomes = asyncio.run(main())
    assert [outcome.output for outcome in outcomes] == [f"{number}\n" for number in range(30)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_it_works_where_processes_have_no_descriptors() -> None:
    """Old kernels and macOS have no pidfd: a thread waits instead. A process of its own takes the call away."""
    code = """
import asyncio, os
from pathlib import Path
del os.pidfd_open
from miyabi_cli.workspace.processes import Limits, run_process
async def main():
    argv = ["bash", "-c", "echo out; kill -9 $$"]
    ended = await run_process(argv, cwd=Path("/"), environment={"PATH": "/usr/bin:/bin"}, limits=Limits())
    late = await run_process(["sleep", "60"], cwd=Path("/"), environment={}, limits=Limits(seconds=0.1))
    print(ended.exit_code, ended.output.strip(), late.exit_code)
asyncio.run(main())
"""
    outcome = run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)
    assert outcome.output == "137 out 124\n"
