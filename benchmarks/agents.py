"""Many agents in one process: memory, requests a minute, processor time for a step.

    python benchmarks/agents.py [--agents 1,10,100] [--steps N] [--files N] [--delay SECONDS] [--sandbox auto|off]

The real command line: `codegen --tasks FILE --jobs N` does as many tasks as there are agents, without checks, each in a
worktree of its own, and all of them in one process. A model's server in another process answers each request after
`--delay` (default 50 ms) with a call of open_file, search, exec or apply_patch, and at last in words. Memory is the
peak of miyabi's process; the commands of the sandbox are processes of their own. Every task has to end with its patch,
and no process and no worktree may be left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402
from benchmarks.streaming import HEAD, LAST, event  # noqa: E402

LINES = 80_000  # of the whole repository


@dataclass(frozen=True)
class Cost:
    """What a process has taken: wall and processor seconds, and its peak memory in MiB."""

    seconds: float
    processor: float
    memory_mib: float


def main() -> None:
    """Measure each number of agents, or be the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="1,10,100", help="agents at once (default 1,10,100)")
    parser.add_argument("--steps", type=int, default=20, help="requests of each agent (default 20)")
    parser.add_argument("--files", type=int, default=200, help="files of the repository (default 200)")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds until the server answers (default 0.05)")
    parser.add_argument("--sandbox", choices=("auto", "off"), default="auto")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.steps, options.delay))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run each number of agents in a fresh process and print a table."""
    print(f"Machine: {machine()}; {options.files:,} files\n")
    print("| agents | steps each | seconds | requests a minute | processor ms a step | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, server(options) as url:
        repository = make_repository(Path(folder), options.files)
        for count in map(int, options.agents.split(",")):
            cost = work(url, repository, count, options)
            requests = count * options.steps
            cells = (
                str(count),
                str(options.steps),
                f"{cost.seconds:.1f}",
                f"{requests / cost.seconds * 60:,.0f}",
                f"{cost.processor / requests * 1000:.1f}",
                f"{cost.memory_mib:.0f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def make_repository(folder: Path, files: int) -> Path:
    """Make a repository of some thousand lines."""
    repository = folder / "repository"
    repository.mkdir()
    for number in range(files):
        lines = range(max(4, LINES // files))
        text = "".join(f"def function_{number}_{line}(x): return x + {line}\n" for line in lines)
        module = repository / (f"module_{number}.py" if number < 200 else f"package_{number % 100}/module_{number}.py")
        module.parent.mkdir(exist_ok=True)
        module.write_text(text)
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", repository, *command], check=True)
    return repository


def work(url: str, repository: Path, count: int, options: argparse.Namespace) -> Cost:
    """Run the agents at once; return what miyabi's process took."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tasks, results = home / "tasks.jsonl", home / "results.jsonl"
        tasks.write_text(
            "".join(json.dumps({"id": f"{number}", "task": "Change it."}) + "\n" for number in range(count))
        )
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "miyabi_cli",
            "codegen",
            "--tasks",
            tasks,
            "--jobs",
            str(count),
            "--no-checks",
        ]
        command += ["--endpoint", url, "--model", "gpt-oss-20b", "--sandbox", options.sandbox, "--quiet"]
        command += ["--output", results, "--repo", repository, "--max-steps", str(options.steps + 1)]
        places = {f"MIYABI_{name}_DIR": str(home / name.lower()) for name in ("DATA", "CACHE", "CONFIG")}
        environment = {**os.environ, **places, "PYTHONPATH": str(ROOT)}
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        done = [line for line in lines if line.get("commit") and line["usage"]["requests"] == options.steps]
        assert (process.returncode, len(done)) == (0, count), (process.returncode, lines[:3])
        assert not list((home / "cache/worktrees").glob("*/*")), "a worktree is left"
        assert str(home) not in subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """Run the model's server in a process of its own."""
    command = [sys.executable, __file__, "--serve", "--steps", str(options.steps), "--delay", str(options.delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def serve(steps: int, delay: float) -> None:
    """Answer each conversation's next step, which is told by the replies that it holds."""
    replies = [reply(step, steps) for step in range(steps)]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(lines[b"content-length"]))
                await asyncio.sleep(delay)
                writer.write(replies[body.count(b'"role":"assistant"') % steps])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000, limit=1 << 20)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


def reply(step: int, steps: int) -> bytes:
    """Return what the model says at a step."""
    thought = event(delta={"reasoning": f"Step {step}: what comes next has to be looked at with care. " * 5})
    if step == steps - 1:
        return HEAD + thought + event(delta={"content": "It is done."}) + LAST
    name, arguments = (
        ("open_file", {"path": f"module_{step}.py", "line_start": step * 10, "line_end": step * 10 + 80}),
        ("search", {"path": "", "query": f"function_{step}_7"}),
        ("exec", {"cmd": ["bash", "-lc", f"sed -n 1,50p module_{step}.py"]}),
        ("apply_patch", {"patch": f"*** Begin Patch\n*** Add File: note.txt\n+{step}\n*** End Patch"}),
    )[step % 4]
    call = {"index": 0, "id": f"call_{step}", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return HEAD + thought + event(delta={"tool_calls": [call]}) + LAST


if __name__ == "__main__":
    main()
