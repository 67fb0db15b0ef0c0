"""Many agents in one process: memory, requests a minute, processor time for a step.

    python benchmarks/agents.py [--agents 1,10,100] [--steps N] [--delay SECONDS] [--sandbox auto|off]

Each agent is a whole `codegen` without checks, in a worktree of its own, and all of them share one process, one
provider and its connections. A model's server in another process answers each request after `--delay` (default 50 ms)
with a call of open_file, search, exec or apply_patch, and at last in words. Memory is the peak of the process, all
agents and miyabi itself together; the commands of the sandbox are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402
from benchmarks.streaming import HEAD, LAST, event  # noqa: E402

FILES = 200
LINES = 400


def main() -> None:
    """Measure each number of agents, or be one of the processes that it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="1,10,100", help="agents at once (default 1,10,100)")
    parser.add_argument("--steps", type=int, default=20, help="requests of each agent (default 20)")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds until the server answers (default 0.05)")
    parser.add_argument("--sandbox", choices=("auto", "off"), default="auto")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--be", nargs=3, metavar=("URL", "REPOSITORY", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.steps, options.delay))
    elif options.be:
        url, repository, count = options.be
        print(json.dumps(asyncio.run(work(url, Path(repository), int(count), options.steps, options.sandbox))))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run each number of agents in a fresh process and print a table."""
    print(f"Machine: {machine()}\n")
    print("| agents | steps each | seconds | requests a minute | processor ms a step | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, server(options) as url:
        repository = make_repository(Path(folder))
        for count in options.agents.split(","):
            flags = ["--steps", str(options.steps), "--sandbox", options.sandbox, "--be", url, str(repository), count]
            environment = {"MIYABI_DATA_DIR": f"{folder}/data", "MIYABI_CACHE_DIR": f"{folder}/cache"}
            output = subprocess.run(
                [sys.executable, __file__, *flags],
                check=True,
                stdout=subprocess.PIPE,
                env={**os.environ, **environment},
            )
            took = json.loads(output.stdout)
            requests = int(count) * options.steps
            cells = (
                count,
                str(options.steps),
                f"{took['seconds']:.1f}",
                f"{requests / took['seconds'] * 60:,.0f}",
                f"{took['processor'] / requests * 1000:.1f}",
                f"{took['memory_mib']:.0f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def make_repository(folder: Path) -> Path:
    """Make a repository of some thousand lines."""
    repository = folder / "repository"
    repository.mkdir()
    for number in range(FILES):
        lines = "".join(f"def function_{number}_{line}(x): return x + {line}\n" for line in range(LINES))
        (repository / f"module_{number}.py").write_text(lines)
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", repository, *command], check=True)
    return repository


async def work(url: str, repository: Path, count: int, steps: int, sandbox: str) -> dict[str, float]:
    """Run the agents at once; return seconds, processor seconds and the peak memory of this process."""
    from miyabi_cli.codegen.request import CodegenRequest, Delivery
    from miyabi_cli.codegen.run import run_codegen
    from miyabi_cli.commands import flags
    from miyabi_cli.commands.begun import Begun
    from miyabi_cli.commands.means import open_means
    from miyabi_cli.events import Event
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.runs import new_run_id, open_log

    request = CodegenRequest("Change it.", checks_wanted=False, folder=repository, delivery=Delivery("patch"))
    chosen = flags.nested({**flags.provider_flags("openai", "gpt-oss-20b", url), "sandbox.mode": sandbox})
    streams = open_streams(None, color="never", quiet=True, verbose=False)
    async with open_means(request, chosen, None, Progress(streams), Begun()) as means:

        async def agent() -> int:
            run_id = new_run_id()
            with open_log(run_id) as log:

                def emit(event: Event) -> None:
                    log.write(event)

                result = await run_codegen(
                    replace(request), means, run_id=run_id, emit=emit, keep=lambda patch: log.keep("patch", patch)
                )
            assert result.files_created == ("note.txt",), result
            return result.usage.requests

        started, used = time.perf_counter(), time.process_time()
        requests = await asyncio.gather(*(agent() for _ in range(count)))
        seconds, used = time.perf_counter() - started, time.process_time() - used
    assert sum(requests) == count * steps, requests
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "processor": used, "memory_mib": memory}


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
