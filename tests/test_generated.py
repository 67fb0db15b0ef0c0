"""Files that the code generates are those that it would write now, and completion completes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.generate import ROOT, generated
from tests.conftest import PYTHON


@pytest.mark.parametrize("path", sorted(generated()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_file_is_current(path: Path) -> None:
    assert path.read_text() == generated()[path], "run: make generate"


def test_bash_completes_commands_flags_and_values(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("there is no bash")
    command = tmp_path / "miyabi"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {PYTHON} -m miyabi_cli "$@"\n')
    command.chmod(0o755)

    def complete(*words: str) -> set[str]:
        script = (
            f"source {ROOT / 'completions' / 'miyabi.bash'}\n"
            f"COMP_WORDS=({' '.join(words)} '')\nCOMP_CWORD={len(words) - (0 if words[-1] == '' else 1)}\n"
            "_miyabi_completion miyabi\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {"codegen", "runs", "model", "worktrees", "trust"} <= complete("miyabi", "")
    assert complete("miyabi", "codegen", "--pro") == {"--provider"}
    assert "embedded" in complete("miyabi", "codegen", "--provider", "e")
