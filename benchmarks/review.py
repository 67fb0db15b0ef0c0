"""What `miyabi review --no-llm` costs beside the same linters run side by side by hand. Prints Markdown.

    python benchmarks/review.py [--runs N] [--project FOLDER --change RANGE]

The change adds a thousand lines of Python to a project of 20,000 that is set up for ruff, mypy and bandit; or it is a
range of a repository of one's own that is set up for ruff and mypy. `first`: nobody has a cache. `again`: those of the
linters by hand are there, and those of the review. Seconds are the wall's and, with all children, the processors'.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402

SETTINGS = "[tool.ruff.lint]\nselect = ['E', 'F', 'B']\n[tool.mypy]\nstrict = true\n[tool.bandit]\n"
OLD_MODULES = 200  # of a hundred lines
BY_HAND = (
    ("ruff", "check"),
    ("mypy", "package"),
    ("bandit", "-q", "--exit-zero", *(f"package/new_{number}.py" for number in range(10))),
)
BY_HAND_THERE = (("ruff", "check"), ("mypy",))
SUBREAPER = 36  # prctl(2): what a sandbox leaves is this process's to count


def module(number: int, flaw: str = "") -> str:
    """Return a hundred lines of code."""
    functions = [
        f'def step_{part}(values: list[int]) -> int:\n    """Sum what is above {part}."""\n    total = 0\n'
        f"    for value in values:\n        if value > {part}:\n            total += value\n    return total\n"
        for part in range(10)
    ]
    return f'"""Module {number}."""\n\nimport math\n{flaw}\nHALF = math.pi / 2\n\n\n' + "\n\n".join(functions)


def make_project(root: Path, environ: Mapping[str, str]) -> None:
    """Make a project, and a change of ten more modules."""
    package = root / "package"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text(SETTINGS)
    (package / "__init__.py").write_text("")
    for number in range(OLD_MODULES):
        (package / f"old_{number}.py").write_text(module(number))
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run(["git", *command], cwd=root, check=True, env=environ)
    for number in range(10):
        (package / f"new_{number}.py").write_text(module(number, "import os\n" if number == 0 else ""))


@dataclass(frozen=True)
class Case:
    """What is linted: a project, the linters by hand, the arguments of the review, and the environment of both."""

    root: Path
    by_hand: tuple[tuple[str, ...], ...]
    review: tuple[str, ...]
    environ: Mapping[str, str]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="times that each is run (default 5)")
    parser.add_argument("--project", type=Path, help="a git repository of one's own, which is cloned")
    parser.add_argument("--change", default="HEAD~1..HEAD", help="the range of it that is reviewed")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="miyabi-benchmark-") as folder:
        times = measure(_case(Path(folder), arguments.project, arguments.change), arguments.runs)
    print(f"Machine: {machine()}\n")
    print("| | wall s, median | least | to by hand | processor s, median | to by hand |\n|---|---|---|---|---|---|")
    for name, values in times.items():
        wall, processor = zip(*values, strict=True)
        peer_wall, peer_processor = zip(*times[f"by hand, {name.rpartition(' ')[2]}"], strict=True)
        cells = (
            *(statistics.median(wall), min(wall), statistics.median(wall) / statistics.median(peer_wall)),
            *(statistics.median(processor), statistics.median(processor) / statistics.median(peer_processor)),
        )
        print(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


def _case(folder: Path, project: Path | None, change: str) -> Case:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "MIYABI_CACHE_DIR": str(folder / "cache"),
    }
    (folder / "home").mkdir()
    root = folder / "project"
    if project:
        subprocess.run(["git", "clone", "-q", project.absolute(), root], check=True)
        return Case(root, BY_HAND_THERE, (change,), environ)
    make_project(root, {**environ, **identity, "GIT_COMMITTER_EMAIL": "a@b"})
    return Case(root, BY_HAND, (), environ)


def measure(case: Case, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds, on the wall and of processors, by what was run; in turn, so that a noisy machine disturbs all."""
    tasks: dict[str, Callable[[], float]] = {
        "by hand, first": lambda: _by_hand(case, forget=True),
        "by hand, again": lambda: _by_hand(case),
        "miyabi review --no-llm, first": lambda: _review(case, forget=True),
        "miyabi review --no-llm, again": lambda: _review(case),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            started = time.perf_counter()
            processor = task()
            times[name].append((time.perf_counter() - started, processor))
    return times


def _by_hand(case: Case, *, forget: bool = False) -> float:
    for name in (".mypy_cache", ".ruff_cache") if forget else ():
        shutil.rmtree(case.root / name, ignore_errors=True)
    return _seconds(case, [[sys.executable, "-m", *command] for command in case.by_hand], 1)


def _review(case: Case, *, forget: bool = False) -> float:
    for name in ("checks", "linters") if forget else ():
        shutil.rmtree(Path(case.environ["MIYABI_CACHE_DIR"], name), ignore_errors=True)
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from miyabi_cli.__main__ import main; main()"
    command = [sys.executable, "-c", program, "review", "--no-llm", "--quiet", "--format", "json", *case.review]
    return _seconds(case, [command], 1)


def _seconds(case: Case, commands: Sequence[Sequence[str]], worst: int) -> float:
    """Run commands side by side; return the seconds of processors that they and all their children took."""
    for command in commands:
        subprocess.Popen(command, cwd=case.root, env=case.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    total = 0.0
    while True:
        try:
            _, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return total
        assert os.waitstatus_to_exitcode(status) in (0, worst, -signal.SIGKILL), status
        total += usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
