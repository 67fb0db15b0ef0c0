"""How fast streams are read: tokens a second of one process, beside the openai SDK and plain httpx.

    python benchmarks/streaming.py [--streams 1,10,100] [--tokens N] [--rounds N] [--clients miyabi,httpx,openai]

Each client is a process of its own against the same server, a third process, one after the other in every round; the
median of the rounds is printed as Markdown. The SDK is taken part in where it is installed: pip install openai.
`flood`: the server writes as fast as it is read, one HTTP chunk a token, as vLLM sends them. `paced`: each stream gets
50 tokens a second, and what counts is the processor time for a token. First token: what a client adds to the time at
which the server's first byte is there, over a warm connection.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.overhead import machine  # noqa: E402

PACE = 50.0  # tokens a second of one paced stream
PACED_TOKENS = 100
FIRST_TOKENS = 50  # requests whose first token is timed
MODEL = "openai/gpt-oss-20b"
SLICE = 64  # tokens of one write

Ask = Callable[[str], Awaitable["Read"]]


class Read:
    """What a client saw of one stream: its tokens, and when the first was there."""

    def __init__(self) -> None:
        self.tokens = 0
        self.first = 0.0

    def token(self) -> None:
        if not self.tokens:
            self.first = time.perf_counter()
        self.tokens += 1


def main() -> None:
    """Measure all clients, or be one of the processes that it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="1,10,100", help="parallel streams (default 1,10,100)")
    parser.add_argument("--tokens", type=int, default=60_000, help="tokens of a flood, all streams together")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--clients", default="miyabi,httpx,openai", help="clients to measure")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--be", nargs=4, metavar=("CLIENT", "MODE", "URL", "STREAMS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    elif options.be:
        client, mode, url, streams = options.be
        print(json.dumps(asyncio.run(measure(CLIENTS[client], mode, url, int(streams), options.tokens))))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run every client in turn and print the medians."""
    installed = [name for name in options.clients.split(",") if name != "openai" or importlib.util.find_spec("openai")]
    print(f"Machine: {machine()}\n")
    print("| streams | mode | " + " | ".join(installed) + " | miyabi's ratio |")
    print("|---|---|" + "---|" * (len(installed) + 1))
    with server() as url:
        for mode in ("flood", "paced", "first"):
            for streams in (1,) if mode == "first" else map(int, options.streams.split(",")):
                figures = rounds(installed, mode, url, streams, options)
                print(f"| {streams} | {UNITS[mode][0]} | {' | '.join(row(figures, mode))} |", flush=True)


UNITS = {
    "flood": ("tokens a second", "tokens_per_second", "{:,.0f}"),
    "paced": ("µs of processor a token", "cpu_us_per_token", "{:.0f}"),
    "first": ("ms added to the first token", "first_token_ms", "{:.2f}"),
}


def row(figures: dict[str, float], mode: str) -> list[str]:
    """Return the cells of one line; the ratio says how many times better miyabi is than each other client."""
    form = UNITS[mode][2]
    own = figures["miyabi"]
    others = {name: value for name, value in figures.items() if name != "miyabi"}
    better = {name: own / value if mode == "flood" else value / own for name, value in others.items()}
    return [form.format(value) for value in figures.values()] + [
        ", ".join(f"{ratio:.1f} times {name}" for name, ratio in better.items())
    ]


def rounds(clients: list[str], mode: str, url: str, streams: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the median figure of each client; in each round they come one after the other."""
    taken: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(options.rounds):
        for name in clients:
            command = [sys.executable, __file__, "--tokens", str(options.tokens), "--be", name, mode, url, str(streams)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            taken[name].append(json.loads(output)[UNITS[mode][1]])
    return {name: statistics.median(values) for name, values in taken.items()}


async def measure(
    client: Callable[[str], AsyncIterator[Ask]], mode: str, url: str, streams: int, tokens: int
) -> dict[str, float]:
    """Read `streams` at once with one client; return its figures."""
    async for ask in client(url):
        await ask("1@0")  # imports, the connection
        if mode == "first":
            return {"first_token_ms": statistics.median([await first_token(ask) for _ in range(FIRST_TOKENS)])}
        each = tokens // streams if mode == "flood" else PACED_TOKENS
        wanted = f"{each}@{0 if mode == 'flood' else PACE}"
        started, used = time.perf_counter(), time.process_time()
        reads = await asyncio.gather(*(ask(wanted) for _ in range(streams)))
        seconds, used = time.perf_counter() - started, time.process_time() - used
        total = sum(read.tokens for read in reads)
        assert total >= each * streams, f"{total} tokens of {each * streams} came"
        return {"tokens_per_second": total / seconds, "cpu_us_per_token": used / total * 1e6}
    raise AssertionError


async def first_token(ask: Ask) -> float:
    """Return the milliseconds from the server's write of the first token until the client's caller has it."""
    await asyncio.sleep(0.01)
    return ((await ask("1@-1")).first - (await asyncio.to_thread(sent_at))) * 1000


def sent_at() -> float:
    """Return when the server last wrote a first token: both read the machine's monotonic clock."""
    return float(STAMP.read_text())


def stamp() -> None:
    STAMP.write_text(str(time.perf_counter()))


STAMP = Path(tempfile.gettempdir()) / f"miyabi-streaming-{os.getuid()}"


async def miyabi(url: str) -> AsyncIterator[Ask]:
    from miyabi_cli.llm.openai import open_openai
    from miyabi_cli.messages import Delta, Message

    async with open_openai(url, MODEL) as provider:

        async def ask(prompt: str) -> Read:
            read = Read()
            async for piece in provider.chat([Message("user", prompt)]):
                if isinstance(piece, Delta):
                    if not read.tokens:
                        read.token()
                        read.tokens = 0
                    read.tokens += piece.text.count(" ")
            return read

        yield ask


async def httpx(url: str) -> AsyncIterator[Ask]:
    import httpx as library

    async with library.AsyncClient(trust_env=False, limits=library.Limits(max_connections=None)) as client:

        async def ask(prompt: str) -> Read:
            read = Read()
            body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=600) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        choices = json.loads(line[6:])["choices"]
                        if choices and choices[0]["delta"].get("content"):
                            read.token()
            return read

        yield ask


async def openai(url: str) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=600) as client:

        async def ask(prompt: str) -> Read:
            read = Read()
            stream = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    read.token()
            return read

        yield ask


CLIENTS = {"miyabi": miyabi, "httpx": httpx, "openai": openai}


@contextmanager
def server() -> Iterator[str]:
    """Run the server in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        STAMP.unlink(missing_ok=True)


def event(**choice: object) -> bytes:
    """Return one chunk of a chat completion as vLLM sends it: an event in an HTTP chunk."""
    data = {
        "id": "chatcmpl-5d2c1c8c8f0e4f0f9a3f7f1f3a1b2c3d",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": MODEL,
        "choices": [{"index": 0, "logprobs": None, "finish_reason": None, **choice}],
    }
    payload = b"data: " + json.dumps(data).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(payload), payload)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = event(delta={"content": " token", "reasoning": None})
LAST = event(delta={}, finish_reason="stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def serve() -> None:
    """Answer each request `TOKENS@PACE` in the last message's content with so many tokens; a pace of 0 is none."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = json.loads(await reader.readexactly(int(lines[b"content-length"])))
                tokens, pace = body["messages"][-1]["content"].split("@")
                await answer(writer, int(tokens), float(pace))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


async def answer(writer: asyncio.StreamWriter, tokens: int, pace: float) -> None:
    """Write one reply; a pace below 0 notes the moment of its first token."""
    writer.write(HEAD)
    if pace < 0:
        stamp()
    if pace > 0:
        began = time.perf_counter()
        for number in range(tokens):
            await asyncio.sleep(began + number / pace - time.perf_counter())
            writer.write(TOKEN)
    else:
        for begin in range(0, tokens, SLICE):
            writer.write(TOKEN * min(SLICE, tokens - begin))
            await writer.drain()
    writer.write(LAST)
    await writer.drain()


if __name__ == "__main__":
    main()
