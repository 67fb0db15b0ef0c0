"""What a terminal, a pipe or a full disk does to the output: real pseudo-terminals, closed and full streams."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.server import call, chat_server, stream
from tests.test_codegen import FIX, FIXING, TASK, model

Environment = dict[str, str]
CLI = f"{PYTHON} -m miyabi_cli"


def shell(command: str, folder: Path, environment: Environment, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which `miyabi` is the real CLI."""
    line = f'miyabi() {{ {CLI} "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Terminal:
    """A process on a pseudo-terminal, and all that it has shown."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.shown = ""

    def wait_for(self, words: str) -> None:
        while words not in self.shown:
            assert self._read(), f"it ended without {words!r}: {self.shown}"

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait(30)

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def terminal(arguments: list[str], folder: Path, environment: Environment, **more: str) -> Iterator[Terminal]:
    """Run the CLI on a terminal of its own until the block ends."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PYTHON, "-m", "miyabi_cli", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_is_as_good_as_dev_null(
    repository: Path, environment: Environment, closed: str
) -> None:
    with chat_server(*FIXING) as server:
        ran = shell(f"miyabi codegen '{TASK}' {' '.join(model(server))} {closed}", repository, environment)
    assert ran.returncode == 0, ran.stderr


def test_no_task_comes_from_a_stdin_that_is_closed(repository: Path, environment: Environment) -> None:
    ran = shell("miyabi codegen - --endpoint http://127.0.0.1:9 -m m <&-", repository, environment)
    assert (ran.returncode, "the task is empty" in ran.stderr) == (2, True)


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_a_stdout_that_is_full_is_the_machine_s_fault(repository: Path, environment: Environment, form: str) -> None:
    with chat_server(*FIXING) as server:
        flags = " ".join([*model(server), "--format", form, "--quiet"])
        ran = shell(f"miyabi codegen '{TASK}' {flags} > /dev/full", repository, environment)
    assert (ran.returncode, ran.stderr) == (4, "error: No space left on device\n")


@pytest.mark.parametrize("lines", [1, 6])
def test_a_reader_that_goes_away_ends_the_run(repository: Path, environment: Environment, lines: int) -> None:
    with chat_server(*FIXING) as server:
        flags = " ".join([*model(server), "--format", "jsonl", "--quiet"])
        ran = shell(
            f"miyabi codegen '{TASK}' {flags} | head -{lines}; exit ${{PIPESTATUS[0]}}", repository, environment
        )
    assert (ran.returncode, ran.stderr) == (1, "")
    assert len([json.loads(line) for line in ran.stdout.splitlines()]) == lines


def test_letters_that_the_encoding_lacks_are_escapes(repository: Path, environment: Environment) -> None:
    with chat_server(*FIXING) as server:
        flags = " ".join([*model(server), "--verbose"])
        ran = shell(f"miyabi codegen 'Größe 雅' {flags} && miyabi runs list", repository, environment)
        assert "Größe 雅" in ran.stdout
        ascii_only = shell(
            "miyabi runs list; miyabi runs show --events", repository, environment, PYTHONIOENCODING="ascii"
        )
    assert ascii_only.returncode == 0, ascii_only.stderr
    assert "Gr\\xf6\\xdfe \\u96c5" in ascii_only.stdout


def test_a_folder_that_is_gone_is_no_bug(repository: Path, environment: Environment) -> None:
    line = f"mkdir gone; cd gone; rmdir ../gone; miyabi codegen '{TASK}' --endpoint http://127.0.0.1:9 -m m"
    ran = shell(line, repository, environment)
    assert (ran.returncode, "the current folder is not there any more" in ran.stderr) == (4, True)


@pytest.mark.parametrize(
    ("flags", "more"), [(["--color", "never"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})]
)
def test_no_escape_reaches_a_terminal_that_shall_have_none(
    repository: Path, environment: Environment, flags: list[str], more: dict[str, str]
) -> None:
    with chat_server(*FIXING) as server:
        arguments = ["codegen", TASK, *model(server), *flags]
        with terminal(arguments, repository, environment, **more) as shown:
            assert shown.end() == 0
    assert "verified: " in shown.shown
    assert "\x1b" not in shown.shown


def test_the_line_of_what_goes_on_now_takes_nothing_for_markup(repository: Path, environment: Environment) -> None:
    answer = threading.Event()

    def wait(handler: Any, _: Any) -> None:
        answer.wait(30)
        stream(handler, call("exec", {"cmd": "sleep 600; echo '[/nothing] [bold]'"}))

    with (
        chat_server(wait) as server,
        terminal(["codegen", TASK, *model(server)], repository, environment) as shown,
    ):
        shown.wait_for("waiting for the model · ")
        answer.set()
        shown.wait_for("exec sleep 600; echo '[/nothing] [bold]' · ")
        shown.process.terminate()
        assert shown.end() == 143, shown.shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_question_of_trust(
    repository: Path, environment: Environment, number: signal.Signals, code: int
) -> None:
    (repository / ".miyabi.yml").write_text("checks:\n  - {name: mine, command: 'true'}\n")
    with terminal(["codegen", TASK, "--endpoint", "http://127.0.0.1:9", "-m", "m"], repository, environment) as shown:
        shown.wait_for("[y/N]")
        shown.process.send_signal(number)
        assert shown.end() == code, shown.shown
    assert "error: interrupted" in shown.shown


def test_the_answer_to_the_question_of_trust_holds(
    repository: Path, environment: Environment, miyabi: Miyabi, git: Callable[..., str]
) -> None:
    (repository / ".miyabi.yml").write_text("checks:\n  - {name: mine, command: 'true'}\n")
    with chat_server(call("apply_patch", {"patch": FIX}), *FIXING[1:]) as server:
        arguments = ["codegen", TASK, *model(server)]
        for answer, code in (("\x04", 130), ("n\n", 2), ("\n", 2), ("perhaps\n Yes\n", 0)):
            with terminal(arguments, repository, environment) as shown:
                shown.wait_for("[y/N]")
                shown.type(answer)
                assert shown.end() == code, shown.shown
        assert miyabi("trust", "--show", cwd=repository).stdout.splitlines()[-3] == "trusted"
