"""Commands that become an argv."""

from __future__ import annotations

import subprocess

import pytest

from miyabi_cli.workspace.shell import shell_argv


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (["bash", "-lc", "X"], ["bash", "-c", "X"]),
        (["/bin/bash", "-cl", "X"], ["/bin/bash", "-c", "X"]),
        (["bash", "-l", "-c", "X"], ["bash", "-c", "X"]),
        (["bash", "--login", "-c", "X", "-l"], ["bash", "-c", "X", "-l"]),
        (["bash", "-leo", "pipefail", "-c", "X"], ["bash", "-eo", "pipefail", "-c", "X"]),
        (["sh", "-lc", "X"], ["sh", "-c", "X"]),
        (["bash", "script.sh", "-l"], ["bash", "script.sh", "-l"]),
        (["bash", "--norc", "-c", "X"], ["bash", "--norc", "-c", "X"]),
        (["ls", "-lc"], ["ls", "-lc"]),
        ([], []),
    ],
)
def test_a_login_shell_becomes_a_plain_one(command: list[str], argv: list[str]) -> None:
    assert shell_argv(command, "bash") == argv


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("bash -lc 'pytest -q'", "bash -c 'pytest -q'"),
        ("cd src && /bin/bash -l -c 'make'", "cd src && /bin/bash -c 'make'"),
        ("true; sh -lc x | bash --login -c y", "true; sh -c x | bash -c y"),
        ("if true; then bash -lc x; fi", "if true; then bash -c x; fi"),
        ("echo 'bash -lc x' \"; bash -lc y\"", "echo 'bash -lc x' \"; bash -lc y\""),
        ("grep -rn bash -lc", "grep -rn bash -lc"),
        ("ls -l; bash script.sh -l", "ls -l; bash script.sh -l"),
        ("cat > run.sh <<EOF\nbash -lc x\nEOF", "cat > run.sh <<EOF\nbash -lc x\nEOF"),
        ("pytest -q", "pytest -q"),
    ],
)
def test_also_within_a_command_line_but_not_within_text(text: str, plain: str) -> None:
    assert shell_argv(text, "/bin/bash") == ["/bin/bash", "-c", plain]


def test_the_plain_form_runs_the_same() -> None:
    argv = shell_argv("""bash -lc 'echo "$1"' name 'two words'""", "bash")
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "two words\n"
