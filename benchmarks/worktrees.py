"""What a worktree costs: made, switched, staged and removed; beside `git worktree add`. Prints Markdown.

    python benchmarks/worktrees.py [--files 1000,20000] [--runs N] [--folder FOLDER]

Medians; miyabi's worktree and git's own are made in turn, so that a noisy machine disturbs both alike. The first
worktree of a run, which reads what is common to all of them, and those after it stand apart. FOLDER had better be on a
disk of memory (default /dev/shm), for the figures are miyabi's and git's rather than the disk's.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.agents import make_repository  # noqa: E402
from benchmarks.overhead import machine, timed  # noqa: E402
from miyabi_cli.workspace.repository import Repository, open_repository  # noqa: E402
from miyabi_cli.workspace.workspaces import open_workspace  # noqa: E402
from miyabi_cli.workspace.worktrees import create_worktree, remove_worktree  # noqa: E402

Times = dict[str, list[float]]


def main() -> None:
    """Measure each size of repository, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="1000,20000", help="sizes of repositories (default 1000,20000)")
    parser.add_argument("--runs", type=int, default=15, help="worktrees of each kind (default 15)")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where all is made")  # noqa: S108
    options = parser.parse_args()
    sizes = [int(size) for size in options.files.split(",")]
    measured = [measure(size, options.runs, options.folder) for size in sizes]
    print(f"Machine: {machine()}\n")
    print(f"| milliseconds, median of {options.runs} | {' | '.join(f'{size:,} files' for size in sizes)} |")
    print(f"|---|{'---|' * len(sizes)}")
    for name in measured[0]:
        cells = [f"{statistics.median(times[name]) * 1000:.0f}" for times in measured]
        print(f"| {name} | {' | '.join(cells)} |")
    ratios = [statistics.median(times["make one more"]) / statistics.median(times[GITS]) for times in measured]
    print(f"| one more, beside git's | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


GITS = "`git worktree add`"


def measure(files: int, runs: int, folder: Path) -> Times:
    """Return the seconds of each operation in a repository of so many files."""
    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = Path(made)
        repository = open_repository(make_repository(place, files))
        for number in range(runs + 1):
            kept = times if number else defaultdict(list)  # the first is the warm-up
            ours(repository, place, number, kept)
            linked = place / f"git-{number}"
            kept[GITS].append(timed(functools.partial(git, repository, "add", linked)))
            kept["`git worktree remove`"].append(timed(functools.partial(git, repository, "remove", linked)))
    return times


def ours(repository: Repository, place: Path, number: int, times: Times) -> None:
    """Make two worktrees in one run, and remove them."""
    with open_workspace(repository, f"run-{number}", place / "worktrees") as workspace:
        for kind in ("first", "one more"):
            started = time.perf_counter()
            worktree = create_worktree(workspace, repository.head, kind.replace(" ", "-"))
            times[f"make {'the first' if kind == 'first' else kind}"].append(time.perf_counter() - started)
        times["switch it to the same tree"].append(timed(lambda: worktree.switch(repository.head)))
        times["remove it"].append(timed(lambda: remove_worktree(worktree)))


def git(repository: Repository, verb: str, path: Path) -> None:
    """Do with git what miyabi does."""
    options = ["--detach", str(path)] if verb == "add" else ["--force", str(path)]
    subprocess.run(["git", "-C", str(repository.root), "worktree", verb, *options], check=True, capture_output=True)


if __name__ == "__main__":
    main()
