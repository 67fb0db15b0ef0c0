"""How true `miyabi bench serve` measures: against a server that logs when it really sent each token, beside guidellm.

    python benchmarks/load_accuracy.py [--rate 200] [--seconds 30] [--tokens 16] [--guidellm PYTHON]

The server is a process of its own that keeps to a schedule and logs it: when a request's first byte was there, when its
first token was written, when its last. Both tools put the same load on it, one after the other: so many requests a
second, at random. The error of a request is what a tool says less what the server logged. The server's delay to the
first token swings slowly between 20 and 100 ms, so that requests which come at almost the same time have almost the
same one: those of a tool that tells no ids are matched in the order of sending.

guidellm is taken part in where --guidellm names the Python of a virtual environment that has it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402

MODEL = "openai/gpt-oss-20b"
MIDDLE, SWING, PERIOD = 0.060, 0.040, 3.0  # seconds
GAP = 0.010  # seconds between tokens
INPUT_TOKENS = 128
NUMBERS = itertools.count()
GOALS = (1.5, 5.0)  # ms at the median and at the 99th percentile


def main() -> None:
    """Measure with each tool in turn, or be the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default 200)")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of each load (default 30)")
    parser.add_argument("--tokens", type=int, default=16, help="tokens of a reply (default 16)")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals (default 1)")
    parser.add_argument("--guidellm", type=Path, help="the Python of an environment that has guidellm")
    parser.add_argument("--serve", type=Path, metavar="LOG", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    print(f"Machine: {machine()}")
    print(f"Load: {options.rate:g} requests a second for {options.seconds:g} s, {options.tokens} tokens each\n")
    print("| tool | requests | a second | p50, true | measured | p99, true | measured | error p50 | p99 | worst |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    tools = {"miyabi": by_miyabi, **({"guidellm": by_guidellm} if options.guidellm else {})}
    for name, measure in tools.items():
        with tempfile.TemporaryDirectory() as folder:
            write_prompts(Path(folder) / "prompts.jsonl", options)
            with server(Path(folder)) as (url, log):
                seen = measure(url, options, Path(folder))
            print(row(name, paired(seen, read_log(log)), options), flush=True)


@dataclass(frozen=True)
class Seen:
    """What a tool says of one request: milliseconds to its first token; `id`: the reply's, where the tool tells it."""

    first_ms: float
    id: str = ""


def paired(seen: list[Seen], log: dict[str, dict[str, float]]) -> list[tuple[float, float]]:
    """Return the true and the measured milliseconds of each request, by the id or in the order of sending."""
    in_order = sorted(log.values(), key=lambda one: one["came"])
    assert all(one.id for one in seen) or len(seen) == len(in_order), f"{len(seen)} were measured of {len(in_order)}"
    truths = [log[one.id] if one.id else truth for one, truth in zip(seen, in_order, strict=False)]
    return [(1000 * (truth["first"] - truth["came"]), one.first_ms) for one, truth in zip(seen, truths, strict=True)]


def row(name: str, pairs: list[tuple[float, float]], options: argparse.Namespace) -> str:
    """Return a line of the table, times in milliseconds."""
    true, measured = (sorted(column) for column in zip(*pairs, strict=True))
    errors = sorted(abs(seen - real) for real, seen in pairs)
    halves = [f"{share(column, 0.5):.2f}" for column in (true, measured)]
    ends = [f"{share(column, 0.99):.2f}" for column in (true, measured)]
    wrong = [f"{share(errors, 0.5):.3f}", f"{share(errors, 0.99):.3f}", f"{errors[-1]:.3f}"]
    if name == "miyabi" and not (share(errors, 0.5) < GOALS[0] and share(errors, 0.99) < GOALS[1]):
        wrong[-1] += " (past the goal)"
    rate = f"{len(pairs) / options.seconds:.1f}"
    return f"| {name} | {len(pairs)} | {rate} | {' | '.join([*halves, *ends, *wrong])} |"


def share(ordered: list[float], part: float) -> float:
    """Return the value under which a part of a sorted sample lies."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def write_prompts(path: Path, options: argparse.Namespace) -> None:
    """Write enough prompts for a load, as both tools read them."""
    from miyabi_cli.bench.load.prompts import counted

    wishes = itertools.islice(counted(INPUT_TOKENS, None, 0, options.seed), int(options.rate * options.seconds * 1.3))
    tokens = {"output_tokens": options.tokens, "output_tokens_count": options.tokens}
    path.write_text("".join(json.dumps({"prompt": wish.text, **tokens}) + "\n" for wish in wishes))


def by_miyabi(url: str, options: argparse.Namespace, folder: Path) -> list[Seen]:
    """Return what miyabi measures, in the order of sending."""
    output = folder / "miyabi.json"
    command = [sys.executable, "-m", "miyabi_cli", "bench", "serve", "--endpoint", url, "--model", MODEL, "--quiet"]
    command += ["--rate", str(options.rate), "--duration", str(options.seconds), "--seed", str(options.seed)]
    command += ["--prompts", str(folder / "prompts.jsonl"), "--output", str(output)]
    places = {f"MIYABI_{name}_DIR": str(folder / name) for name in ("DATA", "CONFIG", "CACHE")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **places}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (result,) = json.loads(output.read_text())["results"]
    assert not result["errors"], result["error_details"]
    lag, delay = (result["generator"][name]["p99"] for name in ("lag_ms", "loop_delay_ms"))
    print(f"miyabi says of itself: lag {lag} ms and late timers {delay} ms at p99", file=sys.stderr)
    return [Seen(time) for time in result["samples_ms"]["ttft_ms"]]


def by_guidellm(url: str, options: argparse.Namespace, folder: Path) -> list[Seen]:
    """Return what guidellm measures by its Poisson profile; requests that it cut off at its end are not among them."""
    output = folder / "guidellm.json"
    command = [str(options.guidellm.absolute()), "-m", "guidellm", "run", "--disable-console"]
    command += ["--backend", f"kind=openai_http,target={url},model={MODEL},request_format=/v1/chat/completions"]
    command += ["--profile", f"kind=poisson,rate={options.rate:g}"]
    command += ["--constraint", f"kind=max_duration,seconds={options.seconds:g}"]
    command += ["--data", f"kind=json_file,path={folder / 'prompts.jsonl'}", "--output", f"kind=json,path={output}"]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (benchmark,) = json.loads(output.read_text())["benchmarks"]
    times = [(one["info"]["timings"], one["response_id"]) for one in benchmark["requests"]["successful"]]
    return [Seen(1000 * (one["first_token_iteration"] - one["request_start"]), name) for one, name in times]


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run the server; give its address, and the log that is whole once it has ended."""
    log = folder / "log.jsonl"
    command = [sys.executable, __file__, "--serve", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), log
        finally:
            process.terminate()
            process.wait()


def read_log(log: Path) -> dict[str, dict[str, float]]:
    """Return what the server logged of each reply, by the reply's id."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {row["id"]: row for row in rows}


async def serve(log: Path) -> None:
    """Serve until the process is ended; the log is written as each reply ends."""
    loop = asyncio.get_running_loop()
    with log.open("w", buffering=1) as file:
        served = await loop.create_server(lambda: Player(file), "127.0.0.1", 0)
        print(f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}", flush=True)
        await served.serve_forever()


@dataclass
class Player(asyncio.Protocol):
    """One connection of a server of chat completions that knows nothing but its schedule."""

    log: Any
    received: bytes = b""
    came: float = 0.0
    first: float = 0.0
    due: float = 0.0
    left: int = 0
    name: str = ""
    asked: dict[str, Any] = field(default_factory=dict)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.received:
            self.came = time.perf_counter()
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if not end or len(body) < int(names.get(b"content-length", 0)):
            return
        self.received = b""
        if not head.startswith(b"POST"):
            self.answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            return
        self.asked, self.name = json.loads(body), f"chatcmpl-{next(NUMBERS)}"
        if not self.asked.get("stream"):
            message = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
            self.answer({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
            return
        self.left = self.asked.get("max_completion_tokens") or self.asked.get("max_tokens") or 1
        self.first, self.due = 0.0, self.came + MIDDLE + SWING * math.sin(2 * math.pi * self.came / PERIOD)
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.schedule()

    def schedule(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, self.due - time.perf_counter()), self.write_token)

    def write_token(self) -> None:
        if self.transport.is_closing():
            return
        moment = time.perf_counter()
        self.first = self.first or moment
        self.send({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]})
        self.left -= 1
        if self.left:
            self.due += GAP
            self.schedule()
            return
        prompt = len(str(self.asked.get("messages"))) // 5
        usage = {"prompt_tokens": prompt, "completion_tokens": 16, "total_tokens": prompt + 16}
        self.send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.send({"choices": [], "usage": usage})
        data = b"data: [DONE]\n\n"
        self.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
        self.log.write(json.dumps({"id": self.name, "came": self.came, "first": self.first, "last": moment}) + "\n")

    def send(self, chunk: dict[str, Any]) -> None:
        head = {"id": self.name, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        data = f"data: {json.dumps({**head, **chunk})}\n\n".encode()
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


if __name__ == "__main__":
    main()
