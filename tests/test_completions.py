"""Completion in real shells: installed by the documented line or from the scripts, commands, flags and live values."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT

SECONDS = 60.0  # for a shell to answer, on a machine that is busy
RUN = "20260102-030405-abcdef"
SCRIPTS = ROOT / "completions"

Environment = dict[str, str]
Git = Callable[..., str]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


@pytest.fixture
def user(environment: Environment, home: Path, tmp_path: Path) -> Environment:
    """A user who has miyabi on PATH and a run that was stopped."""
    command = tmp_path / "bin" / "miyabi"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {PYTHON} -m miyabi_cli "$@"\n')
    command.chmod(0o755)
    folder = home / "data/runs" / RUN
    folder.mkdir(parents=True)
    begun = {"type": "run_started", "task": "mend the\x1b[31m dates", "repository": "/r"}
    (folder / "events.jsonl").write_text(json.dumps(begun) + "\n")
    return {**environment, "PATH": f"{command.parent}:{environment['PATH']}", "TERM": "dumb", "PS1": "$ "}


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, words: str) -> None:
        """Read on until the words are shown."""
        deadline = time.monotonic() + SECONDS
        while words not in self.shown:
            ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
            assert ready, f"{words!r} is not in {self.shown!r}"
            self.shown += os.read(self._descriptor, 65_536).decode("utf-8", "replace")


@contextmanager
def shell(*command: str, environment: Environment, folder: Path) -> Iterator[Shell]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Shell(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def installed(name: str, user: Environment, folder: Path) -> None:
    """Install completion by the documented line, from within the shell that is to have it."""
    command = [program(name), "-c", "miyabi --install-completion; true"]
    done = subprocess.run(
        command, cwd=folder, env=user, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert f"{name} completion installed" in done.stdout, done.stderr


@pytest.mark.parametrize("by", ["script", "line"])
def test_bash_completes(by: str, user: Environment, home: Path, tmp_path: Path) -> None:
    if by == "line":
        installed("bash", user, tmp_path)
    else:
        (home / ".bashrc").write_text(f"source {SCRIPTS / 'miyabi.bash'}\n")
    with (home / ".bashrc").open("a") as file:
        file.write("PS1='$ '\n")
    with shell(program("bash"), "-i", environment=user, folder=tmp_path) as bash:
        bash.wait_for("$ ")
        bash.type("miyabi codeg\t")
        bash.wait_for("codegen ")
        bash.type("--prov\t")
        bash.wait_for("--provider ")
        bash.type("embed\t")
        bash.wait_for("embedded ")
        bash.type("-m smol\t")
        bash.wait_for("smollm2-135m ")
        bash.type("--resume 2026\t")
        bash.wait_for(RUN)
        if by == "script":  # what --install-completion writes completes nothing with a colon
            bash.type("\x15miyabi codegen -p ollama -m gpt-oss:2\t")
            bash.wait_for("gpt-oss:20b ")
            bash.type("--model=gpt-oss:1\t")
            bash.wait_for("--model=gpt-oss:120b ")


@pytest.mark.parametrize("by", ["script", "line"])
def test_zsh_completes(by: str, user: Environment, home: Path, tmp_path: Path) -> None:
    if by == "line":
        installed("zsh", user, tmp_path)
        with (home / ".zshrc").open("a") as file:
            file.write("PS1='$ '\n")
    else:
        (home / ".zshrc").write_text(f"fpath=({SCRIPTS} $fpath); autoload -Uz compinit; compinit -u; PS1='$ '\n")
    with shell(program("zsh"), "-i", environment=user, folder=tmp_path) as zsh:
        zsh.wait_for("$ ")
        zsh.type("miyabi codeg\t")
        if by == "line":  # what --install-completion writes completes from the second key press on
            zsh.wait_for("\a")
            zsh.type("\t")
        zsh.wait_for("en ")
        zsh.type("--effort hi\t")
        zsh.wait_for("high ")
        zsh.type("-m gpt-oss:2\t")
        zsh.wait_for("gpt-oss:20b ")
        zsh.type("--resume 2026\t")
        zsh.wait_for(RUN)


@pytest.mark.parametrize("by", ["script", "line"])
def test_fish_completes(by: str, user: Environment, repository: Path, git: Git) -> None:
    git("branch", "feature/dates", cwd=repository)
    git("tag", "v1.0", cwd=repository)
    fish = program("fish")
    load = ""
    if by == "line":
        installed("fish", user, repository)
    else:
        load = f"source {SCRIPTS / 'miyabi.fish'}; "

    def complete(line: str) -> dict[str, str]:
        command = [fish, "-c", f"{load}complete -C '{line}'"]
        done = subprocess.run(command, cwd=repository, env=user, capture_output=True, text=True, check=True)
        pairs = (one.partition("\t") for one in done.stdout.splitlines())
        return {value: about for value, _, about in pairs}

    assert {"codegen", "init", "runs", "model", "trust"} <= complete("miyabi ").keys()
    if by == "line":
        return
    assert complete("miyabi codegen --ef").keys() == {"--effort"}
    assert complete("miyabi codegen --effort ").keys() == {"low", "medium", "high"}
    assert complete("miyabi codegen -f ").keys() == {"text", "json", "jsonl"}
    assert complete("miyabi codegen -p ollama -m ").keys() == {"gpt-oss:20b", "gpt-oss:120b"}
    assert "smollm2-135m" in complete("miyabi model pull ")
    assert complete("miyabi codegen --base ").keys() == {"HEAD", "main", "feature/dates", "v1.0"}
    assert complete("miyabi runs show ") == dict.fromkeys(("last", RUN), "stopped: mend the dates")
    assert complete("miyabi runs show nothing") == {}
    assert "calc.py" in complete("miyabi runs show --html ca")


def test_what_can_not_be_read_completes_to_nothing(user: Environment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = {**user, "MIYABI_DATA_DIR": str(tmp_path / "file" / "x"), "_MIYABI_COMPLETE": "complete_bash"}
    for line in ("miyabi runs show ", "miyabi codegen --base "):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()))}
        done = subprocess.run(
            ["miyabi"], cwd=tmp_path, env={**broken, **words}, capture_output=True, text=True, check=True
        )
        assert (done.stdout.strip(), done.stderr) == ("HEAD" if "--base" in line else "", "")


def test_the_wheel_puts_the_scripts_where_shells_look() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    data = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert {ROOT / path for path in data} == set(SCRIPTS.iterdir())
    assert set(data.values()) == {
        "share/bash-completion/completions/miyabi",
        "share/zsh/site-functions/_miyabi",
        "share/fish/vendor_completions.d/miyabi.fish",
    }
