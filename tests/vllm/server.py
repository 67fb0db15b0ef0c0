"""Starts and stops a real vLLM that serves the tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent
MODEL = "openai/gpt-oss-20b"
WINDOW = 32768
BOOT_SECONDS = 600
FLAGS = (
    *("--served-model-name", MODEL, "--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager"),
    *("--max-model-len", str(WINDOW), "--max-num-seqs", "8"),
    *("--tool-call-parser", "openai", "--enable-auto-tool-choice", "--enable-prompt-tokens-details"),
    *("--logits-processors", "tests.vllm.scripted:ScriptedTurns"),
)


@dataclass(frozen=True)
class VllmServer:
    """A running server; a prompt that holds what `script` returns is answered by the given turns."""

    url: str
    scripts: Path

    def script(self, *turns: str | Sequence[int], name: str = "") -> str:
        """Return a marker for a prompt. Each request with it takes the next turn; the last is kept."""
        name = name or uuid.uuid4().hex
        (self.scripts / f"{name}.json").write_text(json.dumps(turns))
        return f"script:{name}"

    def gauge(self, name: str) -> float:
        """Return a figure of the server's metrics, such as `vllm:num_requests_running`."""
        found = re.search(rf"(?m)^{re.escape(name)}(?:{{.*}})? (\S+)$", httpx.get(f"{self.url}/metrics").text)
        return float(found[1]) if found else 0.0

    def answered(self, path: str) -> float:
        """Return how many requests for a path were answered with 200."""
        return self.gauge(f'http_requests_total{{handler="{path}",method="POST",status="2xx"}}')

    def running(self) -> float:
        """Return how many requests are being answered or wait for it."""
        return self.gauge("vllm:num_requests_running") + self.gauge("vllm:num_requests_waiting")


@contextmanager
def vllm_server(environment: Path, folder: Path) -> Iterator[VllmServer]:
    """Serve from the virtual environment `environment` until the block ends; `folder` holds model, scripts and log."""
    scripts, model, log = folder / "scripts", folder / "model", folder / "log"
    scripts.mkdir()
    binaries = environment.resolve() / "bin"
    subprocess.run([binaries / "python", "-m", "tests.vllm.model", model], check=True, cwd=ROOT)
    port = free_port()
    command = [binaries / "vllm", "serve", model, "--host", "127.0.0.1", "--port", str(port), *FLAGS]
    variables = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "MIYABI_VLLM_SCRIPTS": str(scripts),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_healthy(process, f"http://127.0.0.1:{port}", log)
        yield VllmServer(f"http://127.0.0.1:{port}", scripts)
    finally:
        stop(process)


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"vLLM did not start:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers: they share a process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
