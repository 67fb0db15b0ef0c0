"""How many attempts a task takes: the embedded model by the real CLI, and the pass rates at 1, 2, 4 and 8 attempts.

    python benchmarks/attempts.py FOLDER --output FILE.jsonl [--suite NAME]… [--limit N] [--seed S] [--max-time SECONDS]

FOLDER holds quixbugs.jsonl, exercism-python.jsonl and humanevalfix/python.jsonl. Each task becomes a git repository and
is run once, one attempt after the other up to eight: the number of the one that ends it says what fewer would have
come to. The tests of a task lie in its repository, for they are its checks. Solved: once the run has ended, all of the
data set's tests pass on the result, from fresh copies. A run that meets its time limit is not solved at any number.
A task that stands in the output is not run again, so a measurement that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.bug_fixing import Task, asked, passes, quixbugs_tests, read_tasks, repository  # noqa: E402

ATTEMPTS = 8
COLUMNS = (1, 2, 4, 8)
SUITES = {
    "quixbugs": "quixbugs.jsonl",
    "exercism-python": "exercism-python.jsonl",
    "humanevalfix": "humanevalfix/python.jsonl",
}
TOO_SLOW = ("QuixBugs/knapsack", "QuixBugs/levenshtein")  # their own corrections take minutes for some cases
NORMAL_QUANTILE = 1.96  # 95 %, two-sided


@dataclass(frozen=True)
class Trial:
    """A task, what is asked, and all the tests that its result has to pass."""

    suite: str
    task: Task
    request: str
    tests: str


@dataclass(frozen=True)
class Outcome:
    """What a run made of a task. `attempts`: the status of each that came to an end; `status`: the run's."""

    suite: str
    task: str
    solved: bool
    seconds: float
    status: str
    attempts: tuple[str, ...]
    run: str

    def solved_within(self, attempts: int) -> bool:
        """Say whether as many attempts would have been enough: a run ends with the first that is good enough."""
        return self.solved and len(self.attempts) <= attempts

    @property
    def cut_short(self) -> bool:
        """Say whether the time was up before the last attempt."""
        return self.status != "verified" and ("limit" in self.attempts or len(self.attempts) < ATTEMPTS)


def main() -> None:
    """Run what the output lacks, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="one JSON line a task, read again to go on")
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be repeated (default: all)")
    parser.add_argument("--limit", type=int, default=12, help="tasks of each suite, drawn by chance (default 12)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-time", type=float, default=600, help="seconds for one task (default 600)")
    options = parser.parse_args()
    outcomes = list(read_outcomes(options.output))
    done = {(outcome.suite, outcome.task) for outcome in outcomes}
    for suite in options.suite or SUITES:
        for trial in drawn(suite, options.folder / SUITES[suite], options.limit, options.seed):
            if (suite, trial.task.name) not in done:
                outcome = run(trial, options.max_time)
                outcomes.append(outcome)
                write(outcome, options.output)
    print_table(outcomes)


def drawn(suite: str, path: Path, limit: int, seed: int) -> Sequence[Trial]:
    """Return the first tasks of a shuffled suite: a higher limit adds to them, and changes none."""
    trials = list(read_trials(suite, path))
    random.Random(seed).shuffle(trials)
    return [trial for trial in trials if trial.task.name not in TOO_SLOW][:limit]


def read_trials(suite: str, path: Path) -> Iterator[Trial]:
    """Yield the tasks of a suite's file; QuixBugs' long cases are kept for the judgement."""
    if suite == "exercism-python":
        yield from (exercise(json.loads(line)) for line in path.read_text().splitlines())
        return
    lines = {data["id"]: data for data in map(json.loads, path.read_text().splitlines())} if suite == "quixbugs" else {}
    for task in read_tasks(path):
        tests = quixbugs_tests(task.module, lines[task.module]["cases"]) if lines else task.tests
        yield Trial(suite, task, asked(task), tests)


def exercise(data: dict[str, Any]) -> Trial:
    """Return an exercise: the stub, the tests, and the instructions as the request."""
    (solution,), (tests,) = data["solution_files"], data["test_files"]
    module = solution.removesuffix(".py")
    task = Task(data["id"], module, data["files"][solution], data["files"][tests])
    ask = f"Implement {solution}, which is a stub: the tests in tests/test_{module}.py fail."
    return Trial("exercism-python", task, f"{ask}\n\n{data['instructions']}", task.tests)


def run(trial: Trial, max_time: float) -> Outcome:
    """Let miyabi do a task, as a user would, and judge what it leaves."""
    command = [sys.executable, "-m", "miyabi_cli", "codegen", trial.request, "--provider", "embedded", "--apply"]
    flags = ["--attempts", str(ATTEMPTS), "--jobs", "1", "--format", "json", "--max-time", str(max_time), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with repository(trial.task) as folder:
        started = time.perf_counter()
        ended = subprocess.run(
            [*command, *flags], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        result: dict[str, Any] = json.loads(ended.stdout or "{}")
        if "attempts" not in result:  # nothing about the model: the measurement itself is wrong
            sys.exit(f"{trial.task.name}: {ended.stderr.strip()}")
        solved = passes(folder, replace(trial.task, tests=trial.tests))
    statuses = tuple(attempt["status"] for attempt in result["attempts"])
    return Outcome(
        trial.suite, trial.task.name, solved, round(seconds, 1), result["status"], statuses, result["run_id"]
    )


def write(outcome: Outcome, output: Path) -> None:
    """Add a line to the output, and tell of it."""
    with output.open("a") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")
    told = f"solved at {len(outcome.attempts)}" if outcome.solved else f"- ({outcome.status})"
    print(f"{outcome.suite:16} {outcome.task:34} {told:16} {outcome.seconds:6.1f} s", flush=True)


def read_outcomes(output: Path) -> Iterator[Outcome]:
    """Yield what an earlier call has written."""
    for line in output.read_text().splitlines() if output.exists() else ():
        data = json.loads(line)
        yield Outcome(**{**data, "attempts": tuple(data["attempts"])})


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each suite: tasks solved within so many attempts, with the interval of the rate."""
    print("\n| suite | tasks | " + " | ".join(f"at {count}" for count in COLUMNS) + " | out of time | median s |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.suite == suite]
        rates = [rate(sum(outcome.solved_within(count) for outcome in own), len(own)) for count in COLUMNS]
        late = sum(outcome.cut_short for outcome in own)
        median = statistics.median(outcome.seconds for outcome in own)
        print(f"| {suite} | {len(own)} | {' | '.join(rates)} | {late} | {median:.0f} |")


def rate(solved: int, count: int) -> str:
    """Return a count and the rate's Wilson interval at 95 %, in per cent."""
    share, spread = solved / count, NORMAL_QUANTILE**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = NORMAL_QUANTILE * (share * (1 - share) / count + spread / (4 * count)) ** 0.5 / (1 + spread)
    return f"{solved} ({max(0.0, middle - half):.0%} to {min(1.0, middle + half):.0%})".replace("%", " %")


if __name__ == "__main__":
    main()
