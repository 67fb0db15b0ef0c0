"""`bench codegen`: trials of a suite's tasks side by side, each written down as it ends; from tasks to a document."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_cli.bench.document import Document
from miyabi_cli.bench.journal import Journal
from miyabi_cli.bench.scoring import change_against, summarise
from miyabi_cli.bench.tasks import BenchTask
from miyabi_cli.bench.trials import UNASKED, Means, Row, do_trial
from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.locks import locked, take_lock
from miyabi_cli.places import cache_dir
from miyabi_cli.workspace.removal import remove_tree

# The kinds of failures that are no task's own: so many in a row, and the others are not tried.
COMMON = ("provider_unreachable", "provider_refused", "provider_overloaded", UNASKED, "sandbox", "machine")
MOST_IN_A_ROW = 3
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Trials:
    """What is to be done: each task `trials` times, `jobs` at a time. `settings` is what a report says of it."""

    tasks: Sequence[BenchTask]
    trials: int
    jobs: int
    settings: Mapping[str, Any]

    @property
    def count(self) -> int:
        return len(self.tasks) * self.trials

    def digest(self) -> str:
        """Tells whether two benchmarks ask the same of each trial; more tasks and more trials may come."""
        free = ("trials", "jobs", "limit", "seed", "suite", "from_history", "min_pass_rate", "against")
        asked = {name: value for name, value in self.settings.items() if name not in free}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Told:
    """What is told while it runs: a task that is begun, and a row that has come, with how many there are by then."""

    started: Callable[[str], None]
    ended: Callable[[Row, int], None]


@dataclass(slots=True)
class Course:
    """The rows so far; `given_up` is the last of those that ended by the same, which is no task's own."""

    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    in_a_row: int = 0
    last: str = ""
    given_up: Row | None = None

    def has_passed(self, task: str) -> bool:
        """Say whether the first trial of a task has passed."""
        return bool(self.rows.get((task, 1), {}).get("passed"))

    def take(self, row: Row) -> None:
        """Count a new row."""
        self.rows[row["id"], row["trial"]] = row
        kind = common_kind(row)
        self.in_a_row = self.in_a_row + 1 if kind and kind == self.last else 1 if kind else 0
        self.last = kind
        if self.in_a_row >= MOST_IN_A_ROW:
            self.given_up = row


def chosen(tasks: Sequence[BenchTask], limit: int | None, seed: int) -> tuple[BenchTask, ...]:
    """Return the first tasks of a shuffled suite: a higher limit adds to them, and changes none; None keeps all."""
    if limit is None:
        return tuple(tasks)
    shuffled = list(tasks)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 (no secret)
    return tuple(shuffled[:limit])


def named_apart(tasks: Sequence[BenchTask]) -> tuple[BenchTask, ...]:
    """Return tasks of several suites. Raises UsageError where two have the same id."""
    ids: set[str] = set()
    for task in tasks:
        if task.id in ids:
            raise UsageError(f"two tasks are named {task.id!r}", hint="give each suite once")
        ids.add(task.id)
    return tuple(tasks)


def common_kind(row: Row) -> str:
    """Return the kind of what ended a trial if that is no task's own: a server that is away, a cap that is reached."""
    is_common = row["failure"] == UNASKED or (row["failure"] in COMMON and row["passed"] is None)
    return row["failure"] if is_common else ""


async def run_trials(trials: Trials, means: Means, journal: Journal | None, told: Told) -> Course:
    """Do all trials that the journal does not have; return the rows, in the order of tasks and trials.

    It ends early where several in a row end by what is no task's own; rows of that kind are done again another time.
    """
    course = Course()
    tasks = {task.id: task for task in trials.tasks}
    for row in journal.rows if journal else ():
        is_same = row["id"] in tasks and row["digest"] == tasks[row["id"]].digest
        if is_same and 1 <= row["trial"] <= trials.trials and not common_kind(row):
            course.rows[row["id"], row["trial"]] = row
    pairs = [(task, number) for number in range(1, trials.trials + 1) for task in trials.tasks]
    left = iter([(task, number) for task, number in pairs if (task.id, number) not in course.rows])

    async def work() -> None:
        for task, number in left:
            if course.given_up:
                return
            row = await do_trial(task, number, means, told.started)
            course.take(row)
            if journal:
                journal.write(row)
            told.ended(row, len(course.rows))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(trials.jobs):
                group.create_task(work())
    except* Exception as failed:
        raise failed.exceptions[0] from None
    order = {task.id: place for place, task in enumerate(trials.tasks)}
    course.rows = dict(sorted(course.rows.items(), key=lambda item: (order[item[0][0]], item[0][1])))
    return course


def document_of(
    trials: Trials,
    course: Course,
    environment: Mapping[str, Any],
    *,
    reviewed: bool,
    against: tuple[str, Document] | None,
) -> Document:
    """Return the report; `against` is an earlier one with its name."""
    rows = list(course.rows.values())
    summary = summarise(rows, planned=trials.count, reviewed=reviewed)
    if against is not None:
        name, earlier = against
        summary["against"] = change_against(rows, earlier.results, name)
    return Document("codegen", environment, dict(trials.settings), rows, summary)


def check_against(document: Document, name: str) -> None:
    """Raise UsageError unless a report is one of this kind."""
    if document.kind != "codegen":
        raise UsageError(f"{name} is a report of bench {document.kind}", hint="--against takes one of bench codegen")


@contextlib.asynccontextmanager
async def own_folder(name: str) -> AsyncIterator[Path]:
    """Give a folder for the repositories of a benchmark, removed after the block; so are those of killed ones."""
    home = cache_dir("bench")
    folder = home / name
    async with locked(home / LOCK):
        await asyncio.to_thread(_sweep, home)
        folder.mkdir(mode=0o700)
        lock = take_lock(folder / LOCK)
    if lock is None:
        raise MachineError(f"another process is at {folder}")
    try:
        yield folder
    finally:
        lock.release()
        await asyncio.to_thread(remove_tree, folder)


def _sweep(home: Path) -> None:
    for folder in home.iterdir():
        if folder.is_dir() and (lock := take_lock(folder / LOCK)) is not None:
            lock.release()
            remove_tree(folder)
