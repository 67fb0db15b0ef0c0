"""Cases for `miyabi bench review`: bugs that were planted, and bugs that real projects had. Prints JSON lines.

    python benchmarks/review_cases.py planted FILE.jsonl… > planted.jsonl
    python benchmarks/review_cases.py history [--limit N] REPOSITORY… > history.jsonl

planted: lines of QuixBugs (`id`, `correct`, `buggy`) or HumanEvalPack (`task_id`, `prompt`, `canonical_solution`,
`buggy_solution`), Python, Go, JavaScript or Rust. history: the last N commits of each repository that mend something,
by their subjects, and change tests and a little of one file of code; each makes two cases, the change that would bring
the bug back, whose lines in that file are the good comments, and the fix, of which there is nothing to say.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from miyabi_cli.workspace.diffs import parse_diff  # noqa: E402

SUFFIXES = {"Python": "py", "Go": "go", "JavaScript": "js", "Rust": "rs"}
FIX = re.compile(r"\b(?:fix(?:es|ed)?|bug|crash|regression)\b", re.IGNORECASE)
NO_FIX = re.compile(r"\b(?:typos?|docs?|\w*lint\w*|ci|tests?|format\w*|types?|build)\b", re.IGNORECASE)
CODE = re.compile(r"\.(?:py|go|js|mjs|ts|rs|c|h)$")
TEST = re.compile(r"(?:^|/)(?:tests?|spec|__tests__)/|(?:^|/)test_|_test\.|\.(?:test|spec)\.")
MOST_LINES = 40  # that come or go in the file that is mended
MOST_COMMITS = 5_000  # that are looked at


def main() -> None:
    """Print cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("planted", "history"))
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=5, help="commits of a repository (default 5)")
    arguments = parser.parse_args()
    for source in arguments.sources:
        cases = planted(source) if arguments.kind == "planted" else history(source, arguments.limit)
        for case in cases:
            print(json.dumps(case))


def planted(source: Path) -> Iterator[dict[str, Any]]:
    """Yield a case for each line: two versions of a file."""
    for line in source.read_text().splitlines():
        row = json.loads(line)
        if "task_id" not in row:
            yield {"id": f"QuixBugs/{row['id']}", "path": f"{row['id']}.py", **_pair(row["correct"], row["buggy"])}
            continue
        language, number = row["task_id"].split("/")
        pair = _pair(row["prompt"] + row["canonical_solution"], row["prompt"] + row["buggy_solution"])
        yield {"id": row["task_id"], "path": f"task_{number}.{SUFFIXES[language]}", **pair}


def history(repository: Path, limit: int) -> Iterator[dict[str, Any]]:
    """Yield two cases for each of the last commits that mend something small."""
    found = 0
    for line in _git(repository, "log", "--no-merges", f"-{MOST_COMMITS}", "--format=%H %s").splitlines():
        commit, _, subject = line.partition(" ")
        if found == limit:
            return
        if not FIX.search(subject) or NO_FIX.search(subject):
            continue
        path = _mended_file(repository, commit)
        if path is None:
            continue
        found += 1
        name = f"{repository.resolve().name} {commit[:10]}"
        bringing = _git(repository, "diff", "--no-ext-diff", "-U10", commit, f"{commit}~1", "--", path)
        mending = _git(repository, "diff", "--no-ext-diff", "-U10", f"{commit}~1", commit, "--", path)
        yield {"id": f"{name} (bug)", "diff": bringing, "comments": list(_places(bringing)), "subject": subject}
        yield {"id": f"{name} (fix)", "diff": mending, "comments": [], "subject": subject}


def _mended_file(repository: Path, commit: str) -> str | None:
    """Return the one file of code of which a commit changes a little, None where it changes no test or more code."""
    rows = [row.split("\t") for row in _git(repository, "show", "--numstat", "--format=", commit).splitlines()]
    code = [row for row in rows if CODE.search(row[2]) and not TEST.search(row[2]) and " => " not in row[2]]
    if len(code) != 1 or not any(TEST.search(row[2]) for row in rows):
        return None
    added, removed, path = code[0]
    return path if added.isdigit() and removed != "0" and 0 < int(added) + int(removed) <= MOST_LINES else None


def _places(diff: str) -> Iterator[dict[str, Any]]:
    """Yield a comment for each hunk: from its first to its last line that comes."""
    for file in parse_diff(diff.encode()):
        for hunk in file.hunks:
            lines = [line.new for line in hunk.lines if line.kind == "+" and line.new]
            if lines:
                yield {"path": file.path, "from_line": min(lines), "to_line": max(lines)}


def _pair(correct: str, buggy: str) -> dict[str, str]:
    return {"correct": correct, "buggy": buggy}


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode(errors="replace")


if __name__ == "__main__":
    main()
