"""Writes the files that the code generates: completions, the settings reference, its schema. `make generate`.

A test holds each of them against what the code would write now.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# zsh reads the file at the first key press: without this it would complete from the second on.
AT_ONCE = {"zsh": "\n[[ ${funcstack[1]} == _miyabi ]] && _miyabi_completion\n"}
# Bash has a script of its own, `completions/miyabi.bash`.
COMPLETIONS = {"zsh": "_miyabi", "fish": "miyabi.fish"}


def generated() -> dict[Path, str]:
    """Return the text of each generated file by its path."""
    from miyabi_cli.settings.reference import settings_reference, settings_schema

    return {
        ROOT / "docs/settings.md": settings_reference(),
        ROOT / "miyabi_cli/schemas/settings.json": settings_schema(),
        **{ROOT / "completions" / name: completion(shell) for shell, name in COMPLETIONS.items()},
    }


def completion(shell: str) -> str:
    """Return the completion script for a shell, as the command line itself writes it."""
    done = subprocess.run(
        [sys.executable, "-c", "from miyabi_cli.app import command_line; command_line()(prog_name='miyabi')"],
        env={**os.environ, "_MIYABI_COMPLETE": f"source_{shell}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip("\n") + "\n" + AT_ONCE.get(shell, "")


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
