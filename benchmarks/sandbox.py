"""What a sandbox costs each command: none, bubblewrap, Landlock, in turn. Prints Markdown for docs/benchmarks.md.

    python benchmarks/sandbox.py [--runs N]

All run the same command in the same worktree, one after the other, so that a noisy machine disturbs them alike; quote
the differences. A sandbox that does not work here is left out, and said.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402
from miyabi_cli.errors import SandboxError  # noqa: E402
from miyabi_cli.workspace.place import Place  # noqa: E402
from miyabi_cli.workspace.sandbox import Sandbox  # noqa: E402
from tests.support.sandboxes import Bench, make_bench  # noqa: E402


def main() -> None:
    """Measure all, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="commands in each sandbox (default 200)")
    runs = parser.parse_args().runs
    print(f"Machine: {machine()}\n")
    with tempfile.TemporaryDirectory(prefix="miyabi-benchmark-") as folder:
        bench = make_bench(Path(folder))
        place = replace(bench.place, scratch=Path(folder, "scratch"))
        times = asyncio.run(measure(opened(bench), place, runs))
    plain = times["off"]
    print("| `true`, ms | median | p95 | more than without, median | p95 |\n|---|---|---|---|---|")
    for name, values in times.items():
        more = [value - floor for value, floor in zip(values, plain, strict=True)]
        figures = (statistics.median(values), p95(values), statistics.median(more), p95(more))
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |")


def opened(bench: Bench) -> Mapping[str, Sandbox]:
    """Open the sandboxes that work here."""
    sandboxes = {"off": bench.open("off")}
    for kind in ("bubblewrap", "landlock"):
        try:
            sandbox = replace(bench, kind=kind).open()
        except SandboxError as error:
            print(f"{kind}: {error.message}\n")
            continue
        if sandbox.kind == kind:
            sandboxes[kind] = sandbox
    return sandboxes


async def measure(sandboxes: Mapping[str, Sandbox], place: Place, runs: int) -> Mapping[str, list[float]]:
    """Return the milliseconds of each run."""
    times: dict[str, list[float]] = {name: [] for name in sandboxes}
    for _ in range(runs):
        for name, sandbox in sandboxes.items():
            begun = time.perf_counter()
            outcome = await sandbox.run(["true"], place)
            times[name].append((time.perf_counter() - begun) * 1000)
            assert outcome.exit_code == 0, outcome
    return times


def p95(values: list[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    main()
