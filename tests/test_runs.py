"""The directory that a run leaves: what its log does on a bad disk, and how past runs are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.events import AttemptStarted, ProgressMade, RunEnded
from miyabi_cli.places import data_dir
from miyabi_cli.runs import EVENTS, RESULT, RunLog, find_run, list_runs, open_log, read_log, remove_run


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))


def finished(run_id: str) -> None:
    log = RunLog(run_id)
    log.write(ProgressMade("not kept"))
    log.write(RunEnded({"status": "verified"}))
    log.keep(RESULT, json.dumps({"status": "verified"}).encode())
    log.close()


def test_a_run_is_found_by_its_id_a_part_of_it_and_as_the_last() -> None:
    for run_id in ("20260101-000000-aaaaaa", "20260102-000000-bbbbbb"):
        finished(run_id)
    assert [run.run_id[-6:] for run in list_runs()] == ["bbbbbb", "aaaaaa"]
    names = ("20260101-000000-aaaaaa", "20260101", "aaaaaa")
    assert {find_run(name).run_id for name in names} == {"20260101-000000-aaaaaa"}
    assert find_run("last").status == "verified"
    for name, problem in (("2026", "not one run but several"), ("none", "is no run"), ("", "is no run")):
        with pytest.raises(UsageError, match=problem):
            find_run(name)


def test_a_log_keeps_what_happened_and_a_torn_line_is_passed_over() -> None:
    finished("1")
    with (data_dir("runs", "1") / EVENTS).open("a") as file:
        file.write('{"type": "tool_st')
    assert [event["type"] for event in read_log(data_dir("runs", "1"))] == ["result"]


def test_a_run_without_a_result_was_stopped_or_runs_still() -> None:
    log = RunLog("1")
    assert find_run("1").status == "running"
    log.close()
    assert find_run("1").status == "stopped"


def test_a_full_disk_is_the_machine_s_error() -> None:
    (data_dir("runs", "1") / EVENTS).symlink_to("/dev/full")
    log = RunLog("1")
    with pytest.raises(MachineError, match="No space left"):
        log.write(RunEnded({}))
    log.close()


def test_a_log_that_can_not_be_opened_is_the_machine_s_error() -> None:
    (data_dir("runs", "1") / EVENTS).mkdir()
    with pytest.raises(MachineError, match="can't write the run's log"):
        RunLog("1")


def test_a_removed_run_is_gone_and_removing_it_again_fails() -> None:
    finished("1")
    run = find_run("1")
    remove_run(run)
    assert list_runs() == []
    with pytest.raises(MachineError, match="can't remove"):
        remove_run(run)


def test_what_ends_a_run_before_its_result_is_kept() -> None:
    def work() -> None:
        with open_log("1") as log:
            log.write(AttemptStarted(1, "tree"))
            raise MachineError("the disk is gone")

    with pytest.raises(MachineError):
        work()
    run = find_run("1")
    assert (run.status, run.error) == ("stopped", "the disk is gone")


def test_a_run_in_which_nothing_happened_leaves_nothing() -> None:
    with pytest.raises(UsageError), open_log("1"):
        raise UsageError("no such branch")
    assert list_runs() == []
