"""Faults over many seeds: `python -m tests.faults.soak --seconds 600 --seed 1`.

Each seed is a scene with one fault of the machine on top of the server's. What went wrong is told on stderr and in the
JSON on stdout, with its seed; the exit code is 1 then. The kernel's timing is not in the seed, so what one run finds
another may miss.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.scenes import Scene, scene
from tests.support.faults import KillingGit
from tests.support.scripts import arguments
from tests.support.users import User, make_user, ordinary_user

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LOCKS = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock")


def nothing(it: Scene) -> None:
    """Only the server fails."""
    it.end(it.start())
    it.hold_result()


def killed_at_a_moment(it: Scene) -> None:
    """kill -9 after some time, a few times."""
    for resume in (False, True, True)[: it.chance.randint(1, 3)]:
        if resume and not it.can_resume():
            break
        process = it.start(resume=resume)
        time.sleep(it.chance.uniform(0, 2))
        it.kill(process)
    it.finish()


def killed_at_an_event(it: Scene) -> None:
    """kill -9 when the log has come to a line."""
    process = it.start()
    _wait_for_line(it, process)
    it.kill(process)
    it.finish()


def killed_by_git(it: Scene) -> None:
    """kill -9 while git works for it, and git goes on."""
    it.kills += 1
    at = it.chance.randint(1, 30)
    ran = KillingGit(it.user).run(*arguments(it.server, "--timeout", "3", *it.options), kill_at=at)
    if ran.code not in (0, -9):
        it.wrong.append(f"exit {ran.code}: {ran.stderr[-300:]}")
    it.finish()


def signalled(it: Scene) -> None:
    """A signal, and another process that goes on."""
    number = it.chance.choice(list(SIGNALS))
    process = it.start()
    _wait_for_line(it, process)
    process.send_signal(number)
    it.kills += 1
    it.end(process, (0, SIGNALS[number]))
    it.finish()


def torn(it: Scene) -> None:
    """kill -9, and the last line of the log is torn."""
    process = it.start()
    _wait_for_line(it, process)
    if it.kill(process) == -9 and it.can_resume():
        log = it.user.run_folders()[-1] / "events.jsonl"
        line = it.chance.choice(log.read_bytes().splitlines())
        with log.open("ab") as file:
            file.write(line[: it.chance.randint(1, len(line) - 1)])
    it.finish()


def full(it: Scene) -> None:
    """A disk of a random size below miyabi's own folders."""
    folder = it.user.home / it.chance.choice(("data", "cache"))
    it.user.shell(f"mkdir -p {folder}")
    it.before = it.user.snapshot()
    size = it.chance.choice((50_000, 100_000, 200_000, 400_000, 1_000_000))
    mount = f'mount -t tmpfs -o size={size} none {folder} || exit 99; exec "$@"'
    given = arguments(it.server, "--timeout", "3", *it.options)
    argv = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", it.user.python, "-m", "miyabi_cli")
    it.end(it.user.start(*argv, *given), (0, 4))


def twins(it: Scene) -> None:
    """Several runs at once: all that name no branch make one."""
    count = it.chance.choice((2, 2, 3, 8))
    codes = [it.end(process, (0, 4)) for process in [it.start() for _ in range(count)]]
    if not it.options and (codes != [0] * count or len(it.user.branches()) != count):
        it.wrong.append(f"{count} runs at once: {codes}, {it.user.branches()}")
    if 0 not in codes:
        it.wrong.append(f"of {count} runs at once none has come to its end: {codes}")


def locked(it: Scene) -> None:
    """Locks that dead processes left: git's in the repository, and in the worktree of a run that was killed."""
    found = it.chance.sample(LOCKS, it.chance.randint(1, len(LOCKS)))
    for name in found:
        (it.user.repository / ".git" / name).touch()
    it.before = it.user.snapshot()
    process = it.start()
    _wait_for_line(it, process)
    it.kill(process)
    for tree in it.user.worktrees():
        (tree.parent / "index.lock").touch()
    it.finish()


WAYS: tuple[Callable[[Scene], None], ...] = (
    nothing,
    killed_at_a_moment,
    killed_at_an_event,
    killed_by_git,
    signalled,
    torn,
    full,
    twins,
    locked,
)


def _wait_for_line(it: Scene, process: subprocess.Popen[str]) -> None:
    line = it.chance.randint(1, 12)
    end = time.monotonic() + 30
    while it.log_lines() < line and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)


@contextmanager
def _someone(chance: random.Random) -> Iterator[User]:
    """Make a user: whoever runs this or, where root does, in half of the cases an ordinary one."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        if os.geteuid() == 0 and shutil.which("setpriv") and chance.random() < 0.5:
            with ordinary_user(Path(folder)) as user:
                yield user
        else:
            yield make_user(Path(folder))


def play(seed: int) -> tuple[str, list[str]]:
    """Play the scene of a seed; return the way of its fault, and what went wrong."""
    chance = random.Random(seed)  # noqa: S311 - no secret is made of it
    way = chance.choice(WAYS)
    with _someone(chance) as user, scene(user, chance) as it:
        way(it)
        it.hold_repository()
        it.hold_cleaning()
        who = "ordinary" if user.as_user else "me"
        return f"{way.__name__} {who}", it.wrong


def soak(first: int, seconds: float, count: int | None) -> dict[str, Any]:
    """Play seed after seed for so long, or so many; return the summary."""
    started = time.monotonic()
    played: Counter[str] = Counter()
    violations: list[dict[str, Any]] = []
    seed = first
    while (time.monotonic() - started < seconds) if count is None else (seed - first < count):
        way, wrong = play(seed)
        played[way] += 1
        violations += [{"seed": seed, "way": way, "what": what} for what in wrong]
        print(f"{seed} {way}: {'; '.join(wrong) or 'held'}", file=sys.stderr, flush=True)
        seed += 1
    spent = round(time.monotonic() - started, 1)
    return {"first": first, "seeds": seed - first, "seconds": spent, "ways": dict(played), "violations": violations}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to go on")
    parser.add_argument("--count", type=int, help="how many seeds, whatever the time")
    given = parser.parse_args()
    summary = soak(given.seed, given.seconds, given.count)
    print(json.dumps(summary, indent=2))
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
