"""What miyabi itself costs: start-up, one agent step, the bytes of a request. Prints Markdown for docs/benchmarks.md.

    python benchmarks/overhead.py [--runs N] [--steps N]

Each figure stands beside a floor or a peer that is measured in the same run, in turn, so that a noisy machine
disturbs both alike; quote ratios. Nothing leaves this machine: the model is a scripted server on loopback.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.server import call, chat_server, say  # noqa: E402

TYPER_APP = """
import typer
app = typer.Typer()
@app.command()
def one(name: str, count: int = typer.Option(1, help="How often.")):
    "Say something."
@app.command()
def two(name: str):
    "Say something else."
app()
"""
FLOOR = """
import subprocess, sys, httpx
url, steps = sys.argv[1], int(sys.argv[2])
with httpx.Client(trust_env=False) as client:
    for _ in range(steps):
        with client.stream("POST", url + "/v1/chat/completions", content=b"{}") as response:
            for _ in response.iter_bytes():
                pass
        subprocess.run([*sys.argv[3:], "bash", "-c", "true"], capture_output=True)
"""
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
BWRAP = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent"]


def main() -> None:
    """Measure all, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="runs of each command (default 15)")
    parser.add_argument("--steps", type=int, default=100, help="agent steps in a run (default 100)")
    options = parser.parse_args()
    print(f"Machine: {machine()}\n")
    print("| what | miyabi | beside it | ratio or difference |\n|---|---|---|---|")
    for row in (*startup(options.runs), *steps(options.steps), *request()):
        print(f"| {' | '.join(row)} |", flush=True)


def machine() -> str:
    """Describe the machine: processor, cores, memory, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def startup(runs: int) -> Sequence[tuple[str, ...]]:
    """Measure the start of the two commands whose whole time is start-up."""
    python = sys.executable
    version, nothing = paired([python, "-m", "miyabi_cli", "--version"], [python, "-c", "pass"], runs)
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(TYPER_APP)
        shown, typer_help = paired(
            [python, "-m", "miyabi_cli", "codegen", "--help"], [python, str(app), "one", "--help"], runs
        )
    return [
        (
            "`miyabi --version`",
            ms(version),
            f"`python -c pass` {ms(nothing)}",
            f"+{ms(version - nothing)} (goal: 60 ms)",
        ),
        (
            "`miyabi codegen --help`",
            ms(shown),
            f"two-command Typer app {ms(typer_help)}",
            f"{shown / typer_help:.2f} (goal: 1.3)",
        ),
    ]


def steps(count: int) -> Sequence[tuple[str, ...]]:
    """Measure one agent step: a request to a local server, and a shell command."""
    rows = []
    for sandbox, wrapper, goal in (("off", [], 8), ("auto", BWRAP, 20)):
        ours = statistics.median(run_steps(count, sandbox) for _ in range(3))
        floor = statistics.median(floor_steps(count, wrapper) for _ in range(3))
        name = f"one agent step, sandbox {sandbox}"
        rows.append(
            (name, ms(ours), f"httpx and a shell{' in bwrap' if wrapper else ''} {ms(floor)}", f"goal: {goal} ms")
        )
    return rows


def run_steps(count: int, sandbox: str) -> float:
    """Return seconds a step: the difference of a long and a short run, so that start-up cancels out."""
    short, long = (timed_run(number, sandbox) for number in (1, 1 + count))
    return (long - short) / count


def timed_run(count: int, sandbox: str) -> float:
    turns = [*(call("exec", {"cmd": f"true {number}"}) for number in range(count)), say("done")]
    with repository() as folder, chat_server(*turns) as server:
        flags = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--sandbox", sandbox, "--no-checks"]
        limits = ["--max-steps", str(count + 10)]
        return timed(lambda: miyabi(["codegen", "do nothing", *flags, *limits, "--quiet"], folder))


def floor_steps(count: int, wrapper: Sequence[str]) -> float:
    """Return seconds a step of the least that a step can be."""

    def seconds(number: int) -> float:
        with chat_server(say("done")) as server:
            command = [sys.executable, "-c", FLOOR, server.url, str(number), *wrapper]
            return timed(lambda: subprocess.run(command, check=True, capture_output=True))

    return (seconds(1 + count) - seconds(1)) / count


def request() -> Sequence[tuple[str, ...]]:
    """Measure the first request's bytes, and whether each request begins with the one before."""
    with repository() as folder, chat_server(call("exec", {"cmd": "true"}), say("done")) as server:
        flags = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--quiet"]
        miyabi(["codegen", "Fix the failing test", *flags], folder)
        bodies = [one.body for one in server.requests]
    stable = all(two.startswith(one[: one.index(b'],"temperature"')]) for one, two in zip(bodies, bodies[1:]))  # noqa: B905, RUF007
    tools = len(json.dumps(json.loads(bodies[0])["tools"], separators=(",", ":")))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    bare = int(subprocess.check_output([sys.executable, "-c", PEAK])) / 1024
    return [
        ("peak memory of the largest process", f"{peak:.0f} MiB", f"bare Python {bare:.0f} MiB", ""),
        ("first request", f"{len(bodies[0]):,} bytes", f"{tools:,} of them tools", "goal: 5,000 bytes"),
        ("head of each request is the last request", "yes" if stable else "NO", "", ""),
    ]


class repository:
    """A small git repository with a failing test, for the length of a `with` block."""

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name) / "project"
        folder.mkdir()
        (folder / "calc.py").write_text("def add(a, b):\n    return a - b\n")
        (folder / "test_calc.py").write_text("from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n")
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "a"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True)
        return folder

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def miyabi(arguments: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data:
        places = {name: data for name in ("MIYABI_DATA_DIR", "MIYABI_CACHE_DIR", "MIYABI_CONFIG_DIR")}
        command = [sys.executable, "-m", "miyabi_cli", *arguments]
        environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def paired(ours: Sequence[str], other: Sequence[str], runs: int) -> tuple[float, float]:
    """Return the medians of two commands, run in turn after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for command, kept in zip((ours, other), times, strict=True):
            seconds = timed(functools.partial(subprocess.run, command, cwd=ROOT, capture_output=True, check=True))
            if number:
                kept.append(seconds)
    return statistics.median(times[0]), statistics.median(times[1])


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main()
