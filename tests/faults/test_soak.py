"""The soak in short: a few scenes of each run of the tests, and that it sees what it looks for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.scenes import scene
from tests.support.users import make_user


def test_a_few_scenes_hold() -> None:
    """Seeds of a run in which only the server fails, and of one that dies while git works for it."""
    argv = [sys.executable, "-m", "tests.faults.soak", "--seed", "2", "--count", "2"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["violations"], summary["seeds"]) == (0, [], 2), done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["2", "3"]


def test_what_goes_wrong_is_seen(tmp_path: Path) -> None:
    """Each thing that a scene looks at is not as it should be."""
    user = make_user(tmp_path)
    with scene(user, random.Random(4)) as it:  # noqa: S311
        it.options = ()
        result = {"patch": "+++ b/marks.txt\n+mark-0\n+mark-0\n", "branch": "miyabi/mine"}
        folder = user.home / "data/runs/one"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result))
        user.git("branch", "miyabi/mine")
        user.shell("echo spoilt >README.md; echo >>.git/config; setsid sleep 7 >/dev/null 2>&1 &")
        it.end(user.start("sh", "-c", "echo Traceback >&2; exit 70"))
        it.hold_result()
        it.hold_repository()
    said = "\n".join(it.wrong)
    for words in (
        "exit 70, not 0",
        "exit 70 is none that is promised",
        "stdout is no JSON",
        "a tool ran twice: ['mark-0', 'mark-0']",
        "the work is lost",
        "the branch miyabi/mine is not the patch",
        "changed: ['project/.git/config', 'project/README.md']",
        "miyabi/mine is half-made",
    ):
        assert words in said
