"""A run that is killed at any of its events goes on: no tool runs twice, and it comes to what it would have come to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Miyabi
from tests.support.careful import asking, assert_whole, careful_model
from tests.support.dying import codegen_until, log_of, tear
from tests.test_codegen import TASK, state

Git = Callable[..., str]

EVENTS = 30  # of the run that nobody kills
STEP = int(os.environ.get("MIYABI_TEST_EVERY", "3"))  # `make soak` kills at every event


def test_the_run_that_nobody_kills(repository: Path, miyabi: Miyabi, home: Path, tmp_path: Path) -> None:
    with careful_model(tmp_path / "marks") as server:
        ran = miyabi("codegen", TASK, *asking(server), "--format", "jsonl", cwd=repository)
    assert ran.code == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert_whole(events[-1]["result"], log_of(home), tmp_path / "marks")
    assert len(events) == EVENTS


@pytest.mark.parametrize("number", range(1, EVENTS, STEP))
def test_killed_at_any_event_it_goes_on(
    repository: Path,
    environment: dict[str, str],
    home: Path,
    miyabi: Miyabi,
    git: Git,
    tmp_path: Path,
    number: int,
) -> None:
    before = state(repository, git)
    with careful_model(tmp_path / "marks") as server:
        codegen_until(".*", number, TASK, *asking(server), environment=environment, repository=repository)
        assert state(repository, git) == before
        resumed = miyabi("codegen", "--resume", "last", "--format", "json", cwd=repository)
    assert resumed.code == 0, resumed.stderr
    assert_whole(json.loads(resumed.stdout), log_of(home), tmp_path / "marks")
    assert state(repository, git) == before
    assert len(git("branch", "--list", "miyabi/*", cwd=repository).splitlines()) == 1
    assert list((home / "cache/worktrees").rglob("tree")) == []


@pytest.mark.parametrize(
    ("kind", "number", "torn"),
    [
        *(("tool_ended", number, 1 + number * 11) for number in (2, 3, 5)),
        *(("conversation_opened", 1, 5_000), ("reply", 3, 1), ("tool_started", 2, 60), ("check_ended", 3, 30)),
        *(("message_added", 2, 2), ("attempt_ended", 1, 100), ("run_started", 1, 1)),
    ],
)
def test_with_a_torn_tail_it_goes_on_too(
    repository: Path,
    environment: dict[str, str],
    home: Path,
    miyabi: Miyabi,
    tmp_path: Path,
    kind: str,
    number: int,
    torn: int,
) -> None:
    """What the last event told has happened then, such as a tool's end, and the log does not know."""
    with careful_model(tmp_path / "marks") as server:
        codegen_until(kind, number, TASK, *asking(server), environment=environment, repository=repository)
        tear(log_of(home), torn, b"\0" * 90 + b"\n\0" if torn % 2 else b"")
        resumed = miyabi("codegen", "--resume", "last", "--format", "json", cwd=repository)
    if kind == "run_started":
        assert (resumed.code, "no beginning" in resumed.stderr) == (2, True)
        return
    assert resumed.code == 0, resumed.stderr
    assert_whole(json.loads(resumed.stdout), log_of(home), tmp_path / "marks")


def test_a_run_killed_after_its_result_has_ended(
    repository: Path, environment: dict[str, str], miyabi: Miyabi, tmp_path: Path
) -> None:
    with careful_model(tmp_path / "marks") as server:
        codegen_until("result", 1, TASK, *asking(server), environment=environment, repository=repository)
        resumed = miyabi("codegen", "--resume", "last", cwd=repository)
    assert (resumed.code, "has come to its end: verified" in resumed.stderr) == (2, True)
    assert "miyabi runs show" in resumed.stderr
