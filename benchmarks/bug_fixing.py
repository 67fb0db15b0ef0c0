"""How many bugs the embedded model fixes, and how fast: the real CLI on real tasks, beside aider on the same server.

    python benchmarks/bug_fixing.py TASKS.jsonl… [--count N] [--seed S] [--aider PATH] [--output FILE.jsonl]

TASKS: HumanEvalPack's humanevalfix (Python, Rust, JavaScript, Go) or QuixBugs, as JSON lines. Each task becomes a git
repository of a module with a bug, its tests, and one sentence to the agent. Solved: the task's own tests pass on the
result, run here and not by the agent. With --aider, the aider of that path does the same tasks, each right after
miyabi, with the same model on the same engine: whole-file edits, and the tests run after each, up to four rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.layouts import LAYOUTS, Layout  # noqa: E402

MODEL = "qwen2.5-coder-1.5b"
TEST_SECONDS = 60
CASE_SECONDS = 2
RUN_SECONDS = 300


@dataclass(frozen=True)
class Task:
    """A module with a bug, and its tests."""

    name: str
    module: str
    source: str
    tests: str
    language: str = "Python"

    @property
    def layout(self) -> Layout:
        """How it lies in a repository."""
        return LAYOUTS[self.language]

    def path(self, pattern: str) -> str:
        """Return a path of the layout with the module's name in it."""
        return pattern.format(self.module)


@dataclass(frozen=True)
class Score:
    """What an agent made of a task; `seconds` from its start to its end."""

    task: str
    agent: str
    solved: bool
    seconds: float
    status: str = ""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def main() -> None:
    """Run the tasks, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=10, help="tasks, drawn by chance (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--aider", type=Path, help="the aider to compare with")
    parser.add_argument("--output", type=Path, help="one JSON line a task and agent")
    options = parser.parse_args()
    tasks = [task for path in options.tasks for task in read_tasks(path)]
    chosen = random.Random(options.seed).sample(tasks, min(options.count, len(tasks)))
    scores = asyncio.run(measure(chosen, options.aider, options.output))
    print("\n| agent | solved | median s | mean s where solved | tokens in, out |\n|---|---|---|---|---|")
    for agent in dict.fromkeys(score.agent for score in scores):
        print(row([score for score in scores if score.agent == agent]))


async def measure(tasks: Sequence[Task], aider: Path | None, output: Path | None) -> list[Score]:
    """Run every task by every agent, in turn, with the engine warm."""
    from miyabi_cli.llm.local.engines import ensure_engine
    from miyabi_cli.llm.local.models import known_model

    scores: list[Score] = []
    with await ensure_engine(known_model(MODEL), keep_alive=600) as engine:
        for task in tasks:
            agents = [run_miyabi(task)] + ([run_aider(task, aider, engine.url, engine.key)] if aider else [])
            for score in agents:
                scores.append(score)
                print(
                    f"{score.task:30} {score.agent:8} {'solved' if score.solved else '-':8} {score.seconds:6.1f} s",
                    flush=True,
                )
                if output:
                    with output.open("a") as file:
                        file.write(json.dumps(asdict(score)) + "\n")
    return scores


def row(scores: Sequence[Score]) -> str:
    """Return an agent's line of the table."""
    solved = [score.seconds for score in scores if score.solved]
    tokens_in = statistics.mean(score.input_tokens for score in scores)
    tokens_out = statistics.mean(score.output_tokens for score in scores)
    mean = f"{statistics.mean(solved):.1f}" if solved else "-"
    median = statistics.median(score.seconds for score in scores)
    tokens = f"{tokens_in:.0f}, {tokens_out:.0f}" if tokens_in else "not told"
    return f"| {scores[0].agent} | {len(solved)} of {len(scores)} | {median:.1f} | {mean} | {tokens} |"


def run_miyabi(task: Task) -> Score:
    """Let miyabi do a task, as a user would."""
    with repository(task) as folder:
        command = [sys.executable, "-m", "miyabi_cli", "codegen", asked(task), "--provider", "embedded"]
        flags = ["--apply", "--format", "json", "--max-time", str(RUN_SECONDS)]
        started = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, *flags], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        result: dict[str, Any] = json.loads(done.stdout or "{}")
        if "status" not in result:
            print(done.stderr, file=sys.stderr)
        usage = result.get("usage", {})
        return Score(
            task.name,
            "miyabi",
            passes(folder, task),
            seconds,
            result.get("status", "error"),
            len(result.get("attempts", ())),
            usage.get("input_tokens", 0),
            usage.get("output_tokens", 0),
        )


def run_aider(task: Task, aider: Path, url: str, key: str) -> Score:
    """Let aider do a task: the module in its chat, the tests run after each edit."""
    with repository(task) as folder:
        command = [
            *(str(aider), "--model", f"openai/{MODEL}", "--edit-format", "whole", "--yes-always", "--no-stream"),
            *(
                "--no-show-model-warnings",
                "--no-check-update",
                "--analytics-disable",
                "--no-pretty",
                "--map-tokens",
                "0",
            ),
            *("--auto-test", "--test-cmd", shlex.join(task.layout.command), "--no-auto-commits"),
            *("--message", asked(task), task.path(task.layout.source)),
        ]
        environment = {**os.environ, "OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": key, "HOME": str(folder.parent)}
        started = time.perf_counter()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=RUN_SECONDS)
        return Score(task.name, "aider", passes(folder, task), time.perf_counter() - started)


def asked(task: Task) -> str:
    source, tests = (task.path(pattern) for pattern in (task.layout.source, task.layout.tests))
    return f"{task.module}() is wrong: the tests in {tests} fail. Fix {source}."


class repository:
    """The task as a git repository, for the length of a `with` block."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name) / "project"
        for path, text in self._task.layout.files(self._task.module, self._task.source, self._task.tests).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "start"]):
            subprocess.run(["git", *command], cwd=folder, check=True)
        return folder

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def passes(folder: Path, task: Task) -> bool:
    """Say whether the task's own tests pass on what lies in the folder."""
    (folder / task.path(task.layout.tests)).write_text(task.tests)
    try:
        done = subprocess.run(task.layout.command, cwd=folder, capture_output=True, check=False, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def read_tasks(path: Path) -> Iterator[Task]:
    """Yield the tasks of a file, of either kind."""
    for line in path.read_text().splitlines():
        data = json.loads(line)
        task = _humanevalfix(data) if "entry_point" in data else _quixbugs(data)
        if task:
            yield task


def _humanevalfix(data: dict[str, Any]) -> Task:
    language = data["task_id"].partition("/")[0]
    source, tests = LAYOUTS[language].of_humanevalfix(data)
    return Task(data["task_id"], data["entry_point"], source, tests, language)


def _quixbugs(data: dict[str, Any]) -> Task | None:
    """Return a task that has cases of input and output; the graph problems of QuixBugs have programs instead."""
    cases = [case for case in data["cases"] or () if len(json.dumps(case)) < 400]
    if not cases:
        return None
    name = data["id"]
    tests = quixbugs_tests(name, cases)
    return Task(f"QuixBugs/{name}", name, data["buggy"].strip("\n") + "\n", tests)


def quixbugs_tests(name: str, cases: Sequence[Any]) -> str:
    """Return a test module of pairs of arguments and result; a generator's results are compared as a list.

    A case fails after some seconds of processor time, for many of the bugs are loops without an end.
    """
    listed = "".join(f"    {case!r},\n" for case in cases)
    check = f"    result = {name}(*given)\n    if hasattr(result, '__next__'):\n        result = list(result)\n"
    return (
        f"import signal\n\nimport pytest\n\nfrom {name} import {name}\n\nCASES = [\n{listed}]\n\n\n"
        "def too_slow(*_):\n    raise TimeoutError\n\n\n"
        "@pytest.fixture(autouse=True)\ndef limit():\n    signal.signal(signal.SIGPROF, too_slow)\n"
        f"    signal.setitimer(signal.ITIMER_PROF, {CASE_SECONDS})\n    yield\n"
        "    signal.setitimer(signal.ITIMER_PROF, 0)\n\n\n"
        f'@pytest.mark.parametrize(("given", "expected"), CASES)\ndef test_{name}(given, expected):\n'
        f"{check}    assert result == expected\n"
    )


if __name__ == "__main__":
    main()
