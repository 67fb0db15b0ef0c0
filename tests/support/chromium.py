"""A real headless Chromium: what it makes of a page, and what it writes of the network meanwhile."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
# Chromium would ask its maker for this and that: no name is found but those of this machine.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def open_page(page: Path, folder: Path, *options: str) -> str:
    """Return the page's elements as they are once it is loaded; skips where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [program, *OPTIONS, OFFLINE, profile, *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    return done.stdout
