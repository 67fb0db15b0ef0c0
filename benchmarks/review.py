"""What `miyabi review --no-llm` costs beside the same linters run side by side by hand. Prints Markdown.

    python benchmarks/review.py [--runs N]

The change adds a thousand lines of Python to a project of 20,000 that is set up for ruff, mypy and bandit. Each linter
starts without a cache, by hand as in the review. `again` is a review whose base is known from an earlier one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402

SETTINGS = "[tool.ruff.lint]\nselect = ['E', 'F', 'B']\n[tool.mypy]\nstrict = true\n[tool.bandit]\n"
OLD_MODULES = 200  # of a hundred lines
BY_HAND = (
    ("-m", "ruff", "check", "--no-cache"),
    ("-m", "mypy", "--cache-dir", os.devnull, "package"),
    ("-m", "bandit", "-q", "--exit-zero", *(f"package/new_{number}.py" for number in range(10))),
)


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


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="times that each is run (default 7)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="miyabi-benchmark-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
        environ = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "MIYABI_CACHE_DIR": str(home / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        root = Path(folder, "project")
        make_project(root, {**environ, **identity, "GIT_COMMITTER_EMAIL": "a@b"})
        times = measure(root, environ, runs)
    print(f"Machine: {machine()}\n")
    print("| 1,000 lines, seconds | median | to by hand |\n|---|---|---|")
    by_hand = statistics.median(times["by hand, side by side"])
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) / by_hand:.2f} |")


def measure(root: Path, environ: Mapping[str, str], runs: int) -> dict[str, list[float]]:
    """Return seconds by what was run; one after the other in turn, so that a noisy machine disturbs all alike."""
    cache = Path(environ["MIYABI_CACHE_DIR"])
    tasks: dict[str, Callable[[], None]] = {
        "by hand, side by side": lambda: _by_hand(root, environ),
        "miyabi review --no-llm, the first": lambda: _review(root, environ, forget=cache),
        "again": lambda: _review(root, environ),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - started)
    return times


def _by_hand(root: Path, environ: Mapping[str, str]) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for command in BY_HAND
    ]
    for child in children:
        child.wait()


def _review(root: Path, environ: Mapping[str, str], forget: Path | None = None) -> None:
    if forget is not None:
        for entry in (forget / "checks").glob("*.json"):
            entry.unlink()
    command = [sys.executable, "-m", "miyabi_cli", "review", "--no-llm", "--quiet", "--format", "json"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    assert b"F401" in done.stdout, done.stdout.decode()


if __name__ == "__main__":
    main()
