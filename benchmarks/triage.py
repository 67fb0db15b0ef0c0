"""Issues a second through `miyabi triage`, against what plain httpx reaches: python benchmarks/triage.py [ISSUES].

A local server answers each request after 50 ms; 100 are on their way at a time. Both ways send the same bytes, and read
the whole stream. The server is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

PARALLEL = 100
SECONDS = 0.05
ANSWER = {"type": "bug", "severity": "Sev.3", "priority": "P2", "summary": "It crashes."}


def reply() -> bytes:
    """Return a chat completion as a server streams it."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = {"index": 0, "delta": {"role": "assistant", "content": json.dumps(ANSWER)}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 800, "completion_tokens": 40}
    chunks = [{**head, "choices": [said]}, {**head, "choices": [ended]}, {**head, "choices": [], "usage": usage}]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    lines = ("HTTP/1.1 200 OK", "content-type: text/event-stream", f"content-length: {len(body)}", "", body)
    return "\r\n".join(lines).encode()


async def serve() -> None:
    """Answer until the process is ended; print the port."""
    answer = reply()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].split("\r\n")[0] or 0)
                await reader.readexactly(length)
                await asyncio.sleep(SECONDS)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def plain(url: str, count: int) -> float:
    """Return the requests a second of httpx alone."""
    limits = httpx.Limits(max_connections=PARALLEL)
    left = iter(range(count))
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 5_000}]})
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def work() -> None:
            for _ in left:
                async with client.stream("POST", f"{url}/v1/chat/completions", content=body) as response:
                    async for _block in response.aiter_bytes():
                        pass

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(PARALLEL)))
    return count / (time.perf_counter() - started)


def triaged(url: str, count: int, folder: Path) -> float:
    """Return the rows a second of `miyabi triage`, from the first row to the last."""
    file = folder / "issues.jsonl"
    issues = ({"number": n, "title": f"It crashes on {n}", "body": f"Steps: {n * 7919}"} for n in range(1, count + 1))
    file.write_text("".join(json.dumps(issue) + "\n" for issue in issues))
    command = [sys.executable, "-m", "miyabi_cli", "triage", "--file", str(file), "--endpoint", url, "--model", "m"]
    environ = {**os.environ, "MIYABI_DATA_DIR": str(folder / "data"), "MIYABI_CONFIG_DIR": str(folder / "config")}
    with subprocess.Popen(
        [*command, "--format", "jsonl", "--jobs", str(PARALLEL)], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        times = [time.perf_counter() for line in process.stdout if '"source":"llm"' in line]
    assert len(times) == count
    return (count - PARALLEL) / (times[-1] - times[PARALLEL - 1])


def main() -> None:
    """Measure both, and print what they come to."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
        return
    count = int(sys.argv[1]) if sys.argv[1:] else 2_000
    with (
        subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            alone = asyncio.run(plain(url, count))
            rows = triaged(url, count, Path(folder))
        finally:
            server.terminate()
    print(f"httpx {alone:.0f}/s, miyabi triage {rows:.0f}/s: {100 * rows / alone:.0f} %")


if __name__ == "__main__":
    main()
