"""Scenes of the soak: a random repository, a model at work in it, and what may never be true after a fault."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.orphans import Orphans, watching_for_orphans
from tests.support.scripts import (
    FIX,
    MARKS,
    arguments,
    broken_off,
    closed,
    ended_early,
    garbled,
    hanging,
    marking,
    marks_in,
)
from tests.support.server import ChatServer, call, chat_server, say, send_error, stream
from tests.support.users import Snapshot, User, changes

PATIENCE = 90.0  # seconds after which a run that has not ended hangs
ENDS = frozenset({0, 1, 3, 4, 5, 129, 130, 143})  # the exit codes of the documentation, but for wrong usage
IN_A_ROW = 2  # faults of the server one after another: with more than three it is right to give up
OFTEN = 0.15
MENDING = call("exec", {"cmd": "sed -i 's/a - b/a + b/' calc.py"})
APPLIED = frozenset({"project/calc.py", f"project/{MARKS}"})


@dataclass
class Scene:
    """One user with one task. `wrong` gathers what must not be; `kills` says how often a process was ended."""

    user: User
    server: ChatServer
    chance: random.Random
    before: Snapshot
    options: tuple[str, ...]
    marks: Sequence[str]
    orphans: Orphans
    wrong: list[str] = field(default_factory=list)
    kills: int = 0

    @property
    def applies(self) -> bool:
        return "--apply" in self.options

    def start(self, *, resume: bool = False, **more: str) -> subprocess.Popen[str]:
        """Start the run, or go on with the last one."""
        how = ("--resume", "last") if resume else self.options
        task = None if resume else "Fix add"
        return self.user.start_miyabi(*arguments(self.server, "--timeout", "3", *how, task=task), **more)

    def end(self, process: subprocess.Popen[str], expected: Sequence[int] = (0,)) -> int:
        """Wait for a process, and hold its exit code and what it said against what was promised; return the code."""
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            self.wrong.append(f"it did not end: {stderr[-300:]}")
        code = process.returncode
        if code == -9:
            return code
        said = stderr.strip().splitlines()[-2:]
        if code not in expected:
            self.wrong.append(f"exit {code}, not {' or '.join(map(str, expected))}: {said}")
        if code not in ENDS or "Traceback" in stderr:
            self.wrong.append(f"exit {code} is none that is promised: {said}")
        self._hold_report(code, stdout)
        return code

    def _hold_report(self, code: int, stdout: str) -> None:
        try:
            report = json.loads(stdout)
        except ValueError:
            self.wrong.append(f"exit {code}, and stdout is no JSON: {stdout[:200]!r}")
            return
        if code != 0 and report.get("error", {"exit_code": code})["exit_code"] != code:
            self.wrong.append(f"exit {code}, and the error says {report['error']['exit_code']}")

    def kill(self, process: subprocess.Popen[str]) -> int:
        """End a run by kill -9; return its exit code, which is another where it was quicker."""
        process.kill()
        self.kills += 1
        return self.end(process, (0,))

    def log_lines(self) -> int:
        """Return how many events the newest run has logged."""
        folders = self.user.run_folders()
        log = folders[-1] / "events.jsonl" if folders else Path("/dev/null")
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def can_resume(self) -> bool:
        """Say whether the newest run has begun, and has not ended."""
        folders = self.user.run_folders()
        if not folders or (folders[-1] / "result.json").exists():
            return False
        log = folders[-1] / "events.jsonl"
        return log.exists() and b'{"type":"run_started"' in log.read_bytes()

    def finish(self) -> None:
        """Go on with the run until it is done, and look at what it has made."""
        if self.can_resume():
            self.end(self.start(resume=True))
        elif not any((folder / "result.json").exists() for folder in self.user.run_folders()):
            self.end(self.start())
        self.hold_result()

    def hold_result(self) -> None:
        """The newest run has a result, with the bug mended and no mark left twice."""
        path = self.user.run_folders()[-1] / "result.json"
        if not path.exists():
            self.wrong.append("there is no result")
            return
        result = json.loads(path.read_text())
        marks = marks_in(result["patch"])
        if len(set(marks)) != len(marks):
            self.wrong.append(f"a tool ran twice: {marks}")
        if len(set(self.marks) - set(marks)) > self.kills:
            self.wrong.append(f"{self.kills} kills, and these marks are all there are: {marks}")
        if "+    return a + b" not in result["patch"]:
            self.wrong.append("the work is lost")
        if not self.applies and "a + b" not in self.user.git("show", f"{result['branch']}:calc.py"):
            self.wrong.append(f"the branch {result['branch']} is not the patch")

    def hold_repository(self) -> None:
        """What is the user's is as it was, and nothing is left lying about."""
        changed = changes(self.before, self.user.snapshot())
        if self.applies:
            changed -= APPLIED
        if changed:
            self.wrong.append(f"changed: {sorted(changed)}")
        if (fsck := self.user.run("git", "fsck", "--strict", "--no-dangling")).code:
            self.wrong.append(f"git fsck: {fsck.stderr[-300:]}")
        for branch in self.user.branches():
            if "a + b" not in self.user.run("git", "show", f"{branch}:calc.py").stdout:
                self.wrong.append(f"{branch} is half-made")
        if left := self.orphans.left():
            self.wrong.append(f"still running: {left[0][-200:]}")

    def hold_cleaning(self) -> None:
        """Once it is cleaned, no worktree is left."""
        cleaned = self.user.miyabi("worktrees", "clean", "--all")
        if cleaned.code or self.user.worktrees():
            self.wrong.append(f"worktrees stay: {cleaned.stderr[-300:]}")


@contextmanager
def scene(user: User, chance: random.Random) -> Iterator[Scene]:
    """Make a scene: files in every state, a script of a few tools, a server that fails now and then."""
    _fill(user, chance)
    marks = [f"mark-{number}" for number in range(chance.randint(1, 4))]
    turns: list[Any] = [marking(mark, seconds=chance.choice((0, 0, 0.1, 0.4))) for mark in marks]
    turns.insert(chance.randint(0, len(turns)), call("apply_patch", {"patch": FIX}))
    turns.insert(chance.randint(0, len(turns)), call("search", {"query": "add"}))
    turns.append(say("It adds now."))
    options = chance.choice(((), (), ("--branch", "miyabi/mine"), ("--apply",)))
    with chat_server(_moody(turns, chance)) as server, watching_for_orphans() as orphans:
        yield Scene(user, server, chance, user.snapshot(), options, marks, orphans)


def _moody(turns: Sequence[Any], chance: random.Random) -> Callable[[Any, Any], None]:
    """Play the turns in their order; a fault of the server comes before some."""
    faults = (
        send_error(500, {"error": {"message": "it broke"}}),
        send_error(429, {"error": {"message": "slowly"}}, {"Retry-After": "0"}),
        ended_early(marking("half")),
        garbled(turns[0]),
        broken_off,
        closed,
        hanging,
    )
    lock, in_a_row = threading.Lock(), 0

    def play(handler: Any, request: Any) -> None:
        nonlocal in_a_row
        with lock:
            fails = in_a_row < IN_A_ROW and chance.random() < OFTEN
            in_a_row = in_a_row + 1 if fails else 0
            fault = chance.choice(faults)
        (fault if fails else calm)(handler, request)

    def calm(handler: Any, request: Any) -> None:
        """Go on in the script; where a tool was interrupted, see first that the bug is mended all the same."""
        messages = request.json["messages"]
        stopped = [message for message in messages if str(message.get("content")).startswith("interrupted")]
        said = sum(message["role"] == "assistant" for message in messages) - len(stopped)
        mends = stopped and messages[-1] is stopped[-1]
        stream(handler, MENDING if mends else turns[min(said, len(turns) - 1)])

    return play


def _fill(user: User, chance: random.Random) -> None:
    """Bring some files of the user's, committed, staged, changed and unknown, a stash and a worktree."""
    lines = []
    for number in range(chance.randint(0, 20)):
        name = chance.choice(("plain", "with space", "ünïcode", "-dash", "deep/er/still", "quote'd"))
        path = f'"./{name}-{number}"'
        lines.append(f'mkdir -p "$(dirname {path})"; head -c {chance.randint(0, 5000)} /dev/urandom >{path}')
    lines.append("git add -A; git commit -qm more --allow-empty")
    states = (
        "echo staged >staged.txt; git add staged.txt",
        "echo changed >>README.md",
        "echo unknown >unknown.txt; mkdir -p sub; echo ignored >sub/x.log",
        "echo stashed >>.gitignore; git stash -q",
        "git worktree add -q ../linked -b other",
        "git gc -q",
        "git tag v1; git update-ref refs/remotes/origin/main HEAD",
    )
    lines += chance.sample(states, chance.randint(0, len(states)))
    user.shell("\n".join(lines))
