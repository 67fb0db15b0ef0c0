"""Clones the repositories of the table that a folder lacks: `python -m tests.real.clone FOLDER`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.real.projects import projects


def main(folder: Path) -> int:
    """Clone each as `owner+name`, bare; return 1 where one can't be had."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [project for project in projects() if not (folder / project.folder).exists()]
    failed = 0
    for project in missing:
        command = ["git", "clone", "--quiet", "--bare", project.url, str(folder / project.folder)]
        failed += subprocess.run(command, check=False).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
